"""engine/handshake.py: how long serve() waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import harness
from pyrunc.engine import handshake

SYNC = b"S" + bytes(handshake.RECORD_SIZE - 1)
LISTENER = b"L" + bytes(handshake.RECORD_SIZE - 1)
CLONED = b"P" + bytes(handshake.RECORD_SIZE - 1)


class Woken:
    """Signals that ask for nothing: the descriptor becomes readable again and again, until close()."""

    def __init__(self) -> None:
        self.wake_fd, self.write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.wake)
        self.thread.start()

    def wake(self) -> None:
        while not self.over.wait(0.01):
            os.write(self.write_fd, b"x")

    def check(self) -> None:
        pass

    def drain(self) -> None:
        os.read(self.wake_fd, 512)

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        os.close(self.wake_fd)
        os.close(self.write_fd)


@pytest.fixture
def woken() -> Iterator[Woken]:
    made = Woken()
    yield made
    made.close()


@pytest.fixture
def links() -> Iterator[tuple[handshake.Link, handshake.Link]]:
    ours, theirs = handshake.pair()
    end = threading.Timer(harness.WATCHDOG, theirs.sock.shutdown, [2])  # ends a serve() that ignores its limit
    end.start()
    yield ours, theirs
    end.cancel()
    end.join()
    ours.close()
    theirs.close()


def served(link: handshake.Link, cancel: Any, answer: Callable[[Any], Any]) -> None:
    handlers = {
        handshake.C_CLONED: lambda _record: 100,
        handshake.C_SYNC: answer,
        handshake.C_LISTENER: answer,
        handshake.END: lambda _data: True,
    }
    handshake.serve(link, cancel, handlers)


def test_signals_do_not_extend_the_limit(links: tuple[handshake.Link, handshake.Link], woken: Woken) -> None:
    ours, theirs = links
    theirs.sock.send(CLONED)
    theirs.sock.send(LISTENER)
    with pytest.raises(handshake.Late):
        served(ours, woken, lambda _record: None)


def test_without_a_limit_it_waits_for_the_end(links: tuple[handshake.Link, handshake.Link], woken: Woken) -> None:
    ours, theirs = links
    theirs.sock.send(SYNC)
    answered = []

    def answer(record: Any) -> None:
        answered.append(record[0])
        theirs.sock.shutdown(2)

    served(ours, woken, answer)
    assert answered == [handshake.C_SYNC]


def test_go_on_sends_one_byte(links: tuple[handshake.Link, handshake.Link]) -> None:
    ours, theirs = links
    ours.go_on()
    assert theirs.sock.recv(100) == b"c"
    theirs.close()
    with pytest.raises(handshake.CLOSED):
        ours.go_on()
