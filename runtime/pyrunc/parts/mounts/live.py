"""Mounts of a running container: created where host paths are valid, attached where container paths are.

Invariant: a mount is complete, with flags, id maps and contents, before it is attached, and mounts are attached and removed by descriptor;
the destination is resolved beneath the container's root. File systems whose contents depend on the namespaces of the mounting process are
refused, because that process joins only the mount and user namespaces.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, Refusal, quote
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, paths
from pyrunc.linux.mount import OLD_ONLY
from pyrunc.parts.mounts import bind, copyup, filesystems, mountpoint, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import AskRun, InitRun

    class Recorded(TypedDict, total=False):
        destination: str
        id: int
        unique: int
        nofollow: bool


OF_NAMESPACES = (
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "mqueue",
)  # show the pid, network, cgroup or ipc namespace of the process that mounts them


def check(entry: Entry) -> None:
    """Refuses mounts that plan() accepts but that can't be made in a running container."""
    for item in entry["list"]:
        where = quote(item["destination"])
        if item["kind"] == "remount":
            words = '"%s": a live mount can be added and removed, not changed' % where
            raise Refusal("live-remount", words, item["pointer"] + "/options", "remove it, then add it with the other options")
        if item["kind"] != "bind" and item["type"] in OF_NAMESPACES:
            words = 'a file system of type %s on "%s" must be part of the config' % (item["type"], where)
            raise Refusal(
                "live-type",
                words,
                item["pointer"] + "/type",
                "its contents depend on namespaces that a live mount does not join",
            )
        if "copy-symlink" in item["links"]:
            raise Refusal(
                "live-symlink", '"%s": copy-symlink makes a link, not a mount' % where, item["pointer"] + "/options", "remove the option"
            )
        if item["kind"] == "fs" and item["flags"] & OLD_ONLY:
            words = '"%s": option %s needs mount(2), which makes no detached mounts' % (where, options.names(item["flags"] & OLD_ONLY))
            raise Refusal("live-option", words, item["pointer"] + "/options", "remove the option")


def needs_own_namespace(entry: Entry) -> bool:
    """Whether mounts are created in a mount namespace that belongs to the container's user namespace: there the child may mount, and
    restrictions of the host's mounts are kept."""
    return entry["userns"]


def items(entry: Entry) -> list[Item]:
    """The items for make() and attach(), in order."""
    return entry["list"]


def make(item: Item, entry: Entry, run: AskRun) -> int:
    """-> fd of the detached mount. Runs in the host's mount namespace, or in a copy of it that the container's user namespace owns. Uses
    run.ask. OSError, StepFailure."""
    if item["kind"] != "bind":
        flags = item["flags"] & ~c.MS_RDONLY if item["late"] else item["flags"]
        try:
            return mount.new(item["type"], item["source"], flags, options.attributes(flags), [word for word, _index in item["data"]])
        except OSError as e:
            raise filesystems.explained(e, item, 0) from None
    tree = bind.source(item, entry, run)
    try:
        if run.plans.get("root", {}).get("propagation") not in ("shared", "rshared"):
            mount.propagate(tree, c.MS_SLAVE | c.MS_REC)  # otherwise mounts made inside would appear on the host
        bind.set_flags(tree, item)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def attach(item: Item, tree: int, run: InitRun) -> None:
    """Runs in the container's mount namespace: attaches the mount at its destination beneath run.root_fd. If it ends up elsewhere, it is
    removed again. OSError, StepFailure."""
    mode = None
    if item["kind"] == "bind" and fs.kind(tree) != c.S_IFDIR:
        target = mountpoint.find_file(item, run)
    else:
        target, mode = mountpoint.find_dir(item, run)
    try:
        mountpoint.check_proc(item, target, tree)
        if item["kind"] != "bind":
            _fill(item, tree, target, mode)
        mount.attach(tree, target)
    finally:
        posix.close(target)
    try:
        bind.finish(tree, item, run)
    except BaseException:
        mount.detach(tree, run.proc)
        raise


def _fill(item: Item, top: int, target: int, mode: int | None) -> None:
    """Copies to a new file system what it inherits from the directory that it will cover."""
    if item["copyup"] and mode is not None:
        covered = fs.open(".", posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=target)
        try:
            copyup.copy(covered, top, [word for word, _index in item["data"]])
        finally:
            posix.close(covered)
    if item["type"] == "tmpfs" and mode is not None and not _has_mode(item):
        root = fs.open(".", posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=top)
        try:
            fs.fchmod(root, mode)
        finally:
            posix.close(root)
    if item["rec_set"] or item["rec_clr"]:
        mount.setattr(top, item["rec_set"], item["rec_clr"], recursive=True)
    if item["late"]:
        mount.make_readonly(top, *mount.PATIENCE)


def _has_mode(item: Item) -> bool:
    return any(piece.startswith("mode=") for word, _index in item["data"] for piece in word.split(","))


def note(item: Item, tree: int) -> Recorded:
    """The record of a mount, written before it is attached; the ids in it never change."""
    return {"destination": item["destination"], "id": paths.mount_id(tree), "unique": paths.unique_mount_id(tree)}


def remove(record: Recorded, run: InitRun) -> None:
    """Runs in the container's mount namespace: unmounts what `record` describes, with all mounts below it. OSError with words if something
    else is at the destination, which is then left alone."""
    follow = not record.get("nofollow")
    if follow:
        fd = paths.resolve(run.root_fd, record["destination"], posix.O_PATH)
    else:
        folder, name = paths.parent(run.root_fd, record["destination"])
        try:
            fd = fs.open(name, posix.O_PATH | posix.O_NOFOLLOW, dir_fd=folder)
        finally:
            posix.close(folder)
    try:
        unique = paths.unique_mount_id(fd)
        same = unique == record["unique"] if unique and record["unique"] else paths.mount_id(fd) == record["id"]
        if not same or not paths.is_mount_root(fd):
            words = "another mount covers %s, or the container has moved ours" % quote(record["destination"])
            raise CallError.of(fs.failure(errno.EBUSY, "statx", record["destination"]), words=words)
        mount.detach(fd, run.proc)
    finally:
        posix.close(fd)
