"""Descriptors inherited from the caller: listed and made close-on-exec at the start, passed on at the end.

Rule: everything that pyrunc opens itself is close-on-exec from the start, so any other descriptor, except the standard streams, was
inherited. Callers do leak descriptors (buildah's pipes, the containerd shim's listening socket).
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
    """Descriptor flags, or -1 if it is closed."""
    try:
        return fcntl(fd, F_GETFD)
    except OSError as e:
        if e.errno == EBADF:
            return -1
        raise CallError.of(e, "fcntl") from None


def inherited() -> list[int]:
    """[3, 4, …]: the inherited descriptors, in order; they are now close-on-exec. Call this once, at the start.

    Descriptors that the listing itself uses are close-on-exec and therefore not included; neither is anything opened before.
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
    """Makes all descriptors from `first` on close-on-exec."""
    _syscalls.close_range(first, UINT_MAX, CLOSE_RANGE_CLOEXEC)


def hand_on(fds: Iterable[int]) -> None:
    """Clears close-on-exec. The OSError EBADF names a descriptor that is not open."""
    for fd in fds:
        try:
            fcntl(fd, F_SETFD, 0)
        except OSError as e:
            raise CallError.of(e, "fcntl", path="descriptor %d" % fd) from None
