"""Helpers shared by test_finish*.py and test_spawn.py: a child that runs operations of the extension, its reports and their effects.

Nothing sleeps here: all waits are for the end of a socket, a pipe, or a process.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import socket
import struct
from typing import TYPE_CHECKING

import kernel_constants
from pyrunc.linux import _syscalls, constants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from harness import Json, Option

    Ops = Sequence[tuple[Json, ...]]  # operations of finish(), as csrc/ops.c parses them


LIBC = ctypes.CDLL(None, use_errno=True)
WATCHDOG_MS = 30000
FIELDS = ("kind", "op", "detail", "errno", "extra", "call")
NUMBERS = {
    "x86_64": {
        "read": 0,
        "close": 3,
        "capget": 125,
        "capset": 126,
        "prctl": 157,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
        "write": 1,
        "uname": 63,
        "execve": 59,
        "exit_group": 231,
        "chdir": 80,
        "mkdir": 83,
        "close_range": 436,
        "getpid": 39,
        "getppid": 110,
        "getpgid": 121,
        "getsid": 124,
        "personality": 135,
        "mkdirat": 258,
    },
    "aarch64": {
        "read": 63,
        "close": 57,
        "capget": 90,
        "capset": 91,
        "prctl": 167,
        "setgroups": 159,
        "setresuid": 147,
        "setresgid": 149,
        "write": 64,
        "uname": 160,
        "execve": 221,
        "exit_group": 94,
        "chdir": 49,
        "close_range": 436,
        "getpid": 172,
        "getppid": 173,
        "getpgid": 155,
        "getsid": 156,
        "personality": 92,
        "mkdirat": 34,
    },
}[platform.machine()]
ERRNO, KILL, ALLOW, NOTIFY = 0x00050000, 0x80000000, 0x7FFF0000, 0x7FC00000
NEW_LISTENER = 8


class Record:
    def __init__(self, data: bytes) -> None:
        kind, op, self.detail, self.errno, self.extra, call = struct.unpack(_syscalls.RECORD_FORMAT, data)
        self.kind = kind.decode()
        self.op = _syscalls.OPS[op]
        self.call = call.rstrip(b"\0").decode()

    def __repr__(self) -> str:
        return "Record(%s)" % ", ".join("%s=%r" % (n, getattr(self, n)) for n in FIELDS)


def program(calls: Sequence[str], action: int, default: int = ALLOW) -> bytes:
    """A classic BPF program: `calls` get `action`, all others get `default`."""
    lines = [(0x20, 0, 0, 0)]  # the number of the call
    lines += [(0x15, len(calls) - i, 0, NUMBERS[name]) for i, name in enumerate(calls)]
    lines += [(0x06, 0, 0, default), (0x06, 0, 0, action)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def program_of_argument(call: str, argument: int, action: int) -> bytes:
    """A classic BPF program: `call` gets `action` if its first argument has this value; everything else is allowed."""
    lines = [
        (0x20, 0, 0, 0),
        (0x15, 0, 3, NUMBERS[call]),
        (0x20, 0, 0, 16),
        (0x15, 0, 1, argument),
        (0x06, 0, 0, action),
        (0x06, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def ready(fd: int, what: str = "the child") -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    assert poll.poll(WATCHDOG_MS), "%s sent nothing" % what


def drain(fd: int) -> bytes:
    """All bytes up to the end."""
    data = b""
    while True:
        ready(fd)
        piece = os.read(fd, 65536)
        if not piece:
            return data
        data += piece


class Tail:
    """A child of clone3(flags) that calls prepare() and then finish(ops). stdout and stderr are pipes."""

    def __init__(
        self,
        ops: Ops,
        flags: int = 0,
        prepare: Callable[[], object] | None = None,
        after: Callable[[int], object] | None = None,
        gate: bool = False,
    ) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.out_fd, out = os.pipe()
        self.err_fd, err = os.pipe()
        self.gate_fd = self.result_fd = -1
        inner: tuple[int, ...] = ()
        if gate:
            gate_r, self.gate_fd = os.pipe()
            self.result_fd, result_w = os.pipe()
            inner = (gate_r, result_w)
        self.pid, self.pidfd = _syscalls.clone3(flags)
        if self.pid == 0:
            self._child(ops, theirs, out, err, inner, prepare, after)
        theirs.close()
        for fd in (out, err, *inner):
            os.close(fd)

    def _child(
        self,
        ops: Ops,
        theirs: socket.socket,
        out: int,
        err: int,
        inner: tuple[int, ...],
        prepare: Callable[[], object] | None,
        after: Callable[[int], object] | None,
    ) -> NoReturn:
        try:
            for fd in (self.sock.detach(), self.gate_fd, self.result_fd, self.out_fd, self.err_fd):
                if fd >= 0:
                    os.close(fd)
            self.out_fd = self.err_fd = self.gate_fd = self.result_fd = -1
            os.dup2(out, 1)
            os.dup2(err, 2)
            if prepare:
                prepare()
            ops = tuple(op if op != ("WAIT",) else ("WAIT", inner[0]) for op in ops)
            _syscalls.finish(ops, theirs.fileno(), inner[1] if inner else -1)
            if after:
                after(inner[1] if inner else -1)
        except BaseException as e:
            os.write(2, repr(e).encode())
        finally:
            os._exit(99)

    def __del__(self) -> None:
        for fd in (self.out_fd, self.err_fd, self.gate_fd, self.result_fd):
            if fd >= 0:
                os.close(fd)

    def record(self) -> Record | None:
        """The next record on the status socket; None at its end."""
        ready(self.sock.fileno())
        data = self.sock.recv(4096)
        return Record(data) if data else None

    def result(self) -> Record | None:
        ready(self.result_fd)
        data = os.read(self.result_fd, 4096)
        return Record(data) if data else None

    def go(self) -> None:
        os.write(self.gate_fd, b"0")

    def status(self) -> int:
        """The exit status; a signal is negative."""
        ready(self.pidfd)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status)

    def output(self) -> bytes:
        return drain(self.out_fd)

    def errors(self) -> bytes:
        return drain(self.err_fd)

    def close_gate(self) -> None:
        os.close(self.gate_fd)
        self.gate_fd = -1

    def end(self) -> int:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        return self.status()


def shows(ops: Ops, what: str = "cat /proc/self/status", **kw: Option) -> str:
    """Runs the operations, then a shell script; returns its output as text."""
    tail = Tail((*ops, ("FIND", "/bin/sh", None), ("EXEC", ("sh", "-c", what), ("PATH=/usr/bin:/bin",))), **kw)
    record = tail.record()
    text = tail.output().decode()
    status = tail.status()
    assert record is None, (record, tail.errors())
    assert status == 0, (status, text, tail.errors())
    return text


def field(text: str, name: str) -> str:
    """A field of /proc/PID/status."""
    return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(name + ":"))


def fails(ops: Ops, **kw: Option) -> Record:
    """The record of the operation that fails; it must be the only output, and the exit status must be 1."""
    tail = Tail((*ops, ("EXEC", ("/bin/true",), ())), **kw)
    record = tail.record()
    assert record is not None and record.kind == "F", (record, tail.errors())
    assert tail.status() == 1
    assert tail.record() is None
    return record


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this thread, with version 3 of the header."""
    halves = [s >> shift & 0xFFFFFFFF for shift in (0, 32) for s in (effective, permitted, inheritable)]
    if LIBC.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*halves)):
        raise OSError(ctypes.get_errno(), "capset")


def exchange(one: str, other: str) -> None:
    """Exchanges two names in one step, renameat2(2)."""
    if LIBC.renameat2(constants.AT_FDCWD, os.fsencode(one), constants.AT_FDCWD, os.fsencode(other), kernel_constants.RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2", one)


def returns(ops: Ops, look: Callable[[], object], **kw: Option) -> Json:
    """Runs the operations without EXEC, then returns the result of look() in the child, which is back in Python."""
    tail = Tail(ops, after=lambda fd: os.write(1, repr(look()).encode()), **kw)
    text = tail.output()
    assert tail.status() == 99
    errors = tail.errors()
    assert not errors, errors
    return eval(text)


NEWPID = constants.CLONE_NEWPID
