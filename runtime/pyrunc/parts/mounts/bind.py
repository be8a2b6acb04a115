"""Bind mounts on the init side: clones the source as a detached mount, sets its flags, and attaches it.

Invariant: the clone has all its flags before it is attached, and flags that the kernel has locked are kept or reported, never dropped. Init
itself clones a plain source: in its mount namespace the kernel knows which flags a user namespace may not clear. The host side clones it
(host_answer) if init cannot access the source, and for id maps, which require privileges over the file system.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, paths
from pyrunc.parts.mounts import mountpoint, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Entry, IdMap, Item
    from pyrunc.parts.sides import AskRun, InitRun

    Changes = tuple[int, int] | tuple[()]


NOT_FLAGS = c.MS_BIND | c.MS_REC | c.MS_REMOUNT
# Errors after which the host side is asked: in a user namespace, those for missing permissions; without one, EINVAL, which means that the
# source is on a mount of the host's namespace (/proc/self/fd/3, a descriptor of the caller). In a user namespace EINVAL can also mean that
# the clone would expose what mounts below cover, so it remains an error.
_ASK_HOST = {True: (errno.EACCES, errno.EPERM), False: (errno.EINVAL,)}


def bind(item: Item, entry: Entry, run: InitRun) -> None:
    """Creates one bind mount."""
    if "copy-symlink" in item["links"] and _copy_link(item, run):
        return
    tree = source(item, entry, run)
    try:
        directory = fs.kind(tree) == c.S_IFDIR
        target = mountpoint.find_dir(item, run)[0] if directory else mountpoint.find_file(item, run)
        try:
            mountpoint.check_proc(item, target, tree)
            set_flags(tree, item)
            mount.attach(tree, target)
        finally:
            posix.close(target)
        finish(tree, item, run)
    finally:
        posix.close(tree)


def finish(mount_fd: int, item: Item, run: InitRun) -> None:
    """The steps after attaching, for all kinds: sets the propagation (attaching copies the parent's) and verifies the mount."""
    for flag in item["propagation"]:
        mount.propagate(mount_fd, flag)
    mountpoint.verify(item, run, mount_fd)


def source(item: Item, entry: Entry, run: AskRun) -> int:
    """-> fd of the detached clone, id-mapped if the config says so, with the flags of the source. Init makes the clone itself if it can, so
    that a source below the rootfs includes earlier mounts."""
    index = int(item["pointer"].rpartition("/")[2])
    if item["idmap"] is None or not entry["userns"]:  # in a user namespace, id maps require the host's privileges
        try:
            tree = clone(item)
        except OSError as e:
            if e.errno not in _ASK_HOST[bool(entry["userns"])]:
                raise
        else:
            if item["idmap"] is not None:
                _answer, fds = run.ask("mounts", {"index": index, "map": True})
                try:
                    map_ids(tree, item["idmap"], fds[0])
                except OSError:
                    posix.close(tree)
                    raise
                finally:
                    posix.close(fds[0])
            return tree
    _answer, fds = run.ask("mounts", {"index": index})
    return fds[0]


def map_ids(tree: int, maps: IdMap, userns_fd: int) -> None:
    """Applies the id maps of a user namespace to a detached mount."""
    try:
        mount.setattr(tree, c.MOUNT_ATTR_IDMAP, 0, maps["recursive"], userns_fd=userns_fd)
    except OSError as e:
        hint = "the file system of the source, or this kernel, does not support id-mapped mounts" if e.errno == errno.EINVAL else None
        raise CallError.of(e, hint=hint) from None


def clone(item: Item) -> int:
    """-> fd of a detached clone of the source in the caller's mount namespace."""
    flags = c.AT_SYMLINK_NOFOLLOW if "src-nofollow" in item["links"] else 0
    try:
        return mount.clone(item["source"], bool(item["flags"] & c.MS_REC), flags=flags)
    except OSError as e:
        e = CallError.of(_real_reason(item, e))
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP):
            e.words = "bind mount source stat: stat %s: %s" % (quote(item["source"]), errno_text(e.errno))
            e.pointer = item["pointer"] + "/source"
        elif e.errno == errno.EINVAL:
            e.hint = "the source is on an unbindable mount, or has mounts below that a user namespace may not uncover (then use rbind)"
        raise e from None


