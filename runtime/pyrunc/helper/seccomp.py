"""Compiles a seccomp profile with libseccomp through pyseccomp. Runs in the helper process and nowhere else.

In: {"default": action, "arches": [names], "rules": [{"names", "action", "args", "at"}], "enosys": bool, "needs": [names], "strict": bool},
all numbers as the kernel has them (linux/filters.py). Out: {"bpf": hex, "unknown": [names], "version": "2.6.0"}. Raises Refusal for
what is wrong with the profile, Unsupported for what libseccomp or the kernel lacks.

What pyseccomp lacks is worked round here: find_library() runs ldconfig and a compiler found by PATH; exist_arch() reports the
opposite (so it isn't asked); four architectures have no constant (the tokens are ours); a rule by name looks the name up for the
native architecture only (numbers are resolved here); the version has no function (asked of the library itself). And what libseccomp
lacks: it refuses errno 4095, which the kernel takes, so another number stands in for it until the program is made.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
from typing import Any

from pyrunc.errors import Refusal, Unsupported
from pyrunc.linux import filters

MANY_RULES = 32  # from here on a binary tree is faster than a list (SCMP_FLTATR_CTL_OPTIMIZE 2, libseccomp 2.5)
OPTIMIZE_TREE = 2
LAST_ERRNO = filters.ERRNO | filters.MAX_ERRNO


def run(payload: dict[str, Any]) -> dict[str, Any]:
    return compile_profile(stand_in(payload), library())


def stand_in(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile with `swap` in it: the action that stands for ERRNO 4095, one that nothing else uses."""
    used = {profile["default"], *[rule["action"] for rule in profile["rules"]]}
    swap = next(a for a in range(LAST_ERRNO - 1, filters.ERRNO, -1) if a not in used)
    rules = [{**rule, "action": swap} if rule["action"] == LAST_ERRNO else rule for rule in profile["rules"]]
    return {**profile, "default": swap if profile["default"] == LAST_ERRNO else profile["default"], "rules": rules, "swap": swap}


def swapped_back(program: bytes, swap: int) -> bytes:
    code = filters.unpack(program)
    return filters.pack((op, jt, jf, LAST_ERRNO if op == filters.RET and k == swap else k) for op, jt, jf, k in code)


def library() -> Any:
    """The module pyseccomp, without its search for libraries by child processes."""
    search = ctypes.util.find_library
    ctypes.util.find_library = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}.get  # type: ignore[assignment]  # a function of one name, too
    try:
        import pyseccomp
    except OSError as e:
        raise Unsupported(
            "libseccomp-can-t", "libseccomp can't be loaded: %s" % e, "/linux/seccomp", "libseccomp", "install libseccomp2"
        ) from None
    finally:
        ctypes.util.find_library = search
    return pyseccomp


def version(lib: Any) -> str:
    """'2.6.0'."""

    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]

    ask = lib._libseccomp.seccomp_version
    ask.restype = ctypes.POINTER(Version)
    found = ask().contents
    return "%d.%d.%d" % (found.major, found.minor, found.micro)


def compile_profile(profile: dict[str, Any], lib: Any) -> dict[str, Any]:
    rules = [rule for rule in profile["rules"] if rule["action"] != profile["default"]]  # libseccomp refuses those with EACCES
    names = {name for rule in profile["rules"] for name in rule["names"]}
    numbers = {name: lib.resolve_syscall(lib.Arch.NATIVE, name) for name in names}
    unknown = sorted(name for name, number in numbers.items() if number == -1)
    check_names(profile, rules, set(unknown))
    made = lib.SyscallFilter(profile["default"])
    made.set_attr(lib.Attr.CTL_NNP, 0)
    tokens = add_arches(lib, made, profile["arches"])
    if sum(len(rule["names"]) for rule in rules) > MANY_RULES:
        try:
            made.set_attr(lib.Attr.CTL_OPTIMIZE, OPTIMIZE_TREE)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # libseccomp < 2.5: a list then, slower and as right
                raise
    for rule in rules:
        for name in rule["names"]:
            if numbers[name] != -1:
                add_rule(lib, made, rule, name, numbers[name])
    program = swapped_back(export(made), profile["swap"])
    if profile["enosys"]:
        program = filters.pack(filters.enosys_prologue(highest(lib, tokens, names - set(unknown)))) + program
    if len(program) > filters.MAX_INSNS * filters.INSN.size:
        count = len(program) // filters.INSN.size
        words = "the seccomp profile compiles to %d instructions, and the kernel takes %d" % (count, filters.MAX_INSNS)
        raise Refusal("seccomp-profile-compiles", words, "/linux/seccomp/syscalls")
    check_needs(lib, profile, program)
    return {"bpf": program.hex(), "unknown": unknown, "version": version(lib)}


