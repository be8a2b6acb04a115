"""/linux/uidMappings and /linux/gidMappings (config-linux.md#user-namespace-mappings, user_namespaces(7)).

Invariant: the kernel's maps must be those of the config. Each map is written with one write(2), or by newuidmap and newgidmap if we lack
permission, and then read back, also if the user namespace is joined.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, HostRun

    class Mapping(TypedDict):
        containerID: int
        hostID: int
        size: int

    Node = TypedDict(
        "Node",
        {"/linux/uidMappings": list[Mapping], "/linux/gidMappings": list[Mapping]},
        total=False,
    )

    class Entry(TypedDict):
        uid: list[list[int]]  # [container, host, size]
        gid: list[list[int]]
        newuidmap: str | None  # path of the program, if the runtime may not write the map itself
        newgidmap: str | None
        setgroups: str  # "allow" or "deny"
        joined: bool


UIDS: Final = "/linux/uidMappings"
GIDS: Final = "/linux/gidMappings"
LINES_LIMIT = 340  # UID_GID_MAP_MAX_EXTENTS
IDS_LIMIT = 4294967295  # (uid_t) -1 is not an id, so this is the first number that can't be mapped
TOOL_DIRS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin")
TOOL_TIMEOUT_MS = 10000


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {UIDS: [{"containerID", "hostID", "size"}], GIDS: [...]}. Entry: {"uid": [[container, host, size]], "gid": [...],
    "newuidmap": path or None, "newgidmap": path or None, "setgroups": "allow" or "deny", "joined": bool}; None for empty lists.

    Refuses: mappings without a user namespace, one of the two lists alone, ranges that are empty, overlap or leave the 32-bit ids, more
    than the kernel accepts, container id 0 unmapped. Unsupported: an unprivileged runtime without newuidmap or newgidmap."""
    uid, gid = _ranges(node.get(UIDS, ()), UIDS), _ranges(node.get(GIDS, ()), GIDS)
    if not uid and not gid:
        return None
    namespaces = ctx.plans["namespaces"]
    if not namespaces["userns"]:
        words = "user namespace mappings specified, but user namespace isn't enabled in the config"
        raise Refusal("no-user-namespace", words, UIDS if uid else GIDS, "add a namespace of type user")
    for ranges, pointer, kind in ((uid, UIDS, "uid"), (gid, GIDS, "gid")):
        if not ranges:
            raise Refusal("no-mappings", "user namespaces enabled, but no %s mappings found" % kind, pointer)
        _check(ranges, pointer, kind)
    joined = "user" in namespaces["join"]
    if joined:
        ctx.warn(UIDS, "the user namespace is joined: its mappings must be the same as these")
    entry: Entry = {"uid": uid, "gid": gid, "newuidmap": None, "newgidmap": None, "setgroups": "allow", "joined": joined}
    if ctx.euid != 0 and not joined:
        _unprivileged(entry, ctx)
    return entry


def _ranges(mappings: Sequence[Mapping], pointer: str) -> list[list[int]]:
    return [[m["containerID"], m["hostID"], m["size"]] for m in mappings]


def _check(ranges: list[list[int]], pointer: str, kind: str) -> None:
    """Checks the kernel's rules; the kernel would only return EINVAL."""
    if len(ranges) > LINES_LIMIT:
        raise Refusal("too-many-mappings", "%d mappings; the kernel takes %d" % (len(ranges), LINES_LIMIT), pointer)
    for i, (inner, outer, size) in enumerate(ranges):
        here = "%s/%d" % (pointer, i)
        if size == 0:
            raise Refusal("empty-mapping", "a mapping of size 0", here + "/size")
        for first, name in ((inner, "containerID"), (outer, "hostID")):
            if first + size > IDS_LIMIT:
                raise Refusal(
                    "mapping-range",
                    "mapping %d + %d goes beyond %d, the last id" % (first, size, IDS_LIMIT - 1),
                    "%s/%s" % (here, name),
                )
    for side, name in ((0, "containerID"), (1, "hostID")):
        order = sorted(range(len(ranges)), key=lambda i: ranges[i][side])
        for one, other in zip(order, order[1:], strict=False):
            if ranges[one][side] + ranges[one][2] > ranges[other][side]:
                first, second = sorted((one, other))
                raise Refusal("mapping-overlap", "mapping overlaps that of %s/%d" % (pointer, first), "%s/%d/%s" % (pointer, second, name))
    if len(_text(ranges)) >= page_size():
        raise Refusal(
            "mappings-too-long", "the mappings are %d bytes of text; the kernel accepts less than a page" % len(_text(ranges)), pointer
        )
    if not any(inner == 0 for inner, _outer, _size in ranges):
        name = "user" if kind == "uid" else "group"
        words = "user namespaces enabled, but no %s mapping found: container %s 0 has no mapping" % (name, kind)
        raise Refusal("root-unmapped", words, pointer, "init works as root of its user namespace")


def page_size() -> int:
    return posix.sysconf("SC_PAGE_SIZE")


