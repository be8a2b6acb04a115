"""Stamps: when each step of this command began and ended. Kept by create in the state, written to a file where one is asked for.

A stamp is (begin, end, side, name) in nanoseconds since 1970: a time namespace has monotonic clocks of its own. Its one rule: taking
one costs less than a microsecond, so they are always taken on the host's side; init's cross to it only for a file (handshake.STAMPS).
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Stamp = tuple[int, int, str, str]  # begin, end, side, name


now = time.time_ns
_stamps: list[Stamp] = []
_wanted: list[bool] = []  # one element where somebody wants a file


def step(name: str, began: int, side: str = "host") -> None:
    """`name` began at `began` and has just ended."""
    _stamps.append((began, now(), side, name))


def add(stamps: Iterable[Iterable[Any]]) -> None:
    """Those that init took, as they came through JSON."""
    _stamps.extend(tuple(stamp) for stamp in stamps)


def stamps() -> list[Stamp]:
    return _stamps


def want() -> None:
    _wanted.append(True)


def is_wanted() -> bool:
    return bool(_wanted)


def begin() -> None:
    """Init: what the host has stamped stays with the host."""
    _stamps.clear()


def kept() -> list[list[Any]]:
    """[[nanoseconds since the first, length, side, name]] for the state document."""
    first = min(stamp[0] for stamp in _stamps) if _stamps else 0
    return [[began - first, ended - began, side, name] for began, ended, side, name in _stamps]
