"""A test bed for parts: forked children that carry out steps and report, and an init that is created as the engine does it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import traceback
from typing import TYPE_CHECKING

from fakes.hand import Ctx, Run
from pyrunc.linux import _syscalls, ns
from pyrunc.linux import constants as c
from pyrunc.parts import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness import Json, Option


KINDS = ("user", "ipc", "uts", "network", "pid", "cgroup", "time", "mount")


NOBODY = 65534


def inode(kind: str, pid: int | str = "self") -> int:
    return os.stat("/proc/%s/ns/%s" % (pid, ns.FILES[kind])).st_ino


def inodes(pid: int | str = "self") -> dict[str, int]:
    return {kind: inode(kind, pid) for kind in KINDS}


class Child:
    """A child with a socket to it. There is no `call(function)`: its steps are fixed before it is created."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock

    def go(self) -> Json:
        """Makes it carry out its next step and returns the result. An exception in the child is raised here."""
        self.sock.send(b"g")
        return self.result()

    def result(self) -> Json:
        data = self.sock.recv(1 << 20)
        assert data, "process %d ended without an answer: %s" % (self.pid, self.reap())
        answer = json.loads(data)
        assert "failed" not in answer, answer["failed"]
        return answer["ok"]

    def reap(self) -> int | None:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return None

    def end(self) -> int | None:
        self.sock.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.reap()


def act(sock: socket.socket, steps: Iterable[Callable[[], object]]) -> None:
    """In the child: carries out the steps, one for each message; never returns."""
    try:
        for step in steps:
            if not sock.recv(1):
                os._exit(0)
            try:
                answer = {"ok": step()}
            except BaseException:
                answer = {"failed": traceback.format_exc()}
            sock.send(json.dumps(answer).encode())
        sock.recv(1)
    finally:
        os._exit(0)


def child(*steps: Callable[[], object]) -> Child:
    """A forked process that carries out the steps."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        act(theirs, steps)
    theirs.close()
    return Child(pid, ours)


def apart(function: Callable[[], object]) -> Json:
    """The result of a function called in a separate process, which has exited when this returns."""
    one = child(function)
    try:
        return one.go()
    finally:
        one.end()


def as_nobody(function: Callable[[], object]) -> Json:
    """The same in a dumpable process of an ordinary user."""

    def act() -> object:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _syscalls.prctl(c.PR_SET_DUMPABLE, 1, 0, 0, 0)
        return function()

    return apart(act)


def plan(items: Json, linux: Json = None, euid: int = 0, ctx: Json = None) -> Json:
    """A plan entry of the namespaces part; items are names (new namespaces) or (name, path)."""
    listed = [{"type": item} if isinstance(item, str) else {"type": item[0], "path": item[1]} for item in items]
    ctx = ctx or Ctx(config={"linux": linux or {}})
    ctx.euid = euid
    return namespaces.plan({"/linux/namespaces": listed}, ctx)


def prepared(entry: Json, **more: Option) -> Json:
    """A run after namespaces.host_open."""
    run = Run(plans={"namespaces": entry}, clone_flags=0, cgroup_fd=-1, **more)
    namespaces.host_open(entry, run)
    return run


def init(run: Json, *steps: Callable[[Json], object]) -> Child:
    """Calls clone_init; the child carries out the steps, each with `run`. Sets run.pid and run.pidfd, as the engine does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid, run.pidfd = namespaces.clone(run.plans["namespaces"], run)
    if pid == 0:
        ours.close()
        act(theirs, [functools.partial(step, run) for step in steps])
    theirs.close()
    run.pid = pid
    return Child(pid, ours)


def holder(flags: int, *steps: Callable[[], object]) -> Child:
    """A process in new namespaces that keeps them until it is killed."""

    def enter() -> None:
        _syscalls.unshare(flags)
        return None

    made = child(enter, *steps)
    made.go()
    return made
