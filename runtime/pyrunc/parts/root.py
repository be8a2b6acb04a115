"""/root and /linux/rootfsPropagation (runtime-spec, config.md#root, config-linux.md#rootfs-mount-propagation): the container's root is
mounted on itself, entered, and finally made read-only if the config says so.

Invariant: the host never sees a mount of the container. Propagation is disabled before the first mount, and without a private mount
namespace the container mounts nothing that others would see.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, StepFailure, errno_text, quote
from pyrunc.linux import _syscalls, fs, mount, mountinfo, paths
from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Context, ExecRun, InitRun, Op

    class Given(TypedDict, total=False):
        path: str
        readonly: bool

    Node = TypedDict(
        "Node",
        {"/root": Given, "/linux/rootfsPropagation": str},
        total=False,
    )

    class Entry(TypedDict):
        path: str  # absolute, links resolved
        readonly: bool
        propagation: str | None
        pivot: bool
        mount_ns: bool  # the container has a mount namespace, new or joined
        own_ns: bool  # the mount namespace is new


PROPAGATION = {
    "private": c.MS_PRIVATE,
    "rprivate": c.MS_PRIVATE | c.MS_REC,
    "shared": c.MS_SHARED,
    "rshared": c.MS_SHARED | c.MS_REC,
    "slave": c.MS_SLAVE,
    "rslave": c.MS_SLAVE | c.MS_REC,
    "unbindable": c.MS_UNBINDABLE,
    "runbindable": c.MS_UNBINDABLE | c.MS_REC,
}
TABLE_LIMIT = 64 << 20
LEVELS = 4096  # more than the components of any path


def plan(node: Node, ctx: Context) -> Entry:
    """node: {"/root": {"path", "readonly"}, "/linux/rootfsPropagation": word}. Entry: {"path": real absolute path, "readonly": bool,
    "propagation": word or None, "pivot": bool, "mount_ns": bool, "own_ns": bool (new, not joined)}.
    Refused: no root; a path that is empty, missing or not a directory; an unknown propagation; private propagation without pivot_root;
    propagation without a mount namespace (it would change the host's), and readonly in a user namespace without a mount namespace."""
    root = node.get("/root")
    if not root:
        raise Refusal("no-root", "root must be specified", "/root", 'give {"path": "rootfs"}')
    word = node.get("/linux/rootfsPropagation") or None
    if word is not None and word not in PROPAGATION:
        words = "rootfsPropagation=%s is not supported" % quote(word)
        raise Refusal("unknown-propagation", words, "/linux/rootfsPropagation", "shared, slave, private or unbindable")
    namespaces = ctx.plans["namespaces"]
    own = "mount" in namespaces["new"]
    mount_ns = own or "mount" in namespaces["join"]
    readonly = root.get("readonly", False)
    if readonly and not mount_ns and namespaces["userns"]:
        raise Refusal(
            "no-mount-namespace",
            "a read-only root in a user namespace needs a mount namespace",
            "/root/readonly",
            'add {"type": "mount"} to /linux/namespaces',
        )
    if word and not mount_ns:
        raise Refusal(
            "no-mount-namespace",
            "rootfsPropagation needs a mount namespace",
            "/linux/rootfsPropagation",
            'add {"type": "mount"} to /linux/namespaces',
        )
    no_pivot = bool(ctx.options.get("no_pivot"))
    if no_pivot and word in ("private", "rprivate"):
        raise Refusal(
            "private-without-pivot",
            "rootfsPropagation of [r]private is not safe with no_pivot_root",
            "/linux/rootfsPropagation",
            "drop --no-pivot",
        )
    if mount_ns and not own:
        ctx.warn(
            "/linux/namespaces", "the mount namespace is shared: its root is not changed, and the container's root is entered with chroot"
        )
    if not mount_ns:
        text = "no mount namespace: the root is entered with chroot, and the container's mounts are visible on the host until it is deleted"
        ctx.warn("/linux/namespaces", text)
    return {
        "path": _real(root.get("path"), ctx.bundle),
        "readonly": readonly,
        "propagation": word,
        "pivot": own and not no_pivot,
        "mount_ns": mount_ns,
        "own_ns": own,
    }


def _real(path: str | None, bundle: str) -> str:
    """The path with its links resolved, so that verbs and later commands use the same directory."""
    pointer = "/root/path"
    if not path:
        raise Refusal("empty-root", "the path of the root must not be empty", pointer)
    if "\0" in path:
        raise Refusal("nul-byte", "the path of the root has a NUL byte", pointer)
    full = path if path[0] == "/" else bundle + "/" + path
    try:
        fd = fs.open(full, posix.O_PATH | posix.O_DIRECTORY)
    except OSError as e:
        words = "invalid rootfs: stat %s: %s" % (quote(full), errno_text(e.errno))
        raise Refusal("bad-rootfs", words, pointer, "a relative path starts at the bundle") from None
    try:
        found = posix.readlink("/proc/self/fd/%d" % fd)
        if posix.stat(found)[1:3] == fs.fstat(fd)[1:3]:
            return found
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.EACCES):
            raise
    finally:
        posix.close(fd)
    return paths.clean(full)  # unchanged without /proc, or if the directory was removed