def _text(ranges: list[list[int]]) -> bytes:
    return b"".join(b"%d %d %d\n" % tuple(one) for one in ranges)


def _unprivileged(entry: Entry, ctx: Context) -> None:
    """An ordinary user may map their own id, without setgroups; anything else requires the set-user-id programs of shadow."""
    if entry["uid"] != [[entry["uid"][0][0], ctx.euid, 1]]:
        entry["newuidmap"] = _tool("newuidmap", UIDS)
    if entry["gid"] != [[entry["gid"][0][0], posix.getegid(), 1]]:
        entry["newgidmap"] = _tool("newgidmap", GIDS)
    else:
        entry["setgroups"] = "deny"


def _tool(name: str, pointer: str) -> str:
    """The program's path, from a fixed list, and only if it belongs to root and no other user can write to it. PATH is not used: the caller
    controls it."""
    for folder in TOOL_DIRS:
        path = "%s/%s" % (folder, name)
        try:
            st = posix.stat(path)
        except OSError:
            continue
        if fileio.is_regular(st.st_mode) and st.st_mode & 0o111 and st.st_uid == 0 and not st.st_mode & 0o022:
            return path
    raise Unsupported("no-idmap-tool", "these mappings need %s, which is not installed" % name, pointer, name, "install the package uidmap")


# -- verbs ---------------------------------------------------------------------------------------------------------------


def host_write(entry: Entry, run: HostRun) -> None:
    """Host side, while init waits in its new user namespace. Uses run.pid, a child that has not been reaped, so the pid cannot be reused.
    StepFailure with the pointer of the list. Nothing to undo: maps disappear with their namespace."""
    proc_fd = posix.open("/proc/%d" % run.pid, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        if not entry["joined"]:
            if entry["setgroups"] == "deny":
                _put(proc_fd, "setgroups", b"deny", GIDS)
            for kind, ranges, tool, pointer in (
                ("uid", entry["uid"], entry["newuidmap"], UIDS),
                ("gid", entry["gid"], entry["newgidmap"], GIDS),
            ):
                if tool is None:
                    _put(proc_fd, kind + "_map", _text(ranges), pointer)
                else:
                    _by_tool(tool, run.pid, ranges, pointer)
        for kind, ranges, pointer in (("uid", entry["uid"], UIDS), ("gid", entry["gid"], GIDS)):
            _verify(entry, ranges, proc_fd, kind, pointer)
    finally:
        posix.close(proc_fd)


def _put(proc_fd: int, name: str, data: bytes, pointer: str) -> None:
    call = "openat"
    try:
        fd = posix.open(name, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=proc_fd)
        try:
            call = "write"
            posix.write(fd, data)
        finally:
            posix.close(fd)
    except OSError as e:
        hint = None
        if e.errno in (errno.EPERM, errno.EACCES):
            hint = "the host ids must be mapped where the runtime runs, and mapping them takes CAP_SETUID and CAP_SETGID (for 0 also CAP_SETFCAP)"
        raise StepFailure(
            "map-not-written", "cannot write %s: %s" % (name, errno_text(e.errno)), pointer=pointer, call=call, errno=e.errno, hint=hint
        ) from e


def _by_tool(tool: str, pid: int, ranges: list[list[int]], pointer: str) -> None:
    argv = [tool, "%d" % pid] + ["%d" % number for one in ranges for number in one]
    try:
        result = spawn.run(tool, argv, ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], timeout_ms=TOOL_TIMEOUT_MS)
    except OSError as e:
        raise StepFailure(
            "idmap-tool-failed", "%s: %s" % (tool, errno_text(e.errno)), pointer=pointer, call=CallError.of(e).call, errno=e.errno
        ) from e
    if not result.ok:
        words = "no answer within %d s" % (TOOL_TIMEOUT_MS // 1000) if result.why == "timeout" else result.text()
        said = result.err.strip().rpartition(b"\n")[2].decode("utf-8", "backslashreplace")
        raise StepFailure(
            "idmap-tool-failed", "%s: %s%s" % (tool, words, ": " + quote(said) if said else ""), pointer=pointer, call="execve",
            hint="does /etc/sub%s give this user these ids?" % tool.rpartition("/new")[2].replace("map", ""),
        )  # fmt: skip


def _verify(entry: Entry, ranges: list[list[int]], proc_fd: int, kind: str, pointer: str) -> None:
    """Compares the map with what the kernel shows; the kernel sorts long maps."""
    numbers = [int(word) for word in fileio.read_file(kind + "_map", dir_fd=proc_fd).split()]
    shown = sorted(numbers[i : i + 3] for i in range(0, len(numbers), 3))
    if shown == sorted(ranges):
        return
    if entry["joined"]:
        words = "user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one"
    else:
        words = "the kernel shows another %s_map than was written" % kind
    raise StepFailure(
        "other-map",
        words,
        pointer=pointer,
        call="read",
        hint="it has %s" % ", ".join("%d %d %d" % tuple(one) for one in shown[:5]),
    )
