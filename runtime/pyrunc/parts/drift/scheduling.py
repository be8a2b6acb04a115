"""Scheduler and I/O priority of init."""

from __future__ import annotations

from pyrunc.linux import _syscalls
from pyrunc.parts.scheduling import CLASSES, POLICIES, WHO_PROCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.parts.scheduling import Entry
    from pyrunc.parts.sides import Drift

NICE, REAL_TIME, DEADLINE = (0, 3), (1, 2), 6  # SCHED_OTHER and BATCH; FIFO and RR
KEEP = 0x18  # SCHED_FLAG_KEEP_POLICY, _PARAMS


def compare(entry: Entry, drift: Drift) -> None:
    if entry["scheduler"]:
        _scheduler(drift, entry["scheduler"])
    if entry["ioprio"] is not None:
        planned, seen = (_ioprio(value) for value in (entry["ioprio"], _syscalls.ioprio_get(WHO_PROCESS, drift.pid)))
        if planned != seen:
            drift.differs("scheduling", "ioPriority", planned, seen, "/process/ioPriority")


def _scheduler(drift: Drift, wanted: Sequence[int]) -> None:
    """Both as in sched_setattr(2): policy, flags, nice, priority, runtime, deadline, period, clamps."""
    pointer = "/process/scheduler/"
    seen = _syscalls.sched_getattr(drift.pid)
    names = {number: name for name, number in POLICIES.items()}
    if wanted[1] & KEEP:
        return  # the previous value was not recorded
    if seen[0] != wanted[0]:
        drift.differs("scheduling", "policy", names[wanted[0]], names.get(seen[0], str(seen[0])), pointer + "policy")
        return
    fields = [("nice", 2)] if wanted[0] in NICE else [("priority", 3)] if wanted[0] in REAL_TIME else []
    if wanted[0] == DEADLINE:
        fields = [("runtime", 4), ("deadline", 5), ("period", 6)]
    for name, at in fields:
        planned = wanted[at] or (wanted[5] if name == "period" else 0)  # without a period, it is the deadline
        if seen[at] != planned:
            drift.differs("scheduling", name, planned, seen[at], pointer + name)


def _ioprio(value: int) -> str:
    classes = {number: name for name, number in CLASSES.items()}
    return "%s %d" % (classes.get(value >> 13, "IOPRIO_CLASS_NONE"), value & 7)
