"""Children of ours by their pidfd: how one has ended, and taking its status (waitid(2))."""

from __future__ import annotations

import posix

from pyrunc import log
from pyrunc.errors import Bug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from posix import waitid_result


def ended(fd: int) -> waitid_result:
    """Waits until the child has ended and says how; its status stays to be taken. ChildProcessError when our caller ignores SIGCHLD."""
    info = posix.waitid(posix.P_PIDFD, fd, posix.WEXITED | posix.WNOWAIT)
    if info is None:
        raise Bug("waitid(2) did not wait")
    return info


def reap(fd: int) -> waitid_result | None:
    """Waits until the child has ended and takes its status. None when somebody else has taken it: the kernel, where our caller ignores
    SIGCHLD."""
    try:
        return posix.waitid(posix.P_PIDFD, fd, posix.WEXITED)
    except ChildProcessError:
        log.debug("the status of a child was taken by somebody else")
        return None


def cause(info: waitid_result) -> str:
    """In words: it exited with status 1, it was killed by signal 9."""
    if info.si_code == posix.CLD_EXITED:
        return "it exited with status %d" % info.si_status
    return "it was killed by signal %d" % info.si_status
