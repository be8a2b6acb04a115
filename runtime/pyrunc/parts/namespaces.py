"""/linux/namespaces (config-linux.md#namespaces): which ones are new, which are joined, and in which order init enters them.

The clone itself is linux.ns.clone_init. Invariant: every path is opened and checked before anything else happens; after that, only the
descriptor is used.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import _syscalls, netlink, ns
from pyrunc.linux.constants import AT_FDCWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Final, TypedDict

    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Context, HostRun, InitRun, Op, TailRun

    class Given(TypedDict, total=False):
        type: str
        path: str

    Node = TypedDict(
        "Node",
        {"/linux/namespaces": list[Given]},
        total=False,
    )

    class Entry(TypedDict):
        new: list[str]  # types, in the order of the config
        join: dict[str, str]  # {type: path}
        flags: int  # for clone3, without those of init_unshare
        userns: bool  # the container's user namespace is not the runtime's
        host_net: bool
        host: list[str]  # types that the container shares with the runtime
        outside: bool  # init stays out of the pid namespace that it joins, and is replaced by a child in it
        pointers: dict[str, str]  # {type: JSON pointer in the config}


POINTER: Final = "/linux/namespaces"


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/linux/namespaces": [{"type", "path"}, ...]}, or {} for a container that shares all namespaces with the host.

    Entry: {"new": [types], "join": {type: path}, "flags": for clone3 (without those of init_unshare), "userns": bool, "host_net": bool,
    "host": [types that the container shares with the runtime], "outside": bool, "pointers": {type: JSON pointer}}. A path to the runtime's
    own namespace does not isolate anything: the type counts as not listed and is in "host".

    "outside": processes in the joined pid namespace may have CAP_SYS_PTRACE over init. So init sets everything up from outside, and creates
    a child there once it has only the program's privileges (op_join, op_clone). This is not needed in a user namespace that owns the pid
    namespace: no process in it can trace an init that is not dumpable.

    Refuses: a type that is unknown or listed twice; a path that is relative, can't be opened, or is not a namespace of that type; a user
    namespace without a path and mappings; no user namespace if the runtime is unprivileged. Unsupported: a type that the kernel lacks."""
    new: list[str] = []
    join: dict[str, str] = {}
    pointers: dict[str, str] = {}
    for i, item in enumerate(node.get(POINTER, ())):
        kind, path, pointer = item["type"], item.get("path", ""), "%s/%d" % (POINTER, i)
        if kind not in ns.FLAGS:
            raise Refusal("unknown-namespace", 'namespace "%s" does not exist' % quote(kind), pointer + "/type")
        if kind in pointers:
            raise Refusal(
                "duplicate-namespace",
                "malformed spec file: duplicated ns",
                pointer + "/type",
                "%s has the type %s too" % (pointers[kind], kind),
            )
        pointers[kind] = pointer
        if not ns.exists(kind):
            raise Unsupported("no-such-namespace", "%s namespaces aren't enabled in the kernel" % kind, pointer + "/type", "kernel")
        if not path:
            new.append(kind)
        elif _checked(path, kind, pointer + "/path"):
            ctx.warn(pointer + "/path", "this is the runtime's own %s namespace: the container shares it with the host" % kind)
        else:
            join[kind] = path
    _check_user(new, join, pointers, ctx)
    flags = 0
    for kind in new:
        if kind not in _late(new, join):
            flags |= ns.FLAGS[kind]
    host = [kind for kind in ns.FLAGS if kind not in new and kind not in join]
    return {
        "new": new,
        "join": join,
        "flags": flags,
        "userns": "user" not in host,
        "host_net": "network" in host,
        "host": host,
        "outside": "pid" in join and _may_be_traced(new, join),
        "pointers": pointers,
    }


def _may_be_traced(new: list[str], join: dict[str, str]) -> bool:
    """Whether processes of the pid namespace at join["pid"] may have privileges beyond the container's user namespace."""
    if "user" in new or "user" not in join:
        return True
    opened = []
    try:
        for kind in ("pid", "user"):
            opened.append(ns.open_path(join[kind], kind))
        return not ns.is_owned_by(*opened)
    except OSError:
        return True  # unlikely, as _checked has just opened it
    finally:
        for fd in opened:
            posix.close(fd)


def _late(new: list[str], join: Container[str]) -> tuple[str, ...]:
    """The namespaces that init creates itself: cgroup, once it is in its cgroup; with a user namespace also ipc, because message queues
    belong to the ids of the process that created the namespace, and inside, the host's root is nobody."""
    return ("cgroup", "ipc") if "user" in new or "user" in join else ("cgroup",)


