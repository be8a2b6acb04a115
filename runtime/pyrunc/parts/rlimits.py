"""/process/rlimits (runtime-spec, config.md#posix-process; getrlimit(2)).

Invariant: the limits apply to the program only. They are set from outside once init has nothing left to do, so that no value, however
small, breaks the setup.
"""

from __future__ import annotations

import errno

from pyrunc.errors import CallError, Refusal, StepFailure, errno_text, quote
from pyrunc.linux import _syscalls, caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final, TypedDict

    from pyrunc.parts.sides import Context, HostRun

    class Given(TypedDict):
        type: str
        soft: int
        hard: int

    Node = TypedDict(
        "Node",
        {"/process/rlimits": list[Given]},
        total=False,
    )

    Row = list[Any]  # [type: str, number, soft, hard, index in the config]: JSON has no tuples

    class Entry(TypedDict):
        list: list[Row]


POINTER: Final = "/process/rlimits"
NAMES = (
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE",
    "RTPRIO", "RTTIME",
)  # fmt: skip
NUMBERS = {"RLIMIT_" + name: number for number, name in enumerate(NAMES)}  # asm-generic: all but mips, sparc and alpha
INFINITY = (1 << 64) - 1
ROUNDS = 100


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/process/rlimits": [{type, soft, hard}]}. entry: {"list": [[type, number, soft, hard, index], …]} or None.
    Refused: a type that is unknown or given twice, a soft limit above the hard limit, a hard limit above ours if we may not raise it (with
    the kernel's error)."""
    found = rows(node[POINTER] or ())
    for name, number, soft, hard, index in found:
        ours = _syscalls.prlimit(0, number, None, None)[1]
        if hard > ours and (ctx.in_userns or not caps.effective() >> caps.SYS_RESOURCE & 1):
            raise Refusal("hard-limit", _words(number, errno.EPERM), "%s/%d/hard" % (POINTER, index), _hint(name, soft, hard, ours))
    return {"list": found} if found else None


def rows(limits: Sequence[Given]) -> list[Row]:
    """[{type, soft, hard}] -> rows. Refuses what is not a valid limit on any host."""
    found: list[Row] = []
    seen: dict[str, int] = {}
    for index, limit in enumerate(limits):
        name, soft, hard = limit["type"], limit["soft"], limit["hard"]
        pointer = "%s/%d" % (POINTER, index)
        number = NUMBERS.get(name)
        if number is None:
            raise Refusal(
                "unknown-rlimit",
                "invalid rlimit type: %s" % quote(name, 60),
                pointer + "/type",
                "RLIMIT_ and one of " + " ".join(NAMES),
            )
        if name in seen:
            raise Refusal("duplicate-rlimit", "%s is given twice" % name, pointer + "/type", "the first is %s/%d" % (POINTER, seen[name]))
        if soft > hard:
            raise Refusal("soft-above-hard", "%s: soft %s is more than hard %s" % (name, _shown(soft), _shown(hard)), pointer + "/soft")
        seen[name] = index
        found.append([name, number, soft, hard, index])
    return found


def changed(limits: Sequence[Given]) -> Entry:
    """The plan after `update` has set these limits."""
    return {"list": rows(limits)}


def host_apply(entry: Entry, run: HostRun) -> None:
    """Host, while init waits with its privileges dropped: prlimit(2) with the host's privileges, then read back. Uses run.pid (our unreaped
    child). Nothing to undo: the limits disappear with the process."""
    for name, number, soft, hard, index in entry["list"]:
        pointer = "%s/%d" % (POINTER, index)
        try:
            before = _syscalls.prlimit(run.pid, number, soft, hard)
        except OSError as e:
            ours = _syscalls.prlimit(run.pid, number, None, None)[1]
            raise StepFailure(
                None, _words(number, e.errno or 0), pointer=pointer, call=CallError.of(e).call, errno=e.errno, hint=_hint(name, soft, hard, ours)
            ) from e  # fmt: skip
        found = _syscalls.prlimit(run.pid, number, None, None)
        if found != (soft, hard):
            words = "%s was set to %s, the kernel says %s (before: %s)" % (name, _pair(soft, hard), _pair(*found), _pair(*before))
            raise StepFailure("limit-not-kept", words, pointer=pointer, call="prlimit64")


def update(wanted: list[Row], run: HostRun) -> None:
    """`update`: sets the limits of every process in the container, including those forked in the meantime (a child inherits its parent's
    limits). StepFailure if one is refused; the others are then restored, as far as the kernel lets us raise hard limits."""
    from pyrunc.cgroup import kill

    cgroup_paths = (run.state_dir.state if run.state_dir is not None else {}).get("cgroup_paths") or {}
    places = kill.places(cgroup_paths)
    done: dict[int, list[tuple[int, int, int]]] = {}
    try:
        for _ in range(ROUNDS):
            new = [pid for pid in [run.pid, *kill.procs(cgroup_paths)] if pid not in done]
            if not new:
                return
            for pid in new:
                done[pid] = []
                if pid == run.pid or kill.is_member(pid, places):
                    _change(pid, wanted, done[pid])
    except StepFailure:
        for pid, before in done.items():
            for number, soft, hard in before:
                _restore(pid, number, soft, hard)
        raise


def _change(pid: int, wanted: list[Row], before: list[tuple[int, int, int]]) -> None:
    for name, number, soft, hard, _index in wanted:
        try:
            before.append((number, *_syscalls.prlimit(pid, number, soft, hard)))
        except ProcessLookupError:
            return
        except OSError as e:
            words = "cannot set %s of process %d to %s: %s" % (name, pid, _pair(soft, hard), errno_text(e.errno))
            now = _syscalls.prlimit(pid, number, None, None)
            hint = "it is %s; raising a hard limit takes CAP_SYS_RESOURCE" % _pair(*now)
            raise StepFailure(None, words, pointer=POINTER, call=CallError.of(e).call, errno=e.errno, hint=hint) from None


def _restore(pid: int, number: int, soft: int, hard: int) -> None:
    try:
        _syscalls.prlimit(pid, number, soft, hard)
    except OSError:
        return  # the process has exited, or a lowered hard limit can't be raised


def _words(number: int, error: int) -> str:
    return "error setting rlimit type %d: %s" % (number, errno_text(error))


def _hint(name: str, soft: int, hard: int, ours: int) -> str:
    return "%s asked for is %s, the hard limit here is %s; raising it takes CAP_SYS_RESOURCE" % (name, _pair(soft, hard), _shown(ours))


def _pair(soft: int, hard: int) -> str:
    return "%s:%s" % (_shown(soft), _shown(hard))


def _shown(value: int) -> str:
    return "infinity" if value == INFINITY else "%d" % value
