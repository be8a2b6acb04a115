"""/process/oomScoreAdj (runtime-spec, config.md#linux-process; proc(5)).

Invariant: 0 is a value, and absent means unchanged; the value is read back after it is written.
"""

from __future__ import annotations

import errno

from pyrunc.errors import Refusal, StepFailure
from pyrunc.linux import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, HostRun

    Node = TypedDict(
        "Node",
        {"/process/oomScoreAdj": int},
        total=False,
    )

    class Entry(TypedDict):
        value: int


POINTER: Final = "/process/oomScoreAdj"


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/process/oomScoreAdj": n}. entry: {"value": n}. Refused: outside -1000..1000. Only the kernel knows whether a low value may
    be set: its limit is the lowest value that a privileged process ever set, and cannot be read."""
    value = node[POINTER]
    if not -1000 <= value <= 1000:
        raise Refusal("score-range", "oomScoreAdj %d is not in -1000..1000" % value, POINTER)
    return {"value": value}


def host_write(entry: Entry, run: HostRun) -> None:
    """Host, while init waits, with the host's privileges and before init becomes non-dumpable (then its files would belong to root). Uses
    run.pid, our unreaped child. EACCES: lowering without CAP_SYS_RESOURCE. Nothing to undo: the value disappears with the process."""
    path = "/proc/%d/oom_score_adj" % run.pid
    try:
        fs.write_file(None, path, "%d" % entry["value"])
    except OSError as e:
        if e.errno != errno.EACCES:
            raise
        words = "oomScoreAdj %d is lower than this host lets us set it" % entry["value"]
        hint = "lowering takes CAP_SYS_RESOURCE in the initial user namespace (containerd: restrict_oom_score_adj)"
        raise StepFailure("score-too-low", words, pointer=POINTER, call="write", errno=e.errno, path=path, hint=hint) from e
    found = int(fs.read_file(None, path, 64))
    if found != entry["value"]:
        raise StepFailure(
            "score-not-kept",
            "oomScoreAdj %d was set, the kernel says %d" % (entry["value"], found),
            pointer=POINTER,
            call="write",
            path=path,
        )