def _checked(path: str, kind: str, pointer: str) -> bool:
    """Whether the path leads to our own namespace. Refusal if it does not lead to a namespace of this type."""
    if path[0] != "/":
        raise Refusal("relative-path", "namespace path: %s is not absolute" % quote(path), pointer)
    if "\0" in path:
        raise Refusal("nul-byte", "namespace path: NUL byte in the path", pointer)
    try:
        fd = ns.open_path(path, kind)
    except OSError as e:
        if CallError.of(e).call == "openat":
            raise Refusal("bad-namespace-path", "namespace path: lstat %s: %s" % (quote(path), errno_text(e.errno)), pointer) from None
        raise Refusal("bad-namespace-path", "namespace path: %s %s" % (quote(path), e.strerror), pointer) from None
    try:
        return ns.is_own(fd, kind)
    finally:
        posix.close(fd)


def _check_user(new: list[str], join: Container[str], pointers: dict[str, str], ctx: Context) -> None:
    """Refuses a missing user namespace if one is needed, and one without mappings."""
    linux = ctx.config.get("linux", {})
    mapped = linux.get("uidMappings") or linux.get("gidMappings")
    if "user" in new and not mapped:
        words = "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
        raise Refusal("no-mappings", words, pointers["user"], "give /linux/uidMappings and /linux/gidMappings, or a path")
    if ctx.euid != 0 and "user" not in new and "user" not in join:
        raise Refusal(
            "no-user-namespace",
            "rootless container requires user namespaces",
            POINTER,
            "add a namespace of type user, with mappings",
        )


# -- verbs ---------------------------------------------------------------------------------------------------------------


def host_open(entry: Entry, run: HostRun) -> None:
    """Host side, the first step. Opens each path as run.fds["ns:TYPE"] and checks the type again on the open descriptor; sets
    run.clone_flags and run.time_offsets (None; `clocks` sets it later). OSError names the path. Nothing to undo: descriptors."""
    run.clone_flags = entry["flags"]
    run.time_offsets = None
    for kind, path in entry["join"].items():
        try:
            run.fds["ns:" + kind] = ns.open_path(path, kind)
        except OSError as e:
            words = "namespace path: %s: %s" % (quote(path), e.strerror if e.errno == errno.EINVAL else errno_text(e.errno))
            raise CallError.of(e, words=words, pointer=entry["pointers"][kind] + "/path") from None


def host_close(entry: Entry, run: HostRun) -> None:
    """Host side. Closes what host_open opened; init has its own copies."""
    for kind in entry["join"]:
        posix.close(run.fds.pop("ns:" + kind))


def init_join(entry: Entry, run: InitRun) -> None:
    """Init. Joins the namespaces that the clone has not joined (run.joined_ns), using run.fds, and closes the descriptors. The mount
    namespace is the last one: from then on, paths are the container's. A cgroup namespace is left to init_unshare."""
    left = ("cgroup", "pid") if _is_late(entry) else ("cgroup",)
    for kind in ns.ORDER:
        if kind in entry["join"] and kind not in run.joined_ns and kind not in left:
            try:
                ns.join(run.fds["ns:" + kind], kind)
            except OSError as e:
                words = "cannot join the %s namespace: %s" % (kind, errno_text(e.errno))
                raise CallError.of(e, words=words, pointer=entry["pointers"][kind]) from None
    for kind in entry["join"]:
        if kind not in left or kind in run.joined_ns:
            posix.close(run.fds.pop("ns:" + kind))


def _is_late(entry: Entry) -> bool:
    """Whether op_join enters the pid namespace. In a user namespace init may no longer do so: there init is the intermediate process, which
    has already joined it."""
    return entry["outside"] and not entry["userns"]


def op_join(entry: Entry, run: TailRun) -> Op | None:
    """Init: joins the pid namespace, for the child of op_clone; or None. From here on init starts no other process."""
    return ("SETNS", run.fds["ns:pid"], ns.FLAGS["pid"]) if _is_late(entry) else None


def init_unshare(entry: Entry, run: InitRun) -> None:
    """Init, as the container's root and in its final cgroup, which becomes the root of the new cgroup namespace
    (cgroup_namespaces(7))."""
    late = 0
    for kind in entry["new"]:
        if kind in _late(entry["new"], entry["join"]):
            late |= ns.FLAGS[kind]
    if late:
        _syscalls.unshare(late)
    if "ns:cgroup" in run.fds:
        fd = run.fds.pop("ns:cgroup")
        try:
            ns.join(fd, "cgroup")
        finally:
            posix.close(fd)


