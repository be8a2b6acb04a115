"""/linux/maskedPaths and /linux/readonlyPaths (runtime-spec, config-linux.md#masked-paths, #readonly-paths).

Invariant: a path that exists and can't be covered is a failure, and a cover is never trusted because of its name in the container: the null
device is checked by type and number before it is used (CVE-2025-31133, CVE-2025-62161). Only paths that do not exist are skipped.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, Refusal, StepFailure, errno_text, quote
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, InitRun

    Node = TypedDict(
        "Node",
        {"/linux/maskedPaths": list[str], "/linux/readonlyPaths": list[str]},
        total=False,
    )

    Covered = list[str]  # [path, pointer]

    class Entry(TypedDict):
        masked: list[Covered]
        readonly: list[Covered]
        label: str | None

    Covers = dict[str, int | None]


MASKED: Final = "/linux/maskedPaths"
READONLY: Final = "/linux/readonlyPaths"
NULL = "/dev/null"
COVER = c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: the two lists. Entry: {"masked": [[path, pointer]], "readonly": [[path, pointer]], "label": SELinux label or None}, without
    duplicates; None if both lists are empty. Refused: a user namespace without a mount namespace; a path that is relative, empty, `/`, or
    has `..` or a NUL byte."""
    entry: Entry = {
        "masked": _checked(node.get(MASKED) or [], MASKED),
        "readonly": _checked(node.get(READONLY) or [], READONLY),
        "label": ctx.plans.get("labels", {}).get("mount"),
    }
    if not entry["masked"] and not entry["readonly"]:
        return None
    namespaces = ctx.plans["namespaces"]
    if "mount" not in namespaces["new"] and "mount" not in namespaces["join"] and namespaces["userns"]:
        pointer = MASKED if entry["masked"] else READONLY
        words = "unable to restrict sys entries without a private MNT namespace"
        raise Refusal("no-mount-namespace", words, pointer, 'add {"type": "mount"} to /linux/namespaces')
    return entry


def _checked(given: list[str], pointer: str) -> list[Covered]:
    found: dict[str, str] = {}
    for index, path in enumerate(given):
        at = "%s/%d" % (pointer, index)
        if path[:1] != "/" or "\0" in path or ("/.." in path and ".." in path.split("/")):
            raise Refusal("bad-path", '"%s" must be an absolute path without ..' % quote(path), at)
        clean = paths.clean(path)
        if clean == "/":
            raise Refusal(
                "root-itself", "the root itself cannot be masked or made read-only here", at, "for a read-only root set /root/readonly"
            )
        found.setdefault(clean, at)
    return [[path, at] for path, at in found.items()]


def init_readonly(entry: Entry, run: InitRun) -> None:
    """Init side, in the root. Each path is bind-mounted on itself, including the mounts below it, and the mount is made read-only; other
    flags are kept. Uses run.root_fd. StepFailure; undone with the mount namespace."""
    for path, pointer in entry["readonly"]:
        try:
            _readonly(run.root_fd, path)
        except OSError as e:
            raise _failure(e, "cannot make %s read-only" % quote(path), path, pointer) from None


def _readonly(root_fd: int, path: str) -> None:
    there = paths.find(root_fd, path)
    if there is None:
        return
    try:
        tree = mount.clone_fd(there, recursive=True)
        try:
            mount.setattr(tree, c.MOUNT_ATTR_RDONLY, 0)
            mount.attach(tree, there)
            paths.verify(root_fd, path, tree)
        finally:
            posix.close(tree)
    finally:
        posix.close(there)


def init_mask(entry: Entry, run: InitRun) -> None:
    """Init side, after the read-only paths. Directories are covered by an empty read-only tmpfs, the same one for all; anything else by the
    null device, read-only. Uses run.root_fd. StepFailure; undone with the mount namespace."""
    covers: Covers = {"dir": None, "null": None, "hidden": None}
    try:
        for path, pointer in entry["masked"]:
            try:
                _mask(run.root_fd, path, covers, entry["label"])
            except OSError as e:
                raise _failure(e, "cannot mask %s" % quote(path), path, pointer) from None
    finally:
        fs.close(*covers.values())


def _mask(root_fd: int, path: str, covers: Covers, label: str | None) -> None:
    there = paths.find(root_fd, path)
    if there is None:
        return
    try:
        directory = fs.kind(there) == c.S_IFDIR
        tree = _directory_cover(covers, label) if directory else _null_cover(root_fd, covers)
        try:
            mount.attach(tree, there)
            paths.verify(root_fd, path, tree)
            if directory and covers["dir"] is None:
                covers["dir"] = posix.dup(tree)
        finally:
            posix.close(tree)
    finally:
        posix.close(there)


def _directory_cover(covers: Covers, label: str | None) -> int:
    """-> detached mount. The first one is a new tmpfs; once it is attached, the others are clones of it, so there is one file system for
    all."""
    if covers["dir"] is not None:
        return mount.clone_fd(covers["dir"])
    context = ['context="%s"' % label] if label else []
    try:
        return mount.new("tmpfs", "tmpfs", c.MS_RDONLY, COVER | c.MOUNT_ATTR_NODEV, ["nr_blocks=1", "nr_inodes=1", *context])
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOSPC):
            raise
    return mount.new("tmpfs", "tmpfs", c.MS_RDONLY, COVER | c.MOUNT_ATTR_NODEV, ["nr_blocks=1", "nr_inodes=2", *context])


def _null_cover(root_fd: int, covers: Covers) -> int:
    """-> detached mount of a null device."""
    null = covers["null"]
    if null is None:
        null = covers["null"] = _null(root_fd, covers)
    try:
        tree = mount.clone_fd(null)
    except OSError as e:
        if e.errno == errno.EINVAL and covers["hidden"] is not None:
            words = "the container's /dev/null is not the null device, and this kernel cannot provide another one (Linux 6.15 can)"
            raise CallError.of(e, words=words) from None
        raise
    try:
        mount.setattr(tree, COVER, 0)
    except OSError:
        posix.close(tree)
        raise
    return tree


def _null(root_fd: int, covers: Covers) -> int:
    """-> O_PATH fd of a verified null device: the container's, or one on a private, detached file system (cloning from that works since
    Linux 6.15; before, it is a failure)."""
    try:
        fd = paths.resolve(root_fd, NULL, posix.O_PATH | posix.O_NOFOLLOW)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
    else:
        if _is_null(fd):
            return fd
        posix.close(fd)
    hidden = covers["hidden"] = mount.new("tmpfs", "tmpfs", 0, 0)  # exists as long as its descriptor
    try:
        fs.mknod("null", c.S_IFCHR | 0o666, posix.makedev(*fs.NULL_DEVICE), dir_fd=hidden)
        fd = fs.open("null", posix.O_PATH | posix.O_NOFOLLOW, dir_fd=hidden)
    except OSError as e:
        words = "the container's /dev/null is not the null device, and none can be made here: %s" % errno_text(e.errno)
        raise CallError.of(e, words=words) from None
    if not _is_null(fd):
        posix.close(fd)
        raise fs.failure(errno.ENODEV, "mknodat", "null")
    return fd


def _is_null(fd: int) -> bool:
    return fs.char_device(fs.fstat(fd)) == fs.NULL_DEVICE


def _failure(e: OSError, what: str, path: str, pointer: str) -> StepFailure:
    failed = CallError.of(e)
    text = failed.words or errno_text(e.errno)
    return StepFailure("path-not-covered", "%s: %s" % (what, text), pointer=pointer, call=failed.call, errno=e.errno, path=path)
