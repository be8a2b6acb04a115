"""/process/capabilities, /process/noNewPrivileges (runtime-spec, config.md#linux-process; capabilities(7)).

Invariant: no set ever contains more than the config grants. The ambient set is exactly the list `ambient`, never a copy of another set
(CVE-2016-8867); the same applies to inheritable (CVE-2022-29162).
"""

from __future__ import annotations

import errno

from pyrunc.errors import Refusal, errno_text, quote
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
        """Capability masks, one bit per capability."""

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
    """node: {"/process/capabilities": {set: [names]}, "/process/noNewPrivileges": bool}; an absent set is empty, and so are all sets if the
    object is absent. entry: {set: mask, "last": number of the kernel's last capability, "nnp": bool}. Names that are unknown, and
    capabilities that the kernel or the runtime does not have, are dropped with a notice (the spec requires it). Refused: effective
    capabilities that are not permitted, and inheritable ones that are not in bounding (capset(2) would fail with EPERM). Ambient
    capabilities that are not both permitted and inheritable are dropped with a notice, as the kernel drops them."""
    sets = node.get(POINTER)
    if sets is None:
        ctx.warn(POINTER, "absent: all five sets are empty")
        sets = {}
    last = caps.last()
    available = (2 << last) - 1
    if not ctx.plans.get("namespaces", {}).get("userns"):  # the first process in a user namespace has all capabilities
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
        ctx.notice(POINTER, "ignoring unknown or unavailable capabilities: [%s]" % " ".join(lost))
    _subset(entry["effective"], "effective", entry["permitted"], "permitted")
    _subset(entry["inheritable"], "inheritable", entry["bounding"], "bounding")
    if entry["permitted"] & ~entry["bounding"]:
        outside = caps.names(entry["permitted"] & ~entry["bounding"])
        ctx.warn(POINTER + "/permitted", "not in bounding, so lost when the program is executed as root: %s" % " ".join(outside))
    beyond = entry["ambient"] & ~(entry["permitted"] & entry["inheritable"])
    if beyond:
        entry["ambient"] &= ~beyond
        for name in caps.names(beyond):  # in runc's words
            ctx.notice(POINTER + "/ambient", "can't raise ambient capability %s: %s" % (name, errno_text(errno.EPERM)))
    return entry


def may_trace(plans: Plans) -> bool:
    """Whether processes of the container, or others in a pid namespace that it has joined, may have CAP_SYS_PTRACE in the host's user namespace,
    and so over any process that joins that pid namespace."""
    spaces = plans["namespaces"]
    own = bool(plans["capabilities"]["bounding"] >> caps.NUMBERS["CAP_SYS_PTRACE"] & 1) and not spaces["userns"]
    return own or spaces.get("outside", False)


def with_more(sets: Mapping[str, list[str]], names: list[str]) -> dict[str, list[str]]:
    """The sets of /process/capabilities with `names` added to bounding, effective and permitted, and to ambient if they are inheritable.
    Inheritable never grows (CVE-2022-29162)."""
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
    """("BOUND", mask, last): drops everything that is not in the mask from the bounding set."""
    return ("BOUND", entry["bounding"], entry["last"])


def op_caps(entry: Entry, run: TailRun) -> Op:
    """("CAPS", effective, permitted, inheritable, ambient), after the ids."""
    return ("CAPS", entry["effective"], entry["permitted"], entry["inheritable"], entry["ambient"])


def op_nnp(entry: Entry, run: TailRun) -> Op | None:
    """("NNP",) if the config asks for it. It cannot be unset, and execve no longer grants privileges."""
    return ("NNP",) if entry["nnp"] else None