def check_names(profile: dict[str, Any], rules: list[dict[str, Any]], unknown: set[str]) -> None:
    """Names that libseccomp has never heard of are skipped: profiles list calls of every kernel. But a list that permits, and of which
    nothing is left, permits nothing; and with `strict` (annotation run.oci.seccomp_fail_unknown_syscall) each must be known."""
    for rule in profile["rules"]:
        for name in rule["names"]:
            if profile["strict"] and name in unknown:
                raise Refusal("system-call-known", 'the system call "%s" is not known' % name, rule["at"] + "/names")
    allowing = [rule for rule in rules if rule["action"] in (filters.ALLOW, filters.LOG)]
    denying = profile["default"] not in (filters.ALLOW, filters.LOG)
    if denying and allowing and all(name in unknown for rule in allowing for name in rule["names"]):
        raise Refusal("system-call-seccomp", "no system call that the seccomp profile allows is known", allowing[0]["at"] + "/names")


def add_arches(lib: Any, made: Any, names: list[str]) -> list[int]:
    """Adds all but the native one, which is there. Returns every token of the filter."""
    tokens = [lib.system_arch()]
    for i, name in enumerate(names):
        token = filters.ARCHES[name]
        if token in tokens:
            continue
        try:
            made.add_arch(token)
        except OSError as e:
            if e.errno == errno.EEXIST:
                continue
            pointer = "/linux/seccomp/architectures/%d" % i
            if e.errno == errno.EDOM:  # libseccomp keeps one byte order a filter
                words = "%s has another byte order than this machine: no filter can hold both" % name
                raise Refusal("has-another-byte", words, pointer) from None
            raise Unsupported("known-libseccomp", "%s is not known to libseccomp" % name, pointer, "libseccomp") from None
        tokens.append(token)
    return tokens


def add_rule(lib: Any, made: Any, rule: dict[str, Any], name: str, number: int) -> None:
    """One call of one rule. A number below -1 is libseccomp's own, for a call that this architecture has not: others may."""
    try:
        made.add_rule(rule["action"], number, *[lib.Arg(*arg) for arg in rule["args"]])
    except OSError as e:
        if e.errno == errno.EOPNOTSUPP:
            words = 'system call "%s": this kernel or libseccomp does not know %s' % (name, filters.action_name(rule["action"]))
            raise Unsupported("system-call-libseccomp", words, rule["at"], "kernel or libseccomp") from None
        if e.errno == errno.EEXIST:
            words = 'system call "%s": another rule has the same arguments and another action' % name
        else:
            words = 'system call "%s": libseccomp refuses the rule: %s' % (name, errno.errorcode.get(e.errno or 0, e.errno))
        raise Refusal("system-call-libseccomp", words, rule["at"]) from None


def export(made: Any) -> bytes:
    """The program as bytes; a memory file as libseccomp writes to a descriptor."""
    with os.fdopen(os.memfd_create("bpf", os.MFD_CLOEXEC), "rb") as file:
        made.export_bpf(file)
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def highest(lib: Any, tokens: list[int], names: set[str]) -> dict[int, int]:
    """{arch token: highest number that the profile names there}; an architecture of which it names nothing is left out."""
    found = {}
    for token in tokens:
        numbers = [lib.resolve_syscall(token, name) for name in names]
        if token == filters.ARCHES["SCMP_ARCH_ARM"]:
            numbers = [n for n in numbers if n < filters.ARM_PRIVATE]
        if numbers and max(numbers) >= 0:
            found[token] = max(numbers)
    return found


def check_needs(lib: Any, profile: dict[str, Any], program: bytes) -> None:
    """Refuses a filter that stops what stands between its loading and the program's first instruction: no container could start."""
    arch = lib.system_arch()
    for name in profile["needs"]:
        verdict = filters.verdict(program, arch, lib.resolve_syscall(arch, name))
        if verdict & 0xFFFF0000 in (filters.KILL_PROCESS, filters.KILL_THREAD, filters.TRAP, filters.ERRNO):
            words = "the seccomp profile answers %s with %s, which is needed before the program runs" % (name, filters.action_name(verdict))
            raise Refusal("seccomp-profile-answers", words, "/linux/seccomp")
