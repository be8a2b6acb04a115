"""All messages between the host side and init:

    host                                   init
      | -- PLACED ---------------------------> | init may begin
      | <------------------------ ASK part ... |   a descriptor that init may not open itself (any number of times)
      | -- ANSWER (fds) ---------------------> |
      | <------------------------------- HOOKS |   mounts are there; host runs prestart, createRuntime
      | -- HOOKS_DONE -----------------------> |
      | <------------------------------ STAMPS |   only where a trace is written; also before HOOKS and FAILED
      | <-------------------------------- SYNC |   (from C) limits may be set now
      | -- one byte -------------------------> |
      | <-------------------------- CLONED --- |   (from C) where init is outside of a joined pid namespace: the pid of its child, which
      | -- one byte -------------------------> |   continues in its place
      | <------------------- LISTENER fd ----- |   (from C) a filter that notifies is loaded
      | -- one byte -------------------------> |
      | <------------------------------- READY |   (from C) privileges dropped, waiting for start
      | <---------------- FAILED | RECORD ---- |   at any time instead: init's Python, or C, gives up

exec has no init. The process that joins sends SYNC and, about its child, CLONED (from C, with a pid); the child sends LISTENER; each may
fail with a RECORD. execve closes the socket.

Processes of a container may control that child (ptrace(2)), and so the messages after CLONED. Of these, only the kinds in OF_A_CHILD are
accepted, each once: the child can neither name another process nor keep us busy.

One SOCK_SEQPACKET pair, so a message is a packet: its first byte is the kind, the rest JSON, or the fixed record of C.
Every receive names what it expects; anything else is a Bug. An empty packet means that the other side has closed its end.
"""

from __future__ import annotations

import _socket
import errno
import posix
import select
import time
from _struct import pack, unpack

from pyrunc import jsonio
from pyrunc.errors import Bug
from pyrunc.linux import jsonbytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyrunc.engine.shapes import Data
    from pyrunc.engine.signals import Cancel

END = b""
NOTE = b"n"  # on the fifo `result`: length (2 bytes) and JSON, the result of a startContainer hook
PLACED, HOOKS_DONE, ANSWER = b"p", b"d", b"a"
ASK, HOOKS, STAMPS, FAILED = b"q", b"h", b"t", b"e"
C_FAIL, C_READY, C_LISTENER, C_SYNC, C_CLONED = b"F", b"R", b"L", b"S", b"P"
OF_A_CHILD = (C_FAIL, C_READY, C_LISTENER, END)
RECORD = "=cBHii16s"  # kind, op, detail, errno, extra, call: as written by finish() of the extension
RECORD_SIZE = 28
SIZE = 1 << 20
LONGEST = 96 << 10  # bytes of a message, an error with all its texts; a larger buffer would be mapped and unmapped for each one
SCM_RIGHTS = 1
MSG_CMSG_CLOEXEC = 0x40000000
MAX_FDS = 16
CLOSED = (BrokenPipeError, ConnectionResetError)  # errors of sending when the other end is closed


class Late(Exception):
    """The other side has not sent a message in time."""


