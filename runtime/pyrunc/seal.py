"""Runs this program from a file that no process can write to (CVE-2019-5736): a container can make the runtime execute /proc/self/exe, or open
/proc/PID/exe of a process that is joining it, and so get access to the *host's* interpreter.

It uses the first of three methods that works: an overlay of two lower directories (0.3 ms; without an upper directory its superblock can't
be made writable, while a read-only bind mount can be remounted), a sealed memfd (a copy, 7 ms for Debian's interpreter), or an unnamed
temporary file (if vm.memfd_noexec forbids memfds; a private copy that no other process runs). Each has the contents of the running
executable, never those of another file at the same path. Invariant: /proc/self/exe itself shows whether the program is already sealed,
never the environment; a file is checked the same way before it is executed, so there is no loop. Shared libraries are not protected by
this; the compiled launcher has none. The methods and the check are in csrc/sealing.c, which the compiled launcher also uses.
"""

from __future__ import annotations

import posix
import sys
from _imp import is_frozen
from errno import EMFILE, ENOENT

from pyrunc.errors import NO_DESCRIPTORS, CallError, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import AT_EMPTY_PATH

KERNEL = [5, 12]
SELF = "/proc/self/exe"
OVERLAY, MEMFD, UNNAMED = WAYS = (0, 1, 2)  # enum sealing_way of csrc/sealing.h
CHUNK = 1 << 20


def ensure(argv: list[str]) -> None:
    """Returns if this process runs from a sealed file; otherwise executes the same interpreter from one, with `argv` (the launcher first)
    and the caller's unchanged environment. StepFailure if no method works: nothing that interacts with a container runs unsealed."""
    _need_kernel(posix.uname().release)
    last: OSError | None = None
    if getattr(sys, "pyrunc_is_sealed", False):  # the compiled launcher has already made the check in this process
        return
    try:
        if is_sealed():
            return
    except OSError as e:  # for example, no descriptor is left
        last = e
    for way in WAYS:
        try:
            fd = sealed_file(way)
            if _syscalls.is_sealed_file(fd):
                _execute(fd, argv)
            posix.close(fd)
        except OSError as e:
            last = e
    number = last.errno if last is not None else None
    hint = "an overlay needs privileges, a memfd vm.memfd_noexec below 2"
    hint = {ENOENT: "is proc mounted on /proc?", EMFILE: NO_DESCRIPTORS}.get(number or 0, hint)
    raise StepFailure(
        "not-sealed", "cannot run from a sealed copy of %s: %s" % (sys.executable, errno_text(number) if number else "no way works"),
        "seal.ensure", "host", None, CallError.of(last).call if last is not None else None, number, sys.executable,
        hint,
    )  # fmt: skip


def _need_kernel(release: str) -> None:
    """Older kernels lack calls in many places (mount_setattr is from 5.12), so this is reported once, before anything is tried."""
    numbers = [word.partition("-")[0] for word in release.split(".")[:2]]
    if all(word.isdecimal() for word in numbers) and [int(word) for word in numbers] < KERNEL:
        words = "kernel too old: this is Linux %s, and pyrunc needs %d.%d or later" % (quote(release), KERNEL[0], KERNEL[1])
        raise Unsupported("kernel-too-old", words, None, "kernel", "boot a newer kernel")


def is_sealed() -> bool:
    """Whether no process can write to the file that this process executes. OSError if it can't be opened."""
    fd = posix.open(SELF, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return _syscalls.is_sealed_file(fd)
    finally:
        posix.close(fd)


def sealed_file(way: int) -> int:
    """-> fd of a file with the contents of the running executable that no process can write to; `way` is one of WAYS. CallError."""
    return _syscalls.sealed_file(way)


def _execute(fd: int, argv: list[str]) -> None:
    """Does not return, or raises OSError. Python adds LC_CTYPE to os.environ; the kernel has the caller's environment."""
    environment = [x for x in _read("/proc/self/environ").split(b"\0") if x]
    if not is_frozen(__name__):  # otherwise this module is part of the executable, which needs no argument that says what to run
        argv = [sys.executable, "-I", "-S", *argv]
    _syscalls.execveat(fd, "", argv, environment, AT_EMPTY_PATH)


def _read(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while parts[-1:] != [b""]:
            parts.append(posix.read(fd, CHUNK))
        return b"".join(parts)
    finally:
        posix.close(fd)
