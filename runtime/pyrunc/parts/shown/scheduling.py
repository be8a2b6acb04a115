"""Scheduler, I/O priority and CPUs, with their names."""

from __future__ import annotations

from pyrunc.parts.scheduling import CLASSES, FLAGS, POLICIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.parts.scheduling import Entry
    from pyrunc.parts.sides import Json

NUMBERS = ("nice", "priority", "runtime", "deadline", "period")  # after policy and flags, as in sched_setattr(2); times in nanoseconds


def readable(entry: Entry) -> Json:
    scheduler, ioprio = entry["scheduler"], entry["ioprio"]
    return {
        **entry,
        "scheduler": None if scheduler is None else _scheduler(scheduler),
        "ioprio": None if ioprio is None else "%s %d" % (_name(CLASSES, ioprio >> 13), ioprio & 7),
        "initial": _cpus(entry["initial"]),
        "final": _cpus(entry["final"]),
    }


def _scheduler(values: Sequence[int]) -> str:
    """Policy, flags and the numbers that are not 0."""
    words = [_name(POLICIES, values[0]), *(name for name, bit in FLAGS.items() if values[1] & bit)]
    return " ".join(words + ["%s=%d" % (name, value) for name, value in zip(NUMBERS, values[2:], strict=False) if value])


def _name(names: dict[str, int], value: int) -> str:
    return next((name for name, number in names.items() if number == value), str(value))


def _cpus(ranges: Sequence[Sequence[int]] | None) -> str | None:
    """As in cpuset(7)."""
    if ranges is None:
        return None
    return ",".join(str(first) if first == last else "%d-%d" % (first, last) for first, last in ranges)
