"""The functions of csrc/libseccomp.c, made with pyseccomp, for launchers without libseccomp.

Workarounds for pyseccomp: find_library() runs ldconfig and a compiler found by PATH; exist_arch() reports the opposite, so it isn't used; there
is no function for the version, so the library is called.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os

from pyrunc.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.helper.shapes import Attribute, Foreign, Row


def _load() -> Foreign:
    """The module pyseccomp, without its search for libraries by child processes."""
    search = ctypes.util.find_library
    ctypes.util.find_library = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}.get  # type: ignore[assignment]  # a function of one name, too
    try:
        import pyseccomp
    except OSError as e:
        raise Unsupported(
            "no-libseccomp", "libseccomp can't be loaded: %s" % e, "/linux/seccomp", "libseccomp", "install libseccomp2"
        ) from None
    finally:
        ctypes.util.find_library = search
    return pyseccomp


lib = _load()


def native() -> int:
    token: int = lib.system_arch()
    return token


def numbers(token: int, names: list[str]) -> list[int]:
    return [lib.resolve_syscall(token, name) for name in names]


def version() -> str:
    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]

    ask = lib._libseccomp.seccomp_version
    ask.restype = ctypes.POINTER(Version)
    found = ask().contents
    return "%d.%d.%d" % (found.major, found.minor, found.micro)


def program(default: int, arch: int, attributes: tuple[Attribute, ...], rules: tuple[Row, ...]) -> bytes:
    made = _called("seccomp_init", -1, lib.SyscallFilter, default)
    if arch != native():  # which a new filter has
        _called("seccomp_arch_add", -1, made.add_arch, arch)
        _called("seccomp_arch_remove", -1, made.remove_arch, native())
    for i, (name, value, optional) in enumerate(attributes):
        try:
            _called("seccomp_attr_set", i, made.set_attr, name, value)
        except OSError as e:
            if not optional or e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
    for i, (action, number, args) in enumerate(rules):
        _called("seccomp_rule_add", i, made.add_rule, action, number, *[lib.Arg(*arg) for arg in args])
    with os.fdopen(os.memfd_create("bpf", os.MFD_CLOEXEC), "rb") as file:  # libseccomp writes to a descriptor
        _called("seccomp_export_bpf", -1, made.export_bpf, file)
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _called(call: str, at: int, function: Callable[..., Foreign], *args: object) -> Foreign:
    try:
        return function(*args)
    except OSError as e:
        e.call, e.at = call, at  # type: ignore[attr-defined]
        raise
