"""A stage for parts: forked children that do one thing and report, and an init made the way the engine makes it."""

import contextlib
import json
import os
import signal
import socket
import traceback

from fakes.hand import Ctx, Run
from pyrunc.linux import _syscalls, ns
from pyrunc.parts import namespaces

KINDS = ("user", "ipc", "uts", "network", "pid", "cgroup", "time", "mount")


def inode(kind, pid="self"):
    return os.stat("/proc/%s/ns/%s" % (pid, ns.FILES[kind])).st_ino


def inodes(pid="self"):
    return {kind: inode(kind, pid) for kind in KINDS}


class Child:
    """A process of ours with a socket to it. `call(function)` is not offered: what it does was decided before it was made."""

    def __init__(self, pid, sock):
        self.pid = pid
        self.sock = sock

    def go(self):
        """Lets it go on to its next step and returns what that reports. An exception there is one here."""
        self.sock.send(b"g")
        return self.result()

    def result(self):
        data = self.sock.recv(1 << 20)
        assert data, "process %d ended without a word: %s" % (self.pid, self.reap())
        answer = json.loads(data)
        assert "failed" not in answer, answer["failed"]
        return answer["ok"]

    def reap(self):
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return None

    def end(self):
        self.sock.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.reap()


def act(sock, steps):
    """In the child: carries out the steps, one a message; never returns."""
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


def child(*steps):
    """A forked process that carries the steps out."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        act(theirs, steps)
    theirs.close()
    return Child(pid, ours)


def apart(function):
    """The result of a function in a process of its own, which has ended when this returns."""
    one = child(function)
    try:
        return one.go()
    finally:
        one.end()


def plan(items, linux=None, euid=0, ctx=None):
    """An entry of the part namespaces; items are names (new) or (name, path)."""
    listed = [{"type": item} if isinstance(item, str) else {"type": item[0], "path": item[1]} for item in items]
    ctx = ctx or Ctx(config={"linux": linux or {}})
    ctx.euid = euid
    return namespaces.plan({"/linux/namespaces": listed}, ctx)


def prepared(entry, **more):
    """A run after namespaces.host_open."""
    run = Run(plans={"namespaces": entry}, clone_flags=0, cgroup_fd=-1, **more)
    namespaces.host_open(entry, run)
    return run


def init(run, *steps):
    """clone_init; the child carries the steps out, each with `run`. run.pid, run.pidfd are set, as the engine does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid, run.pidfd = ns.clone_init(run)
    if pid == 0:
        ours.close()
        act(theirs, [lambda step=step: step(run) for step in steps])
    theirs.close()
    run.pid = pid
    return Child(pid, ours)


def holder(flags, *steps):
    """A process in new namespaces that holds them until it is ended."""

    def enter():
        _syscalls.unshare(flags)
        return None

    made = child(enter, *steps)
    made.go()
    return made
