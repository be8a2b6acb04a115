"""The annotation org.pyrunc.landlock: a Landlock domain for the program (landlock(7); still under discussion in runtime-spec).

Invariant: nothing is dropped because the kernel does not support it. Rights are the kernel's numbers, and a right that this kernel lacks is
refused: a domain with fewer rules than requested protects nothing. Links are not followed: a hostile image could redirect a rule.
"""

from __future__ import annotations

import errno
import posix
from _struct import pack

from pyrunc import jsonio
from pyrunc.errors import CallError, Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import _syscalls, constants, fs, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final, TypedDict

    from pyrunc.parts.sides import Context, ExecRun, InitRun, Json, Op, TailRun

    Node = TypedDict(
        "Node",
        {"/annotations/org.pyrunc.landlock": str},
        total=False,
    )

    Rule = list[Any]  # [path or port, allowed rights, pointer]: JSON has no tuples

    class Entry(TypedDict):
        attr: list[int]  # in the order of RULESET
        paths: list[Rule]
        ports: list[Rule]


POINTER: Final = "/annotations/org.pyrunc.landlock"
# The fields of struct landlock_ruleset_attr, in order, and how many rights each has since which version of the ABI (landlock(7)).
RULESET = ("handledAccessFs", "handledAccessNet", "scoped")
RIGHTS = {
    "handledAccessFs": ((1, 13), (2, 14), (3, 15), (5, 16)),
    "handledAccessNet": ((4, 2),),
    "scoped": ((6, 2),),
}
NEWEST = 7  # the latest version that RIGHTS covers; a newer kernel checks unknown bits itself
KINDS = (("pathBeneath", "paths", "handledAccessFs"), ("netPort", "ports", "handledAccessNet"))
OF_FILES = (
    1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
)  # execute, write, read, truncate, ioctl: the only rights that the kernel accepts for a file
NET_PORT = 2  # LANDLOCK_RULE_NET_PORT


def plan(node: Node, ctx: Context) -> Entry:
    """node: {POINTER: text}; the text is {"ruleset": {"handledAccessFs", "handledAccessNet", "scoped": numbers}, "rules": {"pathBeneath":
    [{"allowedAccess": number, "paths": [texts]}], "netPort": [{"allowedAccess": number, "ports": [numbers]}]}}.
    entry: {"attr": [three numbers], "paths": [[path, allowed, pointer]], "ports": [[port, allowed, pointer]]}.
    Refused: a different structure; an empty ruleset; rights that the ruleset does not handle; a path that is relative or contains `..`; a
    kernel without Landlock, or one that lacks a requested right."""
    try:
        given = jsonio.loads(node[POINTER], "the annotation")
    except Refusal as e:
        raise Refusal("annotation-not-json", e.words, POINTER, 'use a JSON object: {"ruleset": {…}, "rules": {…}}') from None
    _object(given, POINTER, ("ruleset", "rules"))
    ruleset = _object(given.get("ruleset"), POINTER + "/ruleset", RULESET)
    rules = _object(given.get("rules", {}), POINTER + "/rules", [kind for kind, _, _ in KINDS])
    version = ctx.probe.landlock()
    if not version:
        raise Unsupported(
            "no-landlock",
            "Landlock is not available",
            POINTER,
            "Landlock, built into the kernel and listed in the boot parameter lsm=",
            "leave it out",
        )
    attr = [_handled(ruleset, name, version) for name in RULESET]
    if not any(attr):
        raise Refusal("empty-ruleset", "the ruleset handles nothing", POINTER + "/ruleset", "at least one of " + ", ".join(RULESET))
    found = [_rules(rules.get(kind, []), POINTER + "/rules/" + kind, names, attr[RULESET.index(handled)]) for kind, names, handled in KINDS]
    return {"attr": attr, "paths": found[0], "ports": found[1]}


def _object(value: object, pointer: str, keys: Sequence[str]) -> dict[str, Json]:
    if type(value) is not dict:
        raise Refusal("not-an-object", "must be an object", pointer, "with " + ", ".join(keys))
    for key in value:
        if key not in keys:
            raise Refusal("unknown-key", "%s is not known" % quote(key, 60), pointer, "one of " + ", ".join(keys))
    return value


def _list(value: object, pointer: str) -> list[Json]:
    if type(value) is not list:
        raise Refusal("not-a-list", "must be a list", pointer)
    return value


def _number(value: object, pointer: str, most: int = 2**64 - 1) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Refusal("not-a-number", "must be a number from 0 to %d" % most, pointer)
    return value


def _handled(ruleset: dict[str, Json], name: str, version: int) -> int:
    pointer = "%s/ruleset/%s" % (POINTER, name)
    rights = _number(ruleset.get(name, 0), pointer)
    known = max([bits for since, bits in RIGHTS[name] if since <= version], default=0)
    if rights >> known and (version <= NEWEST or not known):
        missing = (rights >> known & -(rights >> known)).bit_length() - 1 + known
        needed = next((since for since, bits in RIGHTS[name] if bits > missing), None)
        needs = "version %d" % needed if needed else "a newer one than %d" % NEWEST
        raise Unsupported(
            "right-too-new",
            "bit %d is not in version %d of Landlock" % (missing, version),
            pointer,
            needs + " of the interface",
            "remove the bit",
        )
    return rights


