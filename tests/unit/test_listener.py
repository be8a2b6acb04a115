"""engine/host.py: what a process that others may control can pass on as its seccomp listener."""

import os

import pytest

from pyrunc.engine import host
from pyrunc.engine.order import EXEC
from pyrunc.errors import Bug
from pyrunc.linux import _syscalls, filters
from pyrunc.parts import seccomp

CODE = filters.pack([(6, 0, 0, filters.ALLOW)])


class Run:
    """The members that deliver_listener uses; the process is this one."""

    def __init__(self, plans):
        self.plans = plans
        self.pidfd = os.pidfd_open(os.getpid())
        self.listener_fd = -1

    def check(self):
        pass


@pytest.fixture
def delivered(monkeypatch):
    """The names of the descriptors that were passed on."""
    names = []
    monkeypatch.setattr(seccomp, "host_deliver", lambda _entry, run: names.append(os.readlink("/proc/self/fd/%d" % run.listener_fd)))
    return names


def test_a_listener_is_passed_on(delivered):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # a filter stays with the process that has loaded it
        try:
            _syscalls.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            fd = _syscalls.seccomp(1, filters.FLAG_NEW_LISTENER, CODE)
            run = Run({"seccomp": {}})
            host.deliver_listener(EXEC, run, (b"L", 0, 0, 0, fd, b""))
            os.write(writer, " ".join(delivered).encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 100) == host.LISTENER.encode()
    os.close(reader)
    os.waitpid(pid, 0)


def test_another_file_is_not(delivered):
    reader, writer = os.pipe()
    run = Run({"seccomp": {}})
    with pytest.raises(Bug):
        host.deliver_listener(EXEC, run, (b"L", 0, 0, 0, reader, b""))
    assert delivered == [] and run.listener_fd == -1
    for fd in (reader, writer, run.pidfd):
        os.close(fd)


def test_nor_is_one_without_a_profile(delivered):
    run = Run({})
    with pytest.raises(Bug):
        host.deliver_listener(EXEC, run, (b"L", 0, 0, 0, 0, b""))
    assert delivered == []
    os.close(run.pidfd)
