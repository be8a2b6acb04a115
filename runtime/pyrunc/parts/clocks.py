"""/linux/timeOffsets (config-linux.md#configLinuxTimeOffset): the clocks of a new time namespace (time_namespaces(7)).

Invariant: offsets are written before any process is in the namespace; afterwards the kernel refuses them (EACCES). This part only prepares
the text; the process that clones init unshares the namespace, writes the text, and clones (linux.ns). Without offsets, clone3 creates the
time namespace (docker 29 asks for one in every container).
"""

from __future__ import annotations

from pyrunc.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, HostRun

    class Offset(TypedDict, total=False):
        secs: int
        nanosecs: int

    Node = TypedDict(
        "Node",
        {"/linux/timeOffsets": dict[str, Offset]},
        total=False,
    )

    Entry = dict[str, list[int]]  # {clock: [seconds, nanoseconds]}


POINTER: Final = "/linux/timeOffsets"
CLOCKS = ("monotonic", "boottime")
SECONDS_LIMIT = 9223372036  # KTIME_SEC_MAX: nanoseconds are kept in 63 bits
NANOSECONDS = 1000000000


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/linux/timeOffsets": {"monotonic": {"secs", "nanosecs"}, "boottime": ...}}. Entry: {clock: [secs, nanosecs]}; None if there
    are no offsets. Refuses: no new time namespace, an unknown clock, values out of range."""
    offsets = node[POINTER]
    if not offsets:
        return None
    namespaces = ctx.plans["namespaces"]
    if "time" in namespaces["join"]:
        words = "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one"
        raise Refusal("offsets-of-joined", words, POINTER)
    if "time" not in namespaces["new"]:
        raise Refusal("no-time-namespace", "time namespace offsets specified, but time namespace isn't enabled in the config", POINTER)
    entry: Entry = {}
    for clock, offset in offsets.items():
        pointer = "%s/%s" % (POINTER, clock)
        if clock not in CLOCKS:
            raise Refusal(
                "unknown-clock",
                'time namespace offset for the unknown clock "%s"' % clock,
                POINTER,
                "clocks are monotonic and boottime",
            )
        secs, nanosecs = offset.get("secs", 0), offset.get("nanosecs", 0)
        if abs(secs) > SECONDS_LIMIT:
            raise Refusal("offset-range", "offset %d: a clock counts at most %d seconds" % (secs, SECONDS_LIMIT), pointer + "/secs")
        if nanosecs >= NANOSECONDS:
            raise Refusal(
                "offset-range",
                "offset %d: there are %d nanoseconds in a second" % (nanosecs, NANOSECONDS),
                pointer + "/nanosecs",
            )
        entry[clock] = [secs, nanosecs]
    return entry


def host_offsets(entry: Entry, run: HostRun) -> None:
    """Host side, before the clone. Sets run.time_offsets, the text for timens_offsets. Nothing to undo."""
    run.time_offsets = b"".join(b"%s %d %d\n" % (clock.encode(), entry[clock][0], entry[clock][1]) for clock in CLOCKS if clock in entry)
