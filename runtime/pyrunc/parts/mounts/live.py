"""Mounts of a running container: made where the host's paths are valid, attached where the container's are.

Invariant: a mount is complete, with flags, id maps and contents, before it is attached, and mounts are attached and removed
by descriptor; the destination is resolved beneath the container's root. Kinds whose contents depend on the namespaces
of the mounting process are refused: it joins only the mount and user namespaces.
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


OF_NAMESPACES = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue")  # show the pid, network, cgroup or ipc namespace of their maker


def check(entry: Entry) -> None:
    """Refuses, with the pointer, what a plan of /mounts allows but a running container can't have."""
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
                "its contents depend on namespaces that are not joined for a mount",
            )
        if "copy-symlink" in item["links"]:
            raise Refusal(
                "live-symlink", '"%s": copy-symlink makes a link, not a mount' % where, item["pointer"] + "/options", "leave it out"
            )
        if item["kind"] == "fs" and item["flags"] & OLD_ONLY:
            words = '"%s": option %s needs mount(2), which makes no detached mounts' % (where, options.names(item["flags"] & OLD_ONLY))
            raise Refusal("live-option", words, item["pointer"] + "/options", "leave it out")


def make(item: Item, entry: Entry, run: AskRun) -> int:
    """-> fd of the detached mount. In the host's mount namespace, or a copy of it that the container's user namespace owns. Uses
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
            mount.propagate(tree, c.MS_SLAVE | c.MS_REC)  # else mounts made inside would appear on the host
        bind.set_flags(tree, item)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def attach(item: Item, tree: int, run: InitRun) -> None:
    """In the container's mount namespace: puts the mount on its destination beneath run.root_fd. A mount that ended up
    elsewhere is removed again. OSError, StepFailure."""
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
    """What a new file system inherits from the directory that it will cover."""
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
    """What is recorded of a mount before it is attached; its ids never change."""
    return {"destination": item["destination"], "id": paths.mount_id(tree), "unique": paths.unique_mount_id(tree)}


def remove(record: Recorded, run: InitRun) -> None:
    """In the container's mount namespace: unmounts what `record` describes, with all mounts below. OSError with words when
    the destination leads to something else, which is left alone."""
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