def _rules(given: object, pointer: str, names: str, handled: int) -> list[Rule]:
    found: list[Rule] = []
    for i, rule in enumerate(_list(given, pointer)):
        at = "%s/%d" % (pointer, i)
        _object(rule, at, ("allowedAccess", names))
        allowed = _number(rule.get("allowedAccess"), at + "/allowedAccess")
        if not allowed or allowed & ~handled:
            words = "rights %#x that the ruleset does not handle" % (allowed & ~handled) if allowed else "a rule that allows nothing"
            raise Refusal("bad-rights", words, at + "/allowedAccess")
        for j, value in enumerate(_list(rule.get(names), "%s/%s" % (at, names))):
            here = "%s/%s/%d" % (at, names, j)
            if names == "ports":
                _number(value, here, 65535)
            elif type(value) is not str or value[:1] != "/" or ".." in value.split("/") or "\0" in value:
                raise Refusal("bad-path", "must be an absolute path without ..", here)
            found.append([value, allowed, here])
    return found


def init_make(entry: Entry, run: InitRun) -> None:
    """Init side, when all mounts are in their final state. Sets run.fds["landlock"]; op_early or op_late enforces and closes it."""
    run.fds["landlock"] = _ruleset(entry, run.root_fd)


def exec_make(entry: Entry, run: ExecRun) -> None:
    """Host side of exec: the same rules, from the container's root. Sets run.fds["landlock"], which the new process inherits."""
    run.fds["landlock"] = _ruleset(entry, run.root_fd)


def exec_close(entry: Entry, run: ExecRun) -> None:
    """Host side of exec, once the new process has its own copy."""
    fs.close(run.fds.pop("landlock"))


def _ruleset(entry: Entry, root_fd: int) -> int:
    attr = entry["attr"]
    while not attr[-1]:  # a kernel that does not know the last fields accepts a shorter structure
        attr = attr[:-1]
    try:
        ruleset = _syscalls.landlock_create_ruleset(pack("=%dQ" % len(attr), *attr), 0)
    except OSError as e:
        raise _failure("unable to make a Landlock ruleset", POINTER + "/ruleset", e) from e
    try:
        for path, allowed, pointer in entry["paths"]:
            _path(ruleset, root_fd, path, allowed, pointer)
        for port, allowed, pointer in entry["ports"]:
            try:
                _syscalls.landlock_add_rule(ruleset, NET_PORT, pack("=QQ", allowed, port))
            except OSError as e:
                raise _failure("unable to allow port %d by Landlock" % port, pointer, e) from e
    except BaseException:
        posix.close(ruleset)
        raise
    return ruleset


def _path(ruleset: int, root_fd: int, path: str, allowed: int, pointer: str) -> None:
    there = -1
    try:
        there = paths.resolve(root_fd, path, plain=True)
        if fs.kind(there) != constants.S_IFDIR:
            allowed &= OF_FILES
        if allowed:
            _syscalls.landlock_add_rule(ruleset, constants.LANDLOCK_RULE_PATH_BENEATH, pack("=Qi", allowed, there))
    except OSError as e:
        hint = "links are not followed: use the path that it leads to" if e.errno == errno.ELOOP else None
        raise _failure("unable to allow %s by Landlock" % quote(path), pointer, e, hint, path) from e
    finally:
        if there >= 0:
            posix.close(there)


def _failure(words: str, pointer: str, e: OSError, hint: str | None = None, path: str | None = None) -> StepFailure:
    text = "%s: %s" % (words, errno_text(e.errno))
    return StepFailure("landlock-failed", text, pointer=pointer, call=CallError.of(e).call, errno=e.errno, path=path, hint=hint)


def _no_new_privs(run: TailRun) -> bool:
    return bool(run.plans.get("capabilities", {}).get("nnp"))


def op_early(entry: Entry, run: TailRun) -> Op | None:
    """Without noNewPrivileges, while the process still has CAP_SYS_ADMIN. None otherwise."""
    return None if _no_new_privs(run) else ("LANDLOCK", run.fds["landlock"], 0)


def op_late(entry: Entry, run: TailRun) -> Op | None:
    """With noNewPrivileges, which the kernel requires if there is no CAP_SYS_ADMIN. None otherwise."""
    return ("LANDLOCK", run.fds["landlock"], 0) if _no_new_privs(run) else None


def check_restorable(_entry: Entry) -> None:
    """Refused: CRIU would not restore the domain, so the processes would run with fewer restrictions than the config requires."""
    raise Refusal("landlock-domain", "CRIU does not restore Landlock domains", POINTER, "remove the annotation")
