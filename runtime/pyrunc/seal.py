"""Runs this program from a file that nobody can write (CVE-2019-5736): a container can make the runtime execute /proc/self/exe, or
open /proc/PID/exe of a process that is joining it, and so get hold of the *host's* interpreter.

Three ways, the first that works: an overlay of two lower directories (0.3 ms; without an upper one nobody can make its superblock
writable, while a read-only bind mount can be remounted), a sealed memfd (a copy, 7 ms for Debian's interpreter), an unnamed temporary
file (where vm.memfd_noexec forbids the second; a private copy that nobody else ever runs). Each gives the contents of the running
executable, never those of another file at the same path. Rule: whether it has happened is asked of /proc/self/exe itself, never of the
environment; the same check is made of a file before it is executed, so there is no loop. Shared libraries are not protected by this;
the compiled launcher has none. The ways and the check are csrc/sealing.c, which serves the compiled launcher too.
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
    """Returns when this process runs from a sealed file; else executes the same interpreter from one, with `argv` (the launcher first)
    and the caller's environment as it was. StepFailure when no way works: nothing that meets a container runs unsealed."""
    _need_kernel(posix.uname().release)
    last: OSError | None = None
    if getattr(sys, "pyrunc_is_sealed", False):  # the compiled launcher has made the check in this very process
        return
    try:
        if is_sealed():
            return
    except OSError as e:  # no descriptor is left, say
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
    """An older kernel lacks calls in many places (mount_setattr is of 5.12): it is named once, before anything is tried."""
    numbers = [word.partition("-")[0] for word in release.split(".")[:2]]
    if all(word.isdecimal() for word in numbers) and [int(word) for word in numbers] < KERNEL:
        words = "kernel too old: this is Linux %s, and pyrunc needs %d.%d or later" % (quote(release), KERNEL[0], KERNEL[1])
        raise Unsupported("kernel-too-old", words, None, "kernel", "boot a newer kernel")


def is_sealed() -> bool:
    """Whether nobody can write the file that this process executes. OSError if it cannot be opened."""
    fd = posix.open(SELF, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return _syscalls.is_sealed_file(fd)
    finally:
        posix.close(fd)


def sealed_file(way: int) -> int:
    """-> fd of the running executable's contents in a file that nobody can write; `way` is one of WAYS. CallError."""
    return _syscalls.sealed_file(way)


def _execute(fd: int, argv: list[str]) -> None:
    """Does not return, or raises OSError. Python adds LC_CTYPE to its own environment; the kernel has it as the caller gave it."""
    environment = [x for x in _read("/proc/self/environ").split(b"\0") if x]
    if not is_frozen(__name__):  # else this module is part of the executable, which needs no argument that says what to run
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
