"""Our children by pidfd: their exit status, and reaping them (waitid(2))."""

from __future__ import annotations

import posix
from _signal import SIGKILL

from pyrunc import fileio, log
from pyrunc.errors import Bug
from pyrunc.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from posix import waitid_result

FOREVER = -1
END_MS = 5_000  # from SIGKILL to death
WALL = 0x40000000  # __WALL of waitid(2): also those that were cloned without SIGCHLD


def wait(fd: int) -> waitid_result:
    """Waits until the child has exited and returns its status, without reaping it. ChildProcessError if our caller ignores SIGCHLD."""
    info = posix.waitid(posix.P_PIDFD, fd, posix.WEXITED | posix.WNOWAIT)
    if info is None:
        raise Bug("waitid(2) did not wait")
    return info


def reap(fd: int) -> waitid_result | None:
    """Waits until the child has exited and reaps it. None if there is no status: the kernel has discarded it because our caller ignores
    SIGCHLD, or a process that traces the child keeps it and does not wait for it (ptrace(2))."""
    pidfd.wait(fd, FOREVER)
    try:
        info = posix.waitid(posix.P_PIDFD, fd, posix.WEXITED | posix.WNOHANG)
    except ChildProcessError:
        info = None
    if info is None:
        log.debug("a child can't be reaped")
    return info


def kill(fd: int) -> bool:
    """Kills and reaps the child. False if it does not die now: in a frozen cgroup of version 1 it dies only when thawed."""
    pidfd.kill(fd, SIGKILL)
    if not pidfd.wait(fd, END_MS):
        log.warn("process %d is frozen, and dies when it is thawed" % pidfd.pid_of(fd))
        return False
    reap(fd)
    return True


def children() -> list[int]:
    """Pids of the children of this process's only thread (proc_tid_children(5)). A single system call if there are none."""
    try:
        posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT | WALL)
    except ChildProcessError:
        return []
    return [int(word) for word in fileio.read_file("/proc/thread-self/children", 1 << 20).split()]


def end(pid: int) -> None:
    """kill() for a child that is known by its pid."""
    fd = pidfd.open_any(pid)
    if fd >= 0:  # else the kernel has reaped it: our caller ignores SIGCHLD
        try:
            kill(fd)
        finally:
            posix.close(fd)


def cause(info: waitid_result) -> str:
    """The status as text: it exited with status 1, it was killed by signal 9."""
    if info.si_code == posix.CLD_EXITED:
        return "it exited with status %d" % info.si_status
    return "it was killed by signal %d" % info.si_status
