"""Stamps: when each step of this command began and ended. create keeps them in the state; with --trace they are written to a file.

A stamp is (begin, end, side, name) in nanoseconds since 1970: a time namespace has its own monotonic clocks. Taking one costs less than a
microsecond, so the host side always takes them; those of init are sent to it only if --trace or --debug wants them (handshake.STAMPS).
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Stamp = tuple[int, int, str, str]  # begin, end, side, name
    Sent = Iterable[Any]  # a Stamp that init has sent as JSON, which has no tuples


now = time.time_ns
_stamps: list[Stamp] = []
_reported = 0  # number of stamps that are in the log already
_wanted: list[bool] = []  # not empty if init is to send its stamps


def step(name: str, began: int, side: str = "host") -> None:
    """`name` began at `began` and has just ended."""
    _stamps.append((began, now(), side, name))


def add(stamps: Iterable[Sent]) -> None:
    """Adds the stamps that init took."""
    _stamps.extend(tuple(stamp) for stamp in stamps)


def stamps() -> list[Stamp]:
    return _stamps


def taken() -> list[Stamp]:
    """The stamps since the last call of this function."""
    global _reported
    found = _stamps[_reported:]
    _reported = len(_stamps)
    return found


def want() -> None:
    _wanted.append(True)


def is_wanted() -> bool:
    return bool(_wanted)


def begin() -> None:
    """Init: forgets the stamps of the host side."""
    _stamps.clear()


def kept() -> list[list[int | str]]:
    """[[nanoseconds since the first stamp, length, side, name]], for the state document."""
    first = min(_stamps)[0] if _stamps else 0
    return [[began - first, ended - began, side, name] for began, ended, side, name in _stamps]