# --- verbs


def init_prepare(entry: Entry, run: InitRun) -> None:
    """Init side, before all other mounts. Sets run.root_fd, an O_PATH fd of the root mounted on itself; without a mount namespace, of the
    directory, unless the root is read-only. OSError with words for /root/path. Undone when init dies, with its mount namespace."""
    place = _open_root(entry)
    if not entry["mount_ns"] and not entry["readonly"]:
        run.root_fd = place
        return
    try:
        if entry["own_ns"]:
            _cut(entry["propagation"])
        if entry["mount_ns"]:
            _part_from_parent(place, entry["propagation"], is_slave=entry["own_ns"] and entry["propagation"] not in ("shared", "rshared"))
        run.root_fd = _on_itself(place, entry["path"])
    finally:
        posix.close(place)


def _open_root(entry: Entry) -> int:
    try:
        return fs.open(entry["path"], posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW)
    except OSError as e:
        words = "invalid rootfs: open %s: %s" % (quote(entry["path"]), errno_text(e.errno))
        hint = "the container's root user needs search permission on every directory of the path"
        raise CallError.of(e, words=words, hint=hint if e.errno == errno.EACCES else None, pointer="/root/path") from None


def _cut(word: str | None) -> None:
    """Stops the copy of the host's mounts from propagating to the host, except with `shared`, which requests it."""
    top = fs.open("/", posix.O_PATH | posix.O_DIRECTORY)
    try:
        mount.propagate(top, PROPAGATION[word] if word in ("shared", "rshared") else c.MS_SLAVE | c.MS_REC)
        if word in ("private", "rprivate"):
            mount.propagate(top, PROPAGATION[word])
    except OSError as e:
        hint = "the runtime's / is not a mount point (a chroot): bind-mount it on itself first" if e.errno == errno.EINVAL else None
        raise CallError.of(e, hint=hint) from None
    finally:
        posix.close(top)


def _part_from_parent(place: int, word: str | None, is_slave: bool = False) -> None:
    """Makes the mount that will be the parent of ours private or a slave; otherwise the host would see ours, and pivot_root would refuse.
    is_slave: _cut() has made it a slave already, which is enough. EPERM is ignored then: kernels before 6.17 may return it in a user
    namespace, where mounts that came from outside are locked."""
    here = posix.dup(place)
    try:
        for _ in range(LEVELS):  # a / that is not a mount point (a chroot) has no parent; the kernel then returns EINVAL
            if paths.is_mount_root(here):
                break
            above = fs.open("..", posix.O_PATH | posix.O_DIRECTORY, dir_fd=here)
            posix.close(here)
            here = above
        mount.propagate(here, c.MS_SLAVE if word in ("slave", "rslave") else c.MS_PRIVATE)
    except OSError as e:
        if e.errno != errno.EPERM or not is_slave:
            raise
    finally:
        posix.close(here)


def _on_itself(place: int, path: str) -> int:
    """-> fd of the root's new mount, after checking that the path leads to it."""
    tree = mount.clone_fd(place, recursive=True)
    try:
        mount.attach(tree, place)
        if path != "/":  # a mount on / would not be visible to us
            _syscalls.calls([("OPENAT", c.AT_FDCWD, path, paths.NEW_DIRECTORY), ("SAME_MOUNT", _syscalls.FIRST, tree, path)], -1)
    except OSError:
        posix.close(tree)
        raise
    return tree


def mount_on(entry: Entry, folder: str) -> int:
    """For restore, in CRIU's process and its private mount namespace: mounts the root on the directory `folder`, where CRIU expects it. ->
    fd of that mount. OSError with words for /root/path. Invisible to the host; undone with the namespace."""
    place = _open_root(entry)
    target = fs.open(folder, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW)
    try:
        _cut(entry["propagation"])
        _part_from_parent(target, entry["propagation"])
        tree = mount.clone_fd(place, recursive=True)
        mount.attach(tree, target)
        return tree
    finally:
        fs.close(place, target)


def keep_readonly(entry: Entry, root_fd: int) -> None:
    """restore: makes a read-only root read-only once everything is mounted in it: CRIU takes its flags from here, not from the images."""
    if entry["readonly"]:
        mount.make_readonly(root_fd, *mount.PATIENCE)


def has_own_namespace(plans: Plans) -> bool:
    """Whether the root is in a new mount namespace."""
    return plans["root"]["own_ns"]


def sends(plans: Plans) -> bool:
    """Whether mounts in the root propagate to the host, as the config requests."""
    return plans["root"]["propagation"] in ("shared", "rshared")


