"""The host side of the handshake when the process at the other end leaves a child in its place."""

import os
import re
import struct

import pytest

import harness
from pyrunc.engine import handshake, host
from pyrunc.errors import Bug


class Cancel:
    """engine.signals.Cancel for a command that is not interrupted."""

    def __init__(self):
        self.wake_fd, self.writer = os.pipe()

    def close(self):
        os.close(self.wake_fd)
        os.close(self.writer)


@pytest.fixture
def cancel():
    made = Cancel()
    yield made
    made.close()


@pytest.fixture
def pair():
    ours, theirs = handshake.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def ended():
    """The pidfd of a process that has exited."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    fd = os.pidfd_open(pid)
    os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOWAIT)
    yield fd
    os.close(fd)
    os.waitpid(pid, 0)


def record(kind, extra=0):
    return struct.pack(handshake.RECORD, kind, 0, 0, 0, extra, b"")


class Died(Exception):
    pass


def died(_data):
    raise Died


def test_a_process_ends_while_its_child_holds_the_socket(cancel, pair, ended):
    ours, _theirs = pair  # the other end is still open
    with pytest.raises(Died):
        handshake.serve(ours, cancel, {handshake.END: died}, ended)


def test_messages_sent_before_the_end_are_handled_first(cancel, pair, ended):
    ours, theirs = pair
    theirs.sock.send(record(handshake.C_CLONED, 7))
    theirs.sock.send(record(handshake.C_READY))
    seen = []
    handlers = {handshake.END: died, handshake.C_CLONED: lambda data: seen.append(data[4]), handshake.C_READY: lambda _data: True}
    handshake.serve(ours, cancel, handlers, ended)
    assert seen == [7]


def test_hang_up_ends_a_wait(pair):
    ours, theirs = pair
    ours.hang_up()
    assert theirs.receive() == (handshake.END, None, [])
    theirs.close()
    ours.hang_up()


def test_a_child_in_place_of_init_may_not_send_stamps(cancel, pair, ended):
    """The child is not trusted the way init is: other containers may control it."""
    ours, theirs = pair
    theirs.sock.send(record(handshake.C_CLONED, 7))
    theirs.send(handshake.STAMPS, [])
    with pytest.raises(Bug):
        handshake.serve(ours, cancel, {handshake.C_CLONED: lambda _data: None}, ended)


def test_what_only_init_may_send():
    """Everything that init sends, except for what its child needs too: the listener, readiness and failure."""
    text = (harness.ROOT / "runtime/pyrunc/engine/handshake.py").read_text()
    sent = {getattr(handshake, name) for name in re.findall(r"[A-Z_]+", re.findall(r"^(ASK.*|C_FAIL.*) = ", text, re.M)[0])}
    sent |= {handshake.C_FAIL, handshake.C_READY, handshake.C_LISTENER, handshake.C_SYNC, handshake.C_CLONED}
    assert sent - set(host.OF_INIT_ALONE) == {handshake.C_FAIL, handshake.C_READY, handshake.C_LISTENER}
