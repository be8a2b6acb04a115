"""/process/capabilities, /process/noNewPrivileges (runtime-spec, config.md#linux-process; capabilities(7)).

Invariant: no set ever holds more than the config gives it. Ambient is what ambient says, never a copy of another set
(CVE-2016-8867), and the same for inheritable (CVE-2022-29162).
"""

from __future__ import annotations

from pyrunc.errors import Refusal, quote
from pyrunc.linux import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, TypedDict

    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Context, Op, TailRun

    class Sets(TypedDict, total=False):
        bounding: list[str]
        effective: list[str]
        permitted: list[str]
        inheritable: list[str]
        ambient: list[str]

    Node = TypedDict(
        "Node",
        {"/process/capabilities": Sets, "/process/noNewPrivileges": bool},
        total=False,
    )

    class Entry(TypedDict):
        """Masks of capabilities, a bit each."""

        bounding: int
        effective: int
        permitted: int
        inheritable: int
        ambient: int
        last: int  # number of the kernel's last capability
        nnp: bool


POINTER: Final = "/process/capabilities"
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/process/capabilities": {set: [names]}, "/process/noNewPrivileges": bool}; a set, or the whole object, that is absent is
    empty. entry: {set: mask, "last": number of the kernel's last capability, "nnp": bool}.
    Unknown names, capabilities that the kernel lacks and those that we do not have are dropped with a warning (a MUST of the spec). Refused:
    effective beyond permitted, inheritable beyond bounding; capset(2) would say EPERM. Ambient outside permitted and inheritable is
    dropped with a warning, as the kernel does."""
    sets = node.get(POINTER)
    if sets is None:
        ctx.warn(POINTER, "absent: all five sets are empty")
        sets = {}
    last = caps.last()
    available = (2 << last) - 1
    if not ctx.plans.get("namespaces", {}).get("userns"):  # the first process of a user namespace has all of them
        available &= caps.permitted()
    lost: dict[str, None] = {}
    entry: Entry = {
        "last": last,
        "nnp": bool(node.get("/process/noNewPrivileges", False)),
        "bounding": _mask(sets.get("bounding"), available, lost),
        "effective": _mask(sets.get("effective"), available, lost),
        "permitted": _mask(sets.get("permitted"), available, lost),
        "inheritable": _mask(sets.get("inheritable"), available, lost),
        "ambient": _mask(sets.get("ambient"), available, lost),
    }
    if lost:
        ctx.warn(POINTER, "ignoring unknown or unavailable capabilities: [%s]" % " ".join(lost))
    _subset(entry["effective"], "effective", entry["permitted"], "permitted")
    _subset(entry["inheritable"], "inheritable", entry["bounding"], "bounding")
    if entry["permitted"] & ~entry["bounding"]:
        outside = caps.names(entry["permitted"] & ~entry["bounding"])
        ctx.warn(POINTER + "/permitted", "not in bounding, so lost when the program is executed as root: %s" % " ".join(outside))
    beyond = entry["ambient"] & ~(entry["permitted"] & entry["inheritable"])
    if beyond:
        entry["ambient"] &= ~beyond
        ctx.warn(POINTER + "/ambient", "not in permitted and inheritable, so not raised: %s" % " ".join(caps.names(beyond)))
    return entry


def may_trace(plans: Plans) -> bool:
    """Whether processes of a container may have CAP_SYS_PTRACE over processes of the host's user namespace in their pid namespace."""
    return bool(plans["capabilities"]["bounding"] >> caps.NUMBERS["CAP_SYS_PTRACE"] & 1) and not plans["namespaces"]["userns"]


def with_more(sets: Mapping[str, list[str]], names: list[str]) -> dict[str, list[str]]:
    """The sets of /process/capabilities with `names` added to bounding, effective and permitted, and to ambient where inheritable holds
    them. Inheritable never grows (CVE-2022-29162)."""
    more = {name: list(sets.get(name) or []) for name in SETS}
    for capability in names:
        wanted = ["bounding", "effective", "permitted"] + (["ambient"] if capability in more["inheritable"] else [])
        for name in wanted:
            if capability not in more[name]:
                more[name].append(capability)
    return more


def _mask(names: list[str] | None, available: int, lost: dict[str, None]) -> int:
    mask = 0
    for name in names or ():
        number = caps.NUMBERS.get(name)
        if number is None or not available >> number & 1:
            lost[quote(name, 60)] = None
        else:
            mask |= 1 << number
    return mask


def _subset(mask: int, inner: str, within: int, outer: str) -> None:
    beyond = mask & ~within
    if beyond:
        words = "capabilities %s are not all in %s: %s" % (inner, outer, " ".join(caps.names(beyond)))
        raise Refusal(
            "capabilities-beyond-set",
            words,
            "%s/%s" % (POINTER, inner),
            "add them to %s/%s, or take them out of %s" % (POINTER, outer, inner),
        )


def op_bound(entry: Entry, run: TailRun) -> Op:
    """("BOUND", mask, last): drops all but the mask from the bounding set."""
    return ("BOUND", entry["bounding"], entry["last"])


def op_caps(entry: Entry, run: TailRun) -> Op:
    """("CAPS", effective, permitted, inheritable, ambient), after the ids."""
    return ("CAPS", entry["effective"], entry["permitted"], entry["inheritable"], entry["ambient"])


def op_nnp(entry: Entry, run: TailRun) -> Op | None:
    """("NNP",) if asked for: it cannot be taken back, and execve then gains nothing."""
    return ("NNP",) if entry["nnp"] else None