def init_pivot(entry: Entry, run: InitRun) -> None:
    """Init side, after the last use of a host path. Afterwards / and the working directory are the container's root, which is also
    run.root_fd, and the host's mounts are no longer in the namespace (with --no-pivot: they are covered). OSError. Not undone."""
    if entry["pivot"]:
        _pivot(run.root_fd)
    elif entry["own_ns"]:
        _move(entry, run)
    else:
        fs.fchdir(run.root_fd)
        fs.chroot(".")
    posix.chdir("/")


def _pivot(root_fd: int) -> None:
    """pivot_root(2) with both ends at ".": the old root is mounted on the new one and then unmounted; no directory is needed."""
    old = fs.open("/", posix.O_PATH | posix.O_DIRECTORY)
    try:
        fs.fchdir(root_fd)
        _syscalls.pivot_root(".", ".")
        mount.propagate(old, c.MS_SLAVE | c.MS_REC)  # otherwise the unmount would propagate to the host
        fs.fchdir(old)
        _syscalls.umount2(".", c.MNT_DETACH)
    finally:
        posix.close(old)


def _move(entry: Entry, run: InitRun) -> None:
    """--no-pivot (for a root on an initramfs): moves the root over /. The host's tree remains underneath. Its procfs and sysfs are
    unmounted first, because while they are visible, the kernel allows new ones to be mounted."""
    for _device, top, point, kind, _settings in mountinfo.table(fileio.fsdecode(run.proc.read("self/mountinfo", TABLE_LIMIT))):
        inside = (point + "/").startswith(entry["path"].rstrip("/") + "/")
        if kind in ("proc", "sysfs") and top == "/" and not inside:
            _unmount_host(point)
    target = fs.open("/", posix.O_PATH | posix.O_DIRECTORY)
    try:
        mount.attach(run.root_fd, target)
    finally:
        posix.close(target)
    fs.fchdir(run.root_fd)
    fs.chroot(".")


def _unmount_host(point: str) -> None:
    """Unmounts the host's procfs or sysfs in our namespace, or covers it if the kernel has locked it."""
    try:
        fd = fs.open(point, posix.O_PATH | posix.O_NOFOLLOW)
    except FileNotFoundError:  # unmounted together with the mount that it was on
        return
    try:
        if not paths.is_mount_root(fd) or mount.magic(fd) not in (c.PROC_SUPER_MAGIC, c.SYSFS_MAGIC):
            return
        mount.propagate(fd, c.MS_SLAVE | c.MS_REC)
        try:
            _syscalls.umount2(point, c.MNT_DETACH | c.UMOUNT_NOFOLLOW)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EPERM):
                raise
            cover = mount.new("tmpfs", "tmpfs", 0, c.MOUNT_ATTR_RDONLY)
            mount.attach(cover, fd)
            posix.close(cover)
    finally:
        posix.close(fd)


def path_of(plans: Plans) -> str:
    """The root file system, absolute; "" in plans without one."""
    entry = plans.get("root")
    return entry["path"] if entry else ""


def identity(entry: Entry, pid: int) -> list[int] | None:
    """[device, inode] of init's root, for exec_op; None if the mount namespace is private, so that joining it is enough."""
    if entry["own_ns"]:
        return None
    info = posix.stat("/proc/%d/root" % pid)
    return [info.st_dev, info.st_ino]


def exec_op(entry: Entry, run: ExecRun) -> Op | None:
    """("CHROOT", descriptor): exec enters the root as create did. Uses run.root_fd and the result of identity(). None if the mount
    namespace is private. StepFailure if init has left its root: then there is no root to enter."""
    recorded = run.container.state.get("root")
    if entry["own_ns"] or recorded is None:
        return None
    info = fs.fstat(run.root_fd)
    if [info.st_dev, info.st_ino] != recorded:
        raise StepFailure(
            "root-left", "init is no longer in the container's root, and the container has no private mount namespace", pointer="/root"
        )
    return ("CHROOT", run.root_fd)


def init_finish(entry: Entry, run: InitRun) -> None:
    """Init side, after the last change in the root. Sets the propagation of the root mount and makes it read-only; its other flags are
    kept. The StepFailure names the pointer; a root that can't be made read-only is a failure. Not undone."""
    word = entry["propagation"]
    try:
        if word in ("shared", "rshared", "unbindable", "runbindable"):
            mount.propagate(run.root_fd, PROPAGATION[word])
        elif word in ("private", "rprivate"):  # mounts below have their own options
            mount.propagate(run.root_fd, c.MS_PRIVATE)
    except OSError as e:
        words = "cannot set rootfsPropagation=%s: %s" % (word, errno_text(e.errno))
        raise StepFailure(
            "propagation-not-set", words, pointer="/linux/rootfsPropagation", call=CallError.of(e).call, errno=e.errno
        ) from None
    if not entry["readonly"]:
        return
    try:
        mount.make_readonly(run.root_fd, *mount.PATIENCE)
    except OSError as e:
        words = "cannot make the root read-only: %s" % errno_text(e.errno)
        raise StepFailure(
            "root-not-readonly",
            words,
            pointer="/root/readonly",
            call=CallError.of(e).call,
            errno=e.errno,
            hint="a file in it may be open for writing",
        ) from None
