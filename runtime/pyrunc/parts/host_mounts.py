"""No key of config.json: the mounts of a container without a mount namespace (runtime-spec, config-linux.md#namespaces: namespaces that are
not listed are inherited).

They are created below the root in the runtime's own mount namespace, where the host sees them. Invariant: mounts that existed before are
kept, and all others at and below the root are unmounted, after a failure and at delete.
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import StepFailure, quote
from pyrunc.linux import _syscalls, fs, mount, mountinfo, paths
from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    from pyrunc.parts.sides import Context, HostRun

    Node = dict[str, object]

    class Entry(TypedDict):
        path: str  # the root


TABLE_LIMIT = 64 << 20
ROUNDS = 64  # each one unmounts what is on top


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {}. entry: {"path"}; None if there is a mount namespace, new or joined. Refuses nothing; `mounts`, `root` and `paths` do."""
    namespaces = ctx.plans["namespaces"]
    if "mount" in namespaces["new"] or "mount" in namespaces["join"]:
        return None
    return {"path": ctx.plans["root"]["path"]}


def host_record(entry: Entry, run: HostRun) -> None:
    """Host side, before anything is mounted: records the mounts that already exist at and below the root, for undo_record. StepFailure:
    there is already a mount where the config wants one; two containers would unmount each other's."""
    mounts = run.plans.get("mounts")
    wanted = {entry["path"].rstrip("/") + item["destination"] for item in mounts["list"]} if mounts else set()
    found = mountinfo.below(_table(), entry["path"])
    for _number, point in found:
        if point in wanted:
            words = "%s is already a mount point, perhaps of another container" % quote(point)
            hint = "without a mount namespace a root is for one container at a time"
            raise StepFailure("root-in-use", words, pointer="/linux/namespaces", path=point, hint=hint)
    run.record("host_mounts", [number for number, _point in found])


def undo_record(entry: Entry, run: HostRun) -> None:
    """Host side, after a failure and at delete: unmounts everything at and below the root that host_record did not record. Tolerates mounts
    that no longer exist. StepFailure names one that can't be unmounted."""
    record = run.state_dir.state.get("host_mounts") if run.state_dir is not None else None
    if record is None:  # nothing was mounted yet
        return
    path, before = entry["path"], set(record)
    found = left = None
    for _ in range(ROUNDS):
        found = [one for one in reversed(mountinfo.below(_table(), path)) if one[0] not in before]
        if not found or found == left:
            break
        left = found
        # Private first: below a bind of a shared mount, unmounting would propagate to the host's mount.
        for act in (_cut_off, _detach):
            for number, point in found:
                _at(path, point, number, act)
    if found:
        words = "cannot unmount %s, a mount of the container in the host's mount namespace" % quote(found[0][1])
        raise StepFailure("host-mount-left", words, pointer="/linux/namespaces", call="umount2", path=found[0][1])


def _table() -> str:
    return fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", TABLE_LIMIT))


def _at(path: str, point: str, number: int, act: Callable[[int], None]) -> None:
    """Calls act(fd of the mount's root) if the mount with that id is on top at its mount point. No link is followed: mount tables contain
    none."""
    try:
        root_fd = fs.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW)
        try:
            fd = paths.resolve(root_fd, point[len(path.rstrip("/")) :] or "/", posix.O_PATH, plain=True)
        finally:
            posix.close(root_fd)
    except OSError:
        return  # gone, or covered: the caller reads the table again
    try:
        if paths.mount_id(fd) == number:
            act(fd)
    except OSError:
        return
    finally:
        posix.close(fd)


def _cut_off(fd: int) -> None:
    mount.propagate(fd, c.MS_PRIVATE)


def _detach(fd: int) -> None:
    _syscalls.umount2("/proc/self/fd/%d" % fd, c.MNT_DETACH)
