"""The few system calls that the standard library lacks before Python 3.12, and waiting.

Rule: no case and no report calls into libc by itself.
"""

from __future__ import annotations

import ctypes
import os
import select
import time

CLONE_NEWNS = 0x00020000
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 32, 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, "%s: %s" % (what, os.strerror(error)))
    return result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int = 0) -> None:
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    result = _libc.mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data))
    _checked(result, "mount %s" % target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    _checked(_libc.umount2(_bytes(target), ctypes.c_int(flags)), "umount %s" % target)


def prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), 0, 0, 0), "prctl")


def subreaper() -> None:
    """Makes orphans among our descendants our children."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def ended(pidfd: int, seconds: float) -> bool:
    """Whether the process of a pidfd exits within so many seconds."""
    return readable(pidfd, seconds)


def readable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, seconds) * 1000))


def reap() -> None:
    """Reaps our children that have exited."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def children() -> list[int]:
    """The pids of our children, without waiting for any."""
    text = read("/proc/self/task/%d/children" % os.getpid())
    if text is not None:
        return [int(word) for word in text.split()]
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and status_of(name).get("PPid") == str(os.getpid())]


class Clock:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())


def read(path: str, limit: int = 1 << 20) -> str | None:
    """The text of a file, or None."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "surrogateescape")
    except OSError:
        return None


def status_of(pid: int | str) -> dict[str, str]:
    """{"State": …, "Uid": …} from /proc/PID/status, {} if there is no such process."""
    text = read("/proc/%s/status" % pid) or ""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