class Link:
    """One end of the socket pair."""

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, kind: bytes, data: Data = None, fds: Sequence[int] = ()) -> None:
        body = kind if data is None else kind + jsonbytes.dumps(data)
        extra = [(_socket.SOL_SOCKET, SCM_RIGHTS, pack("%di" % len(fds), *fds))] if fds else []
        self.sock.sendmsg([body], extra)

    def go_on(self) -> None:
        """Answers SYNC, LISTENER and CLONED: C waits for one byte. Raises one of CLOSED if the process has exited meanwhile."""
        self.sock.send(b"c")

    def receive(self) -> tuple[bytes, Data, list[int]]:
        """(kind, data | bytes, fds); kind is b"" if the other side has closed its end."""
        try:
            body, extra, flags, _from = self.sock.recvmsg(LONGEST, _socket.CMSG_SPACE(4 * MAX_FDS), MSG_CMSG_CLOEXEC)
        except OSError as e:
            if e.errno != errno.ECONNRESET:  # it exited without reading what was sent to it
                raise
            return END, None, []
        if flags & _socket.MSG_TRUNC:
            raise Bug("handshake: a message of more than %d bytes" % LONGEST)
        fds: list[int] = []
        for level, kind, raw in extra:
            if level == _socket.SOL_SOCKET and kind == SCM_RIGHTS:
                fds += unpack("%di" % (len(raw) // 4), raw)
        head = body[:1]
        if head in (C_FAIL, C_READY, C_LISTENER, C_SYNC, C_CLONED):
            if len(body) != RECORD_SIZE:
                raise Bug("handshake: a record of %d bytes" % len(body))
            return head, unpack(RECORD, body), fds
        return head, jsonio.loads(body[1:], ours=True) if len(body) > 1 else None, fds

    def expect(self, kind: bytes) -> tuple[Data, list[int]]:
        """Init side: waits for exactly this message. If the host has closed its end, it has died, and there is nothing left to do."""
        got, data, fds = self.receive()
        if got == b"":
            raise EOFError
        if got != kind:
            raise Bug("handshake: got %r where %r was due" % (got, kind))
        return data, fds

    def ask(self, part: str, request: Data) -> tuple[Data, list[int]]:
        self.send(ASK, {"part": part, "request": request})
        return self.expect(ANSWER)

    def close(self) -> None:
        self.sock.close()

    def hang_up(self) -> None:
        """Signals end of file to all processes that hold the other end."""
        try:
            self.sock.shutdown(_socket.SHUT_RDWR)
        except OSError as e:
            if e.errno != errno.ENOTCONN:  # the other end is closed everywhere
                raise


def serve(link: Link, cancel: Cancel, handlers: Mapping[bytes, Callable[[Data], bool | int | None]], watched: int = -1) -> None:
    """Host side: calls handlers[kind](data) for each message until one returns True. If one returns a number, everything that follows must
    happen within that many milliseconds, else Late. Interrupted if a signal asks us to stop. watched: the pidfd of a process whose exit means that
    the other side has exited, until it reports that a child replaces it (C_CLONED); that child keeps the socket open, and is not trusted."""
    end: float | None = None
    from_child = False
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN | select.POLLHUP)
    poll.register(cancel.wake_fd, select.POLLIN)
    if watched >= 0:
        poll.register(watched, select.POLLIN)
    while True:
        left_ms = None if end is None else max(0, int((end - time.monotonic()) * 1000))
        ready = [fd for fd, _event in poll.poll(left_ms)]
        if not ready:
            raise Late
        if ready == [watched]:
            ready = [fd for fd, _event in poll.poll(0)]  # its last message may have arrived meanwhile
            if ready == [watched]:
                handlers[END](None)
        if link.fileno() not in ready:  # a message takes precedence over a signal: the program may already be running
            cancel.check()
            cancel.drain()
            continue
        kind, data, fds = link.receive()
        for fd in fds:  # none are expected here
            posix.close(fd)
        handler = handlers.get(kind)
        if handler is None:
            raise Bug("handshake: the other side sent %r" % kind)
        if kind == C_CLONED:
            handlers = {kind: handlers[kind] for kind in OF_A_CHILD if kind in handlers}
            from_child = True
            if watched >= 0:
                poll.unregister(watched)
                watched = -1
        elif from_child:
            handlers = {other: handlers[other] for other in handlers if other != kind}
        done = handler(data)
        if done is True:
            return
        if done:
            end = time.monotonic() + done / 1000


def pair() -> tuple[Link, Link]:
    """(host's Link, init's Link), both close-on-exec."""
    one, two = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    for sock in (one, two):
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SIZE)
    return Link(one), Link(two)
