"""A failure while a failed create or restore is undone does not stop the rest of it."""

import os

import pytest

from pyrunc import log
from pyrunc.engine import host, restore
from pyrunc.errors import StepFailure
from pyrunc.linux import pidfd


class StateDir:
    path = "/run/pyrunc/c"

    def __init__(self, done):
        self.done = done
        self.state: dict[str, object] = {}

    def forget(self):
        self.done.append("forget")


class Undo:
    def __init__(self, done):
        self.done = done

    def all(self):
        self.done.append("undo")


class Run:
    link = cancel = None
    id = "c"

    def __init__(self, done, fd):
        self.plans: dict[str, object] = {}
        self.pidfd = fd
        self.state_dir = self.stored = StateDir(done)


@pytest.fixture
def closed_fd():
    """The number of a descriptor that was closed: no process can be killed by it."""
    fd = os.open("/", os.O_PATH)
    os.close(fd)
    with pytest.raises(OSError):
        pidfd.kill(fd, 0)
    return fd


@pytest.fixture
def warnings(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(log, "warn", said.append)
    return said


def test_an_init_that_cannot_be_killed(closed_fd, warnings):
    done: list[str] = []
    host._unwind(Run(done, closed_fd), Undo(done), StepFailure("x", "failed"))
    assert done == ["undo", "forget"]
    assert len(warnings) == 1 and "init" in warnings[0]


def test_a_criu_that_cannot_be_killed(closed_fd, warnings):
    class Talk:
        def close(self):
            pidfd.kill(closed_fd, 9)

    done: list[str] = []
    restore._unwind(Run(done, -1), Undo(done), [Talk()], set(restore.child.children()))
    assert done == ["undo", "forget"]
    assert len(warnings) == 1 and "criu" in warnings[0]
