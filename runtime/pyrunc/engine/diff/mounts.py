"""Compares namespaces, mounts, masks, the root and device nodes of a container with the plan."""

from __future__ import annotations

import errno
import posix

from pyrunc.engine import planner
from pyrunc.linux import constants as c
from pyrunc.linux import ns, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.engine.diff import Drift
    from pyrunc.engine.shapes import SeenMounts
    from pyrunc.parts.sides import Entry

FLAGS = (("ro", c.MS_RDONLY), ("nosuid", c.MS_NOSUID), ("nodev", c.MS_NODEV), ("noexec", c.MS_NOEXEC), ("nosymfollow", c.MS_NOSYMFOLLOW))


def namespaces(drift: Drift) -> None:
    entry = planner.entry(drift.plans, "namespaces")
    if entry is None:
        return
    for kind in ns.FLAGS:
        try:
            seen, ours = (posix.readlink("/proc/%s/ns/%s" % (pid, ns.FILES[kind])) for pid in (drift.pid, "self"))
        except FileNotFoundError:
            continue  # this kernel has no namespaces of that kind
        pointer = entry["pointers"].get(kind, "/linux/namespaces")
        if kind in entry["new"] and seen == ours:
            drift.differs("namespaces", kind, "its own", "the caller's", pointer)
        elif kind in entry["host"] and seen != ours:
            drift.differs("namespaces", kind, "the caller's", seen, pointer)
        elif kind in entry["join"]:
            wanted = _inode(entry["join"][kind])
            if wanted and not seen.endswith("[%d]" % wanted):
                drift.differs("namespaces", kind, "%s:[%d]" % (ns.FILES[kind], wanted), seen, pointer)


def _inode(path: str) -> int:
    """The inode, or 0 if the path no longer exists: the namespace continues to exist because of its processes."""
    try:
        return posix.stat(path).st_ino
    except OSError:
        return 0


def mounts(drift: Drift) -> None:
    """Compares mounts of the config, masks, read-only paths and the root with what their paths lead to now."""
    if "mount" in (planner.entry(drift.plans, "namespaces") or {}).get("host", ()):
        return
    table = {}
    for line in drift.proc("mountinfo").split("\n"):
        fields = line.split(" ")
        if len(fields) > 6:
            table[int(fields[0])] = {"point": fields[4], "flags": set(fields[5].split(",")), "type": fields[fields.index("-") + 1]}
    root_fd = posix.open("/proc/%d/root" % drift.pid, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        _root(drift, table, root_fd)
        last = {
            item["destination"]: item for item in (planner.entry(drift.plans, "mounts") or {}).get("list", ()) if item["kind"] != "remount"
        }
        for item in last.values():
            _mount(drift, table, root_fd, item)
        entry = planner.entry(drift.plans, "paths") or {}
        for kind in ("masked", "readonly"):
            for path, pointer in entry.get(kind, ()):
                found = _at(table, root_fd, path)
                if found is not None and (not found["root"] or kind == "readonly" and "ro" not in found["flags"]):
                    drift.differs("mounts", path, kind, "open" if kind == "masked" else "writable", pointer)
        _nodes(drift, root_fd)
    finally:
        posix.close(root_fd)


def _root(drift: Drift, table: SeenMounts, root_fd: int) -> None:
    entry = planner.entry(drift.plans, "root") or {}
    found = table.get(paths.mount_id(root_fd))
    if found is not None and bool(entry.get("readonly")) != ("ro" in found["flags"]):
        words = ("read-only", "writable")
        drift.differs("mounts", "/", words[not entry.get("readonly")], words["ro" not in found["flags"]], "/root/readonly")


def _at(table: SeenMounts, root_fd: int, path: str) -> dict[str, Any] | None:
    """The mount that a path leads to, with "root": whether the path is its root; None if the path does not exist."""
    try:
        fd = paths.resolve(root_fd, path)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    try:
        return {"flags": set(), "type": None, **table.get(paths.mount_id(fd), {}), "root": paths.is_mount_root(fd)}
    finally:
        posix.close(fd)


def _mount(drift: Drift, table: SeenMounts, root_fd: int, item: Entry) -> None:
    where = item["destination"]
    if "copy-symlink" in item["links"]:
        return
    found = _at(table, root_fd, where)
    if found is None or not found["root"]:
        drift.differs("mounts", where, item["type"] or item["kind"], None, item["pointer"])
        return
    if item["kind"] == "fs" and found["type"] and item["type"] != found["type"]:
        drift.differs("mounts", where, item["type"], found["type"], item["pointer"] + "/type")
    if item["kind"] in ("fs", "bind", "own"):
        lost = [word for word, flag in FLAGS if item["flags"] & flag and word not in found["flags"] and not item["copyup"]]
        for word in lost:
            drift.differs("mounts", where, word, "not " + word, item["pointer"] + "/options")


def _nodes(drift: Drift, root_fd: int) -> None:
    for node in (planner.entry(drift.plans, "devices") or {}).get("nodes", ()):
        try:
            fd = paths.resolve(root_fd, node["path"])
        except OSError:
            drift.differs("devices", node["path"], "%s %d:%d" % (node["type"], node["major"], node["minor"]), None, node["pointer"])
            continue
        info = posix.fstat(fd)
        posix.close(fd)
        kinds = {c.S_IFCHR: "c", c.S_IFBLK: "b", c.S_IFIFO: "p"}
        seen = (kinds.get(info.st_mode & c.S_IFMT), posix.major(info.st_rdev), posix.minor(info.st_rdev))
        if seen != (node["type"], node["major"], node["minor"]) and node["type"] != "p":
            drift.differs(
                "devices", node["path"], "%s %d:%d" % (node["type"], node["major"], node["minor"]), "%s %d:%d" % seen, node["pointer"]
            )
