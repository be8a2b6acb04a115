"""/process/user: ids, supplementary groups, umask (runtime-spec, config.md#posix-platform-user).

Invariant: ids are numbers. Nothing is looked up by name, nothing wraps around, and every change is verified
(CVE-2016-3697, CVE-2024-40635, CVE-2026-30892). The groups are exactly those of the config, even if there are none.
"""

from __future__ import annotations

import posix
from _struct import pack

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, StepFailure
from pyrunc.linux import ns, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Literal, TypedDict

    from pyrunc.parts.sides import Context, InitRun, Op, TailRun

    class Given(TypedDict, total=False):
        uid: int
        gid: int
        umask: int
        additionalGids: list[int]
        username: str

    Node = TypedDict(
        "Node",
        {"/process/user": Given},
        total=False,
    )

    class Entry(TypedDict):
        uid: int
        gid: int
        groups: list[int]
        umask: int
        setgroups: bool  # false: the groups are not changed
        userns: bool  # the process will not be in the initial user namespace


NO_ID = 0xFFFFFFFF  # (uid_t)-1 means "no change" to the kernel, so it is not an id
NGROUPS_MAX = 65536
UMASK = 0o022
DENIED = "cannot set any additional groups in a rootless container"
USER: Final = "/process/user"
GIDS: Final = "/process/user/additionalGids"


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/process/user": {uid, gid, umask, additionalGids, username}}, absent: 0:0 without groups.
    entry: {"uid", "gid", "groups": […], "umask", "setgroups": bool, "userns": bool}. setgroups is false if the groups are not changed,
    because a rootless map forbids setting any, or because an annotation keeps the caller's (run.oci.keep_original_groups); then
    additionalGids has no effect and is not checked. userns: the process will not be in the initial user namespace. Refused: null or
    4294967295 as an id, a umask above 0777, more than 65536 groups, ids that the user namespace does not map, groups if the map forbids
    setting them."""
    user = node.get(USER, {})
    uid, gid = _id(user, "uid", ctx), _id(user, "gid", ctx)
    umask = user.get("umask", UMASK)
    if not 0 <= umask <= 0o777:
        raise Refusal("umask-range", "umask %d is more than 0777 (511)" % umask, USER + "/umask", "JSON numbers are decimal: 022 is 18")
    keep = bool(ctx.plans.get("meta", {}).get("keep_groups"))
    groups = user.get("additionalGids") or []
    if keep and groups:
        ctx.warn(GIDS, "ignored: run.oci.keep_original_groups keeps the caller's groups")
        groups = []
    if len(groups) > NGROUPS_MAX:
        raise Refusal(
            "too-many-groups",
            "%d additional groups; the kernel takes %d" % (len(groups), NGROUPS_MAX),
            "%s/%d" % (GIDS, NGROUPS_MAX),
        )
    for index, group in enumerate(groups):
        if group >= NO_ID:
            raise Refusal("id-range", "%d is not a group id" % group, "%s/%d" % (GIDS, index))
    spaces = ctx.plans.get("namespaces", {})
    _mapped(uid, gid, groups, ctx)
    denied = ctx.plans.get("idmaps", {}).get("setgroups") == "deny"
    if groups and denied:
        raise Refusal("groups-denied", DENIED, GIDS)
    return {
        "uid": uid, "gid": gid, "groups": groups, "umask": umask, "setgroups": not (keep or denied),
        "userns": bool(spaces.get("userns")) or ctx.in_userns,
    }  # fmt: skip


def _id(user: Given, name: Literal["uid", "gid"], ctx: Context) -> int:
    if name not in user:
        if user:
            ctx.warn(USER, "no %s given: 0" % name)
        return 0
    value = user[name]
    if type(value) is not int or not 0 <= value < NO_ID:
        raise Refusal("id-range", "%s %s is not an id" % (name, value), "%s/%s" % (USER, name), "ids go from 0 to 4294967294")
    return value


def _mapped(uid: int, gid: int, groups: list[int], ctx: Context) -> None:
    """Refuses ids that the user namespace does not map. In a joined one the kernel refuses them when the ids are set."""
    ids = ctx.plans.get("idmaps")
    maps = None
    if ids:
        maps = ids["uid"], ids["gid"]
    elif ctx.in_userns and not ctx.plans.get("namespaces", {}).get("userns"):
        maps = _map_of("uid"), _map_of("gid")
    if maps is None:
        return
    hint = "the map (container, host, size) is %s"
    if not _inside(maps[0], uid):
        raise Refusal("unmapped-id", "cannot setuid to unmapped uid %d in user namespace" % uid, USER + "/uid", hint % _shown(maps[0]))
    if not _inside(maps[1], gid):
        raise Refusal("unmapped-id", "cannot setgid to unmapped gid %d in user namespace" % gid, USER + "/gid", hint % _shown(maps[1]))
    for index, group in enumerate(groups):
        if not _inside(maps[1], group):
            raise Refusal(
                "unmapped-id",
                "cannot set unmapped additional group %d in user namespace" % group,
                "%s/%d" % (GIDS, index),
                hint % _shown(maps[1]),
            )


def _map_of(kind: str) -> list[list[int]]:
    """The map of the runtime's user namespace. plan() may read kernel files."""
    lines = fileio.read_file("/proc/self/%s_map" % kind, 1 << 16).splitlines()
    return [[int(field) for field in line.split()] for line in lines]


