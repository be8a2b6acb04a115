"""The supervisor's notify socket (sd_notify(3)) for a container: listens in its place, forwards READY, and names the main process.

Invariant: what the container sends is not trusted. Only a READY=1 line is recognised, and only fixed text is forwarded.
"""

from __future__ import annotations

import _socket
import posix
import select
from _struct import pack

from pyrunc.errors import CallError, errno_text, quote

SOCKET = "notify.sock"
BARRIER_MS = 30_000
DATAGRAM = 65536


def listen(dir_fd: int) -> int:
    """fd of a datagram socket bound to notify.sock in the directory, writable for every user in the container. Replaces an old one."""
    try:
        posix.unlink(SOCKET, dir_fd=dir_fd)
    except FileNotFoundError:
        pass  # the usual case
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        sock.bind("/proc/self/fd/%d/%s" % (dir_fd, SOCKET))  # the path may be longer than sun_path
        posix.chmod(SOCKET, 0o777, dir_fd=dir_fd)
    except OSError as e:
        sock.close()
        raise CallError.of(e, "bind") from None
    return sock.detach()


def forward(fd: int, supervisor: str, pid: int, pidfd: int) -> bool:
    """Waits until the container sends READY=1 or exits. Then sends READY=1 and MAINPID to the supervisor's socket (a path, or @name for an
    abstract one), and waits until it has read that. True if the container became ready."""
    if not _wait_ready(fd, pidfd):
        return False
    tell(supervisor, pid)
    return True


def tell(supervisor: str, pid: int, barrier: bool = True) -> None:
    """Sends READY=1 and MAINPID to the supervisor's socket. barrier: wait until it has read that, if we exit right afterwards. OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect("\0" + supervisor[1:] if supervisor[:1] == "@" else supervisor)
        sock.send(b"READY=1\n")
        sock.send(b"MAINPID=%d\n" % pid)
        if barrier:
            _barrier(sock)
    except OSError as e:
        words = "cannot notify NOTIFY_SOCKET %s that the container is ready: %s" % (quote(supervisor), errno_text(e.errno))
        raise CallError.of(e, "connect", words) from None
    finally:
        sock.close()


def is_ready(fd: int) -> bool:
    """Whether the next message says READY=1."""
    return b"READY=1" in posix.read(fd, DATAGRAM).split(b"\n")


def _wait_ready(fd: int, pidfd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        ready = [number for number, _event in poll.poll()]
        if fd in ready:
            if is_ready(fd):
                return True
        elif pidfd in ready:
            return False


def _barrier(sock: _socket.socket) -> None:
    """sd_notify_barrier(3): the supervisor closes the descriptor when it has processed all earlier messages."""
    ours, theirs = posix.pipe2(posix.O_CLOEXEC)
    try:
        try:
            sock.sendmsg([b"BARRIER=1"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("i", theirs))])
        finally:
            posix.close(theirs)
        poll = select.poll()
        poll.register(ours, 0)  # POLLHUP is always reported
        poll.poll(BARRIER_MS)
    finally:
        posix.close(ours)
