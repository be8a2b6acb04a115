"""Descriptors that came from the caller: listed and taken over at the start, handed on at the end.

Rule: everything that pyrunc opens itself is close-on-exec from its first moment, so whatever is not, and is not one of the
standard three, was inherited. Callers do leak descriptors (buildah's pipes, the containerd shim's listening socket).
"""

from __future__ import annotations

import posix
from errno import EBADF
from fcntl import F_GETFD, F_SETFD, FD_CLOEXEC, fcntl

from pyrunc.errors import CallError
from pyrunc.linux import _syscalls
from pyrunc.linux.constants import CLOSE_RANGE_CLOEXEC, UINT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def _flags(fd: int) -> int:
    """Descriptor flags; -1 when it is closed."""
    try:
        return fcntl(fd, F_GETFD)
    except OSError as e:
        if e.errno == EBADF:
            return -1
        raise CallError.of(e, "fcntl") from None


def inherited() -> list[int]:
    """[3, 4, …]: what the caller left open for us, in order; those have been made close-on-exec now. So: once, and at the start.

    The descriptors that this listing needs itself are close-on-exec and thus left out; so is all that was opened before.
    """
    found = []
    for name in posix.listdir("/proc/self/fd"):
        fd = int(name)
        flags = _flags(fd) if fd > 2 else -1
        if flags >= 0 and not flags & FD_CLOEXEC:
            found.append(fd)
    mark_all()
    return sorted(found)


def mark_all(first: int = 3) -> None:
    """Everything from `first` on is closed by execve."""
    _syscalls.close_range(first, UINT_MAX, CLOSE_RANGE_CLOEXEC)


def hand_on(fds: Iterable[int]) -> None:
    """Takes close-on-exec off again. OSError EBADF names a descriptor that is not there."""
    for fd in fds:
        try:
            fcntl(fd, F_SETFD, 0)
        except OSError as e:
            raise CallError.of(e, "fcntl", path="descriptor %d" % fd) from None
