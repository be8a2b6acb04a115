"""The host side of the handshake when the process at the other end leaves a child in its place."""

import os
import struct

import pytest

from pyrunc.engine import handshake
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


OF_C = {handshake.C_FAIL, handshake.C_READY, handshake.C_LISTENER, handshake.C_SYNC, handshake.C_CLONED}
ALL = OF_C | {handshake.ASK, handshake.HOOKS, handshake.STAMPS, handshake.FAILED}


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


def test_a_child_in_place_of_init_is_not_trusted(cancel, pair, ended):
    """Other containers may control it: it can't ask for anything that init may ask for, nor name another process in its place."""
    ours, theirs = pair
    for kind in ALL - set(handshake.OF_A_CHILD):
        theirs.sock.send(record(handshake.C_CLONED, 7))
        theirs.sock.send(record(kind) if kind in OF_C else kind)
        handlers = {kind: lambda _data: None for kind in ALL}
        with pytest.raises(Bug):
            handshake.serve(ours, cancel, handlers, ended)


@pytest.mark.parametrize("kind", ["C_LISTENER", "C_READY", "C_FAIL"])
def test_a_child_sends_each_message_once(cancel, pair, ended, kind):
    """Otherwise it could keep us busy for ever, without time for signals."""
    ours, theirs = pair
    theirs.sock.send(record(handshake.C_CLONED, 7))
    for _ in range(2):
        theirs.sock.send(record(getattr(handshake, kind)))
    seen = []
    with pytest.raises(Bug):
        handshake.serve(ours, cancel, {kind: lambda data: seen.append(data[0]) for kind in OF_C}, ended)
    assert seen == [handshake.C_CLONED, getattr(handshake, kind)]


def test_init_may_repeat_a_message(cancel, pair):
    ours, theirs = pair
    for _ in range(2):
        theirs.send(handshake.ASK, {})
    theirs.sock.send(record(handshake.C_READY))
    seen = []
    handshake.serve(ours, cancel, {handshake.ASK: seen.append, handshake.C_READY: lambda _data: True})
    assert seen == [{}, {}]


def test_descriptors_that_nobody_expects_are_closed(cancel, pair):
    ours, theirs = pair
    reader, writer = os.pipe()
    theirs.send(handshake.HOOKS, fds=[writer])
    os.close(writer)
    handshake.serve(ours, cancel, {handshake.HOOKS: lambda _data: True})
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_what_a_child_may_send():
    """What its part of finish() reports: the listener, readiness and failure; and the end."""
    assert set(handshake.OF_A_CHILD) == {handshake.C_FAIL, handshake.C_READY, handshake.C_LISTENER, handshake.END}