def _inside(rows: list[list[int]], number: int) -> bool:
    return any(row[0] <= number < row[0] + row[2] for row in rows)


def _shown(rows: list[list[int]]) -> str:
    text = ", ".join("%d %d %d" % tuple(row) for row in rows[:5])
    return text + (", …" if len(rows) > 5 else "")


def init_become_root(entry: Entry, run: InitRun) -> None:
    """Init. In the container's user namespace: becomes root there and drops the caller's groups. Sets run.proc, and in a user namespace
    opens it immediately, while the host's /proc is still visible (see linux/proc.py). OSError from setres*id: 0 is not mapped."""
    spaces = run.plans.get("namespaces", {})
    if spaces.get("userns"):
        _call("setresgid", posix.setresgid, 0, 0, 0)
        _call("setresuid", posix.setresuid, 0, 0, 0)
        if entry["setgroups"]:
            ns.leave_groups()  # forbidden in a joined namespace, perhaps: op_ids decides
    run.proc = proc.Proc()
    if entry["userns"]:
        run.proc.prepare(whole=run.plans.get("sysctls") is not None)


def op_ids(entry: Entry, run: TailRun) -> Op:
    """("IDS", uid, gid, groups as uint32 array or None). If the target user namespace forbids setgroups, asking for groups is a failure;
    they are never silently skipped. Uses run.proc in init; exec sets run.userns_pid to a process in the target namespace. If it knows none,
    setgroups(2) itself tells whether it is forbidden."""
    groups = pack("=%dI" % len(entry["groups"]), *entry["groups"]) if entry["setgroups"] else None
    if groups is not None and entry["userns"] and _denied(run):
        if entry["groups"]:
            raise StepFailure("groups-denied", DENIED, pointer=GIDS, call="setgroups")
        groups = None
        ns.leave_groups()  # exec: of this process, from which the one that joins inherits them; init has already done so
    return ("IDS", entry["uid"], entry["gid"], groups)


def _denied(run: TailRun) -> bool:
    pid = run.userns_pid
    try:
        if pid:
            return fileio.read_file("/proc/%d/setgroups" % pid, 64).startswith(b"deny")
        return run.proc.read("self/setgroups").startswith(b"deny")
    except FileNotFoundError:
        return False  # nothing forbids it before Linux 3.19


def op_umask(entry: Entry, run: TailRun) -> Op:
    """("UMASK", mask): the program's umask."""
    return ("UMASK", entry["umask"])


def _call(name: str, function: Callable[..., None], *args: object) -> None:
    try:
        function(*args)
    except OSError as e:
        raise CallError.of(e, name) from None
