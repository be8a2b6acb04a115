"""Compares mounts, masked and read-only paths, the root and device nodes of a container with the plan."""

from __future__ import annotations

import errno
import posix

from pyrunc.engine import planner
from pyrunc.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.engine.diff import Drift
    from pyrunc.engine.shapes import SeenMounts


class Mounted:
    """The mount table of init, and its root."""

    def __init__(self, table: SeenMounts, root_fd: int) -> None:
        self.table = table
        self.root_fd = root_fd

    def root_flags(self) -> set[str] | None:
        """The flags of the root mount; None if the table does not contain it."""
        found = self.table.get(paths.mount_id(self.root_fd))
        return found["flags"] if found is not None else None

    def at(self, path: str) -> dict[str, object] | None:
        """The mount that a path leads to, with "root": whether the path is its root; None if the path does not exist."""
        try:
            fd = paths.resolve(self.root_fd, path)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        try:
            return {"flags": set(), "type": None, **self.table.get(paths.mount_id(fd), {}), "root": paths.is_mount_root(fd)}
        finally:
            posix.close(fd)


def look(drift: Drift) -> None:
    """Looks up each path in the container as it is now. Does nothing if the container shares our mount namespace."""
    if planner.module("namespaces").is_shared(drift.plans, "mount"):
        return
    table: SeenMounts = {}
    for line in drift.proc("mountinfo").split("\n"):
        fields = line.split(" ")
        if len(fields) > 6:
            table[int(fields[0])] = {"point": fields[4], "flags": set(fields[5].split(",")), "type": fields[fields.index("-") + 1]}
    root_fd = posix.open("/proc/%d/root" % drift.pid, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        mounted = Mounted(table, root_fd)
        for part in ("root", "mounts", "paths", "devices"):
            drift.compare(part, mounted)
    finally:
        posix.close(root_fd)