def _real_reason(item: Item, error: OSError) -> OSError:
    """Without privileges over mounts the kernel returns EPERM before it looks at the path, which may be the real problem."""
    if error.errno == errno.EPERM:
        try:
            posix.stat(item["source"])
        except OSError as e:
            return CallError.of(e, "stat")
    return error


def with_flags(tree: int, item: Item, changes: Changes | None = None) -> int:
    """set_flags(), for a detached mount that is returned; it is closed if that fails."""
    try:
        set_flags(tree, item, changes)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def changes_of(item: Item) -> Changes:
    """(attr_set, attr_clr) for the mount of an item, or () if the source's flags are kept. If the options contain any flag or its negation,
    they set all flags, as a remount does (config-linux.md, mount(8))."""
    return options.changes(item["flags"]) if item["flags"] & ~NOT_FLAGS or item["clear"] else ()


def set_flags(tree: int, item: Item, changes: Changes | None = None) -> None:
    """Sets the flags of the mount, then those for the whole subtree. changes: changes_of(item), from callers that mount an item many times."""
    changes = changes_of(item) if changes is None else changes
    if changes:
        try:
            mount.setattr(tree, *changes)
        except OSError as e:
            if e.errno != errno.EPERM:
                raise
            _keep_locked(tree, item, e)
    if item["rec_set"] or item["rec_clr"]:
        mount.setattr(tree, item["rec_set"], item["rec_clr"], recursive=True)


def _keep_locked(tree: int, item: Item, error: OSError) -> None:
    """The mount comes from a more privileged namespace, and some of its flags may not be cleared: they are kept, and it is an error if the
    config explicitly clears them."""
    has = options.from_statfs(mount.flags_of(tree))
    asked = item["flags"]
    refused = has & item["clear"] & options.LOCKABLE
    if refused:
        words = "cannot clear locked flags %s" % options.names(refused)
        raise StepFailure(
            "locked-flags",
            words,
            call="mount_setattr",
            errno=error.errno,
            path=item["source"],
            hint="remove the options that clear them",
        )
    atimes = options.ATIME_FLAGS
    if asked & atimes and asked & atimes != has & atimes:
        both = (options.names(has & atimes), options.names(asked & atimes))
        words = "cannot change locked atime flags: the mount has %s, asked for is %s" % both
        raise StepFailure(
            "locked-atime",
            words,
            call="mount_setattr",
            errno=error.errno,
            path=item["source"],
            hint="use the access time options that the mount has",
        )
    attr_set, attr_clr = options.changes(asked & ~atimes | has & options.LOCKABLE & ~atimes)
    mount.setattr(tree, attr_set, attr_clr)


def remount(item: Item, _entry: Entry, run: InitRun) -> None:
    """The option `remount`: changes the flags of what is mounted at the destination; with `bind`, only those of the mount."""
    fd = paths.resolve(run.root_fd, item["destination"], posix.O_PATH)
    try:
        if item["flags"] & c.MS_BIND:
            set_flags(fd, item)
        else:
            data = ",".join(word for word, _index in item["data"])
            mount.old(item["type"], item["source"], fd, item["flags"], data, run.proc)
        for flag in item["propagation"]:
            mount.propagate(fd, flag)
    finally:
        posix.close(fd)


def _copy_link(item: Item, run: InitRun) -> bool:
    """copy-symlink (crun): if the source is a link, creates the same link at the destination. False if it is not a link."""
    try:
        target = posix.readlink(item["source"])
    except OSError as e:
        if e.errno == errno.EINVAL:
            return False
        raise CallError.of(e, "readlink") from None
    folder, name = paths.parent(run.root_fd, item["destination"])
    try:
        fs.symlink(target, name, dir_fd=folder)
    except FileExistsError:
        if fs.readlink(name, dir_fd=folder) != target:
            raise
    finally:
        posix.close(folder)
    return True
