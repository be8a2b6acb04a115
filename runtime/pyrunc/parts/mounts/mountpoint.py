"""The mount point: found or created inside the root, and checked again after mounting.

Invariant: /proc and /sys, and the mount points of their file systems, are real directories on a path without links; masked paths, read-only
paths and everything that is written below /proc depend on this (CVE-2019-19921, CVE-2023-27561, CVE-2025-54867).
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import _syscalls, fs, mount, paths
from pyrunc.linux import constants as c
from pyrunc.linux.proc import ROOT_INODE
from pyrunc.parts.mounts.plan import BELOW_PROC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Item
    from pyrunc.parts.sides import InitRun


PLAIN = frozenset(("/proc", "/sys", *BELOW_PROC))


def is_plain(item: Item) -> bool:
    return item["destination"] in PLAIN or item["kind"] == "own"


def find_dir(item: Item, run: InitRun) -> tuple[int, int | None]:
    """-> (O_PATH fd of the directory, its mode before the mount, or None if we created it)."""
    where, plain = item["destination"], is_plain(item)
    try:
        fd = paths.find(run.root_fd, where, posix.O_PATH, plain)
        if fd is None:
            return paths.make_missing_dir(run.root_fd, where, 0o755, plain), None
        found = fs.fstat(fd)
        if found.st_mode & c.S_IFMT != c.S_IFDIR:
            posix.close(fd)
            raise fs.failure(errno.ENOTDIR, "openat2", where)
    except OSError as e:
        raise _no_place(e, item, plain) from None
    return fd, found.st_mode & 0o7777


def find_file(item: Item, run: InitRun) -> int:
    """-> O_PATH fd of the existing file, or of a new empty one. With dest-nofollow it may be a link."""
    plain = is_plain(item)
    try:
        if "dest-nofollow" not in item["links"]:
            fd = paths.make_file(run.root_fd, item["destination"], 0o644, 0o755, plain)
            if fs.kind(fd) == c.S_IFDIR:  # the kernel would return EINVAL
                posix.close(fd)
                raise fs.failure(errno.ENOTDIR, "openat2", item["destination"])
            return fd
        folder, name = paths.parent(run.root_fd, item["destination"])
        try:
            if not fs.exists(name, dir_fd=folder):
                posix.close(paths.make_file(folder, name))
            return fs.open(name, posix.O_PATH | posix.O_NOFOLLOW, dir_fd=folder)
        finally:
            posix.close(folder)
    except OSError as e:
        raise _no_place(e, item, plain) from None


def _no_place(e: OSError, item: Item, plain: bool) -> OSError:
    if plain and e.errno in (errno.ELOOP, errno.ENOTDIR):
        words = 'filesystem "%s" must be mounted on ordinary directory' % quote(item["type"] or item["destination"][1:])
    else:
        words = "create mountpoint for %s mount: %s" % (quote(item["destination"]), errno_text(e.errno))
    return CallError.of(e, words=words, pointer=item["pointer"] + "/destination")


def check_proc(item: Item, target_fd: int, tree_fd: int | None = None) -> None:
    """Only procfs may be mounted on /proc, and inside it only files that lxcfs replaces. The descriptors are checked, not only names: a
    link in the image may also lead into /proc."""
    where = item["destination"]
    of_proc = tree_fd is not None and mount.magic(tree_fd) == c.PROC_SUPER_MAGIC and fs.fstat(tree_fd).st_ino == ROOT_INODE
    of_proc = of_proc or (item["kind"] == "own" and item["type"] == "proc")
    if where == "/proc" and not of_proc:
        _refuse(item, "it is not of type proc")
    if mount.magic(target_fd) != c.PROC_SUPER_MAGIC or where in BELOW_PROC:
        return
    if fs.fstat(target_fd).st_ino != ROOT_INODE:
        _refuse(item, "it is inside /proc")
    if not of_proc:
        _refuse(item, "it is not of type proc")


def _refuse(item: Item, why: str) -> None:
    raise StepFailure(
        "inside-proc", '"%s" cannot be mounted because %s' % (quote(item["destination"]), why), pointer=item["pointer"] + "/destination"
    )


def verify(item: Item, run: InitRun, mount_fd: int) -> None:
    """Resolves the destination again: it must lead to our mount, otherwise a component was replaced in the meantime (CVE-2021-30465)."""
    try:
        if item["links"]:
            folder, name = paths.parent(run.root_fd, item["destination"])
            link = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC
            try:
                _syscalls.calls([("OPENAT", folder, name, link), ("SAME_MOUNT", _syscalls.FIRST, mount_fd, name)], -1)
            finally:
                posix.close(folder)
        else:
            paths.verify(run.root_fd, item["destination"], mount_fd, is_plain(item))
    except OSError as e:
        words = "the path %s changed while it was being mounted on: %s" % (quote(item["destination"]), errno_text(e.errno))
        raise CallError.of(e, words=words) from None