def made(entry: Entry, pid: int) -> dict[str, int]:
    """{type: inode} of the namespaces that init does not share with the runtime. Stored for exec, because init may leave them later."""
    found = {}
    for kind in [*entry["new"], *entry["join"]]:
        found[kind] = _syscalls.fstatat(AT_FDCWD, "/proc/%d/ns/%s" % (pid, ns.FILES[kind]), 0).st_ino
    return found


def init_loopback(entry: Entry, run: InitRun) -> None:
    """Init. Brings up the loopback device of a *new* network namespace; a joined namespace is not changed."""
    if "network" in entry["new"]:
        netlink.loopback_up()


# -- the clone ----------------------------------------------------------------------------------------------------------

HINTS = {
    errno.EPERM: "namespaces take CAP_SYS_ADMIN; without it add a user namespace",
    errno.ENOSPC: "a limit in /proc/sys/user/max_*_namespaces is reached, or namespaces are nested too deep",
    errno.EUSERS: "user namespaces are nested too deep",
    errno.EAGAIN: "a limit on processes (pids.max of a cgroup, RLIMIT_NPROC) is reached",
    errno.ENOMEM: "a pid namespace whose init has exited accepts no new processes",
    errno.EBUSY: "the target cgroup has child cgroups or controllers that forbid processes in it",
}


def clone(entry: Entry, run: HostRun) -> tuple[int, int]:
    """Host side; the engine calls it by name. Returns (pid, pidfd) of init, and (0, -1) in init. Uses run.clone_flags, run.cgroup_fd,
    run.time_offsets and the descriptors of host_open; sets run.joined_ns. The StepFailure names the namespace that caused it."""
    late = _is_late(entry)
    joins = {key[3:]: fd for key, fd in run.fds.items() if key[:3] == "ns:" and not (late and key == "ns:pid")}
    stays = entry["outside"] and not late
    try:
        keeps_groups = not run.plans.get("user", {}).get("setgroups", False)
        pid, pidfd, run.joined_ns = ns.clone_init(joins, run.clone_flags, run.cgroup_fd, run.time_offsets, stays, keeps_groups)
    except CallError as e:
        raise _clone_failure(entry, e) from e
    return pid, pidfd


def _clone_failure(entry: Entry, e: CallError) -> StepFailure:
    call, text = e.call or "clone3", errno_text(e.errno)
    pointer = entry["pointers"].get(e.namespace or "", "/linux/namespaces")
    if call == "setns":
        words = "cannot join the %s namespace: %s" % (e.namespace, text)
    elif e.namespace == "time":
        words = "cannot set the clocks of the new time namespace: %s" % text
        pointer = "/linux/timeOffsets"
    else:
        words = "cannot make the container's first process: %s" % text
    return StepFailure("clone", words, "namespaces.clone", "host", pointer, call, e.errno, None, HINTS.get(e.errno or 0))


def check_restorable(entry: Entry) -> None:
    """Refused: a joined cgroup namespace, because CRIU can only restore a new one."""
    if "cgroup" in entry["join"]:
        hint = "CRIU can only restore it as a new one: remove the path"
        raise Refusal("joined-cgroup-namespace", "Do not know how to handle namespace cgroup", entry["pointers"]["cgroup"], hint)


def own_pid_ns(entry: Entry) -> bool:
    """Whether the container's init is pid 1 of a new pid namespace: then all its processes die with it."""
    return "pid" in entry["new"]


def is_outside(entry: Entry) -> bool:
    """Whether the program runs in a child of init, see plan()."""
    return entry["outside"]


def joined_path(plans: Plans, kind: str) -> str | None:
    """The path of the namespace that the container joined; None if it joined none. Plans without this part are damaged."""
    entry = plans.get("namespaces")
    return entry["join"].get(kind) if entry else None


def is_new(plans: Plans, kind: str) -> bool:
    """Whether the container has a new namespace of a kind."""
    return kind in plans["namespaces"]["new"]


def is_shared(plans: Plans, kind: str) -> bool:
    """Whether the container is in the runtime's own namespace of a kind."""
    return kind in plans["namespaces"]["host"]


def in_userns(plans: Plans) -> bool:
    """Whether the container is in a user namespace other than the runtime's."""
    return plans["namespaces"]["userns"]
