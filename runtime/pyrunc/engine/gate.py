"""The gate between create and start: two fifos in the container's state directory.

The host side opens both O_RDWR before the clone, so init inherits them and never opens anything by path, and neither end can be missing.
Init blocks in read() on the gate, whose file is named `exec.fifo` as in runc and crun, because scripts look for that name among the descriptors
of a waiting init; `start` writes one byte. Init keeps `result` open until execve closes it: `start` sees end of file
(executed) or a record (failed). So the kernel itself knows whether a container is still waiting: opening the gate for writing succeeds if
there is a reader (created) or fails with ENXIO (started), whatever happened to the processes that tried.
"""

from __future__ import annotations

import posix
from errno import ELOOP, ENODEV, ENOENT, ENXIO

from pyrunc.linux import _syscalls
from pyrunc.linux.constants import S_IFIFO, S_IFMT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.state_dir import StateDir

GATE, RESULT = "exec.fifo", "result"
BEFORE = "gate"  # its name in containers that an older release has created; their state has two numbers
NAMED = 1  # the third number: the gate has its present name


def make(state_dir: StateDir) -> list[int]:
    """(gate_fd, result_fd), both O_RDWR and close-on-exec. Records the inodes: a different fifo in their place is not accepted."""
    fds = []
    inodes = []
    for name in (GATE, RESULT):
        posix.mkfifo(name, 0o600, dir_fd=state_dir.fd)
        fd = posix.open(name, posix.O_RDWR | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=state_dir.fd)
        fds.append(fd)
        inodes.append(_syscalls.fstat(fd).st_ino)
    state_dir.state["gate"] = [*inodes, NAMED]
    return fds


def _open(state_dir: StateDir, name: str, flags: int, inode: int) -> int:
    """fd of one of the fifos, after checking that it is the one that was created; -1 if there is none, or no init waits."""
    try:
        fd = posix.open(name, flags | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=state_dir.fd)
    except OSError as e:
        if e.errno in (ENXIO, ENOENT, ELOOP, ENODEV):  # the last two: it was replaced by a link, a device or a socket
            return -1
        raise
    info = _syscalls.fstat(fd)
    if info.st_ino != inode or info.st_mode & S_IFMT != S_IFIFO:
        posix.close(fd)
        return -1
    return fd


def _name(state_dir: StateDir) -> str:
    """The gate's name, which depends on the release that created it."""
    return BEFORE if len(state_dir.state.get("gate") or ()) == 2 else GATE


def is_waiting(state_dir: StateDir) -> bool:
    """True while init waits for start."""
    inodes = state_dir.state.get("gate")
    if not inodes:
        return False
    fd = _open(state_dir, _name(state_dir), posix.O_WRONLY, inodes[0])
    if fd < 0:
        return False
    posix.close(fd)
    return True


def open_both(state_dir: StateDir) -> tuple[int, int] | None:
    """(gate write end, result read end), or None if no init waits."""
    inodes = state_dir.state.get("gate")
    if not inodes:
        return None
    result = _open(state_dir, RESULT, posix.O_RDONLY, inodes[1])
    if result < 0:
        return None
    gate = _open(state_dir, _name(state_dir), posix.O_WRONLY, inodes[0])
    if gate < 0:
        posix.close(result)
        return None
    return gate, result


def remove(state_dir: StateDir) -> None:
    for name in (_name(state_dir), RESULT):
        try:
            posix.unlink(name, dir_fd=state_dir.fd)
        except OSError as e:
            if e.errno != ENOENT:
                raise
