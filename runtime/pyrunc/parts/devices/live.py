"""Devices of a running container (`update --device-add`, `--device-remove`)."""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, mountinfo, paths
from pyrunc.parts.devices.make import host_node, is_device, look, make_at, shown
from pyrunc.parts.devices.plan import planned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypedDict

    from pyrunc.parts.devices.plan import Device, Entry, Given
    from pyrunc.parts.sides import Context, HostRun, InitRun

    class Live(TypedDict):
        """A device for a running container."""

        node: Device
        bind: bool
        own_dev: bool
        mount_ns: bool
        shared: list[int]  # st_dev of the file systems that the host has mounted


TABLE_LIMIT = 64 << 20


def live_plan(device: Given, pointer: str, ctx: Context) -> Live:
    """One device in the config's form -> {"node", "bind", "own_dev", "mount_ns", "shared"}. Refusal as in plan()."""
    namespaces = ctx.plans["namespaces"]
    return {
        "node": planned(device, pointer, ctx),
        "bind": bool(namespaces.get("userns")) or ctx.in_userns,
        "own_dev": False,  # nothing that exists is replaced
        "mount_ns": False,  # if nodes can't be created, binds are used from the start
        "shared": _file_systems(),
    }


def live_binds(entries: Sequence[Live]) -> bool:
    """Whether any of them is a bind mount of the host's node."""
    return any(entry["bind"] for entry in entries)


def live_source(entry: Live, _run: HostRun) -> int | None:
    """-> fd of the host's node if it is to be bound, else None. Runs in the host's mount namespace."""
    return host_node(entry["node"]) if entry["bind"] and entry["node"]["type"] != "p" else None


def live_make(entry: Live, run: InitRun, tree: int | None) -> bool:
    """Creates the node beneath run.root_fd; False if it exists. Runs in the container's mount namespace, as its root. StepFailure."""
    return make_at(entry["node"], entry, run, _not_shared(entry, run), tree)


def _not_shared(entry: Live, run: InitRun) -> Callable[[int], bool]:
    """A function that tells whether a directory is on the root's own mount, or on a file system that the host has not mounted."""
    root = paths.mount_id(run.root_fd)
    return lambda fd: paths.mount_id(fd) == root or fs.fstat(fd).st_dev not in entry["shared"]


def _file_systems() -> list[int]:
    """The st_dev of all file systems that are mounted where the runtime runs."""
    found = {device for device, *_more in mountinfo.table(fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", TABLE_LIMIT)))}
    return sorted([posix.makedev(*[int(number) for number in device.split(":")]) for device in found])


def live_remove(entry: Live, run: InitRun) -> None:
    """Removes the node if it is this device, after unmounting what is bound there. Tolerates a missing node. StepFailure."""
    node = entry["node"]
    try:
        folder = paths.resolve(run.root_fd, node["path"].rpartition("/")[0] or "/", posix.O_PATH | posix.O_DIRECTORY, plain=True)
    except FileNotFoundError:
        return
    if not _not_shared(entry, run)(folder):
        posix.close(folder)
        raise StepFailure(
            "foreign-directory", "cannot remove the device %s: its directory is on a mount that the container shares" % quote(node["path"]),
            pointer=node["pointer"], path=node["path"],
        )  # fmt: skip
    try:
        _take(folder, node["path"].rpartition("/")[2], node, run)
    except OSError as e:
        call = CallError.of(e, "open").call
        words = "cannot remove the device %s: %s: %s" % (quote(node["path"]), call, errno_text(e.errno))
        raise StepFailure("device-not-removed", words, pointer=node["pointer"], call=call, errno=e.errno, path=node["path"]) from None
    finally:
        posix.close(folder)


def _take(folder: int, name: str, node: Device, run: InitRun) -> None:
    found = look(folder, name)
    if found is None:
        return
    if not is_device(found, node):
        raise StepFailure(
            "other-device-there",
            "%s in the root is not the device %s" % (quote(node["path"]), shown(node)),
            pointer=node["pointer"],
            path=node["path"],
        )
    fd = fs.open(name, posix.O_PATH | posix.O_NOFOLLOW, dir_fd=folder)
    try:
        if paths.is_mount_root(fd):
            mount.detach(fd, run.proc)
            below = look(folder, name)
            if below is None or below.st_mode & c.S_IFMT != c.S_IFREG or below.st_size:
                return  # not the empty file that was created as its mount point
    finally:
        posix.close(fd)
    fs.unlink(name, dir_fd=folder)


def changed(entry: Entry | None, added: Sequence[Live], removed: Sequence[Live]) -> Entry:
    """The plan after nodes of a running container were added and removed."""
    gone = {one["node"]["path"] for one in [*added, *removed]}
    nothing: Entry = {"nodes": [], "links": [], "dev": False, "own_dev": False, "bind": False, "mount_ns": False}
    before = entry or nothing
    return {**before, "nodes": [node for node in before["nodes"] if node["path"] not in gone] + [one["node"] for one in added]}
