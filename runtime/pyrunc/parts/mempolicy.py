"""/linux/memoryPolicy (runtime-spec, config-linux.md#memory-policy; set_mempolicy(2)).

Invariant: the kernel's rules for modes, flags and nodes are checked here one by one, because the kernel only returns EINVAL.
"""

from __future__ import annotations

import errno
from _struct import pack

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, ExecRun, InitRun, Op

    class Given(TypedDict, total=False):
        mode: str
        nodes: str
        flags: list[str]

    Node = TypedDict(
        "Node",
        {"/linux/memoryPolicy": Given},
        total=False,
    )

    class Entry(TypedDict):
        mode: int  # including the flags
        nodes: list[list[int]]  # [first, last]


POINTER: Final = "/linux/memoryPolicy"
MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4, "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}
STATIC, RELATIVE, BALANCING = FLAGS["MPOL_F_STATIC_NODES"], FLAGS["MPOL_F_RELATIVE_NODES"], FLAGS["MPOL_F_NUMA_BALANCING"]
NODE_MAX = 1023  # CONFIG_NODES_SHIFT is 10 at most
ONLINE = "/sys/devices/system/node/online"
PREFERRED, LOCAL = 1, 4


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/linux/memoryPolicy": {mode, nodes, flags}}. entry: {"mode": mode and flags, "nodes": [[first, last], …]}.
    Refused: a mode that is missing or unknown, unknown flags; nodes with DEFAULT or LOCAL, no nodes with any other mode except PREFERRED;
    lists that are malformed or contain no node of this machine; STATIC together with RELATIVE, either of them without nodes, NUMA_BALANCING
    with any mode except BIND and PREFERRED_MANY."""
    value = node[POINTER]
    mode = value.get("mode")
    if mode not in MODES:
        raise Refusal(
            "unknown-mode",
            'invalid memory policy mode "%s"' % quote(mode or "", 60),
            POINTER + "/mode",
            "one of " + ", ".join(MODES),
        )
    nodes = _nodes(value.get("nodes") or "")
    count = sum(last - first + 1 for first, last in nodes)
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") and count:
        raise Refusal("needless-nodes", "memory policy mode requires 0 nodes but got %d" % count, POINTER + "/nodes", "%s has none" % mode)
    if mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED") and not count:
        raise Refusal("no-nodes", "memory policy mode requires at least one node but got 0", POINTER + "/nodes", "the mode is %s" % mode)
    flags = _flags(value.get("flags") or (), mode, count)
    if nodes and not flags & RELATIVE:
        online = _online()
        if not any(first <= there_last and there_first <= last for first, last in nodes for there_first, there_last in online):
            raise Unsupported(
                "nodes-not-here",
                "none of the nodes %s is in this machine" % quote(value["nodes"], 60),
                POINTER + "/nodes",
                "more NUMA nodes",
            )
    return {"mode": MODES[mode] | flags, "nodes": nodes}


def _flags(names: Sequence[str], mode: str, count: int) -> int:
    flags = 0
    for index, name in enumerate(names):
        pointer = "%s/flags/%d" % (POINTER, index)
        if name not in FLAGS:
            raise Refusal("unknown-flag", 'invalid memory policy flag "%s"' % quote(name, 60), pointer, "one of " + ", ".join(FLAGS))
        flags |= FLAGS[name]
        if flags & STATIC and flags & RELATIVE:
            raise Refusal(
                "contradicting-flags",
                "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other",
                pointer,
            )
        if FLAGS[name] == BALANCING and mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
            raise Refusal(
                "flag-without-bind",
                "MPOL_F_NUMA_BALANCING goes with MPOL_BIND and MPOL_PREFERRED_MANY, not with %s" % mode,
                pointer,
            )
        if FLAGS[name] in (STATIC, RELATIVE) and not count:
            raise Refusal("flag-without-nodes", "%s says how nodes are meant, and none is given" % name, pointer)
    return flags


def _nodes(text: str) -> list[list[int]]:
    """'0-1,3' -> [[0, 1], [3, 3]]."""
    found = []
    for part in text.split(","):
        part = part.strip(" ")
        if not part:
            continue
        low, dash, high = part.partition("-")
        bounds = (low, high if dash else low)
        if not all(b.isascii() and b.isdigit() and len(b) < 10 for b in bounds):
            raise Refusal(
                "bad-node-list",
                'invalid memory policy nodes "%s": not a list' % quote(text, 60),
                POINTER + "/nodes",
                "numbers and ranges: 0-1,3",
            )
        first, last = int(bounds[0]), int(bounds[1])
        if first > last or last > NODE_MAX:
            reason = "the range is empty" if first > last else "no kernel has a node %d" % last
            raise Refusal("bad-node-list", 'invalid memory policy nodes "%s": %s' % (quote(text, 60), reason), POINTER + "/nodes")
        found.append([first, last])
    return sorted(found)


def _online() -> list[list[int]]:
    try:
        return _nodes(fileio.fsdecode(fileio.read_file(ONLINE, 4096)).strip())
    except OSError:
        return [[0, NODE_MAX]]  # a kernel without NUMA returns ENOSYS later


def _mask(ranges: list[list[int]]) -> tuple[bytes, int]:
    """(mask as the kernel's array of longs, number of bits plus one: the kernel subtracts one)."""
    if not ranges:
        return b"", 0
    longs = [0] * (max(last for _first, last in ranges) // 64 + 1)
    for first, last in ranges:
        for node in range(first, last + 1):
            longs[node // 64] |= 1 << node % 64
    return pack("=%dQ" % len(longs), *longs), len(longs) * 64 + 1


def init_set(entry: Entry, run: InitRun) -> None:
    """Init. Sets the policy, which children inherit, and reads it back. ENOSYS: a kernel without NUMA; EINVAL: a node outside the cpuset,
    or a mode that this kernel lacks."""
    try:
        _syscalls.set_mempolicy(entry["mode"], *_mask(entry["nodes"]))
    except OSError as e:
        hint = {
            errno.ENOSYS: "the kernel is built without CONFIG_NUMA",
            errno.EINVAL: "the mode is newer than the kernel, or its cpuset has none of the nodes",
        }
        words = "unable to set memory policy: " + errno_text(e.errno)
        raise StepFailure(
            "policy-not-set", words, pointer=POINTER, call=CallError.of(e).call, errno=e.errno, hint=hint.get(e.errno or 0)
        ) from e
    found = _syscalls.get_mempolicy()[0]
    if found != entry["mode"] and not (entry["mode"] == PREFERRED and not entry["nodes"] and found == LOCAL):
        raise StepFailure(
            "policy-not-kept",
            "memory policy %#x was set, the kernel says %#x" % (entry["mode"], found),
            pointer=POINTER,
            call="set_mempolicy",
        )


def exec_op(entry: Entry, run: ExecRun) -> Op:
    """("MEMPOLICY", mode, mask, maxnode), for exec, whose child runs no Python."""
    return ("MEMPOLICY", entry["mode"], *_mask(entry["nodes"]))
