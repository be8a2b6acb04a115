"""The verbs: they create nodes and links at descriptors of directories inside the root, and bind-mount nodes of the host there."""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import _syscalls, fs, mount, paths
from pyrunc.linux import constants as c
from pyrunc.parts.devices.plan import POINTER, TYPES, make_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.linux._syscalls import Call, Stat
    from pyrunc.parts.devices.live import Live
    from pyrunc.parts.devices.plan import Device, Entry
    from pyrunc.parts.sides import HostRun, InitRun

PTMX = "pts/ptmx"
ATTRIBUTES = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC


def init_make(entry: Entry, run: InitRun) -> None:
    """Init side, after the mounts and before the pivot. Uses run.root_fd and run.proc. StepFailure: the image has a different file at the
    path, or the node can't be created. Not undone: nodes on a mounted /dev disappear with the mount; others remain in the root, as with
    runc."""
    own = {paths.mount_id(run.root_fd), *run.own_mounts}
    dev = _folder(run.root_fd, "/dev", lambda fd: paths.mount_id(fd) in own) if entry["dev"] else None
    try:
        for node in entry["nodes"]:
            folder, _, name = node["path"].rpartition("/")
            if folder == "/dev" and dev is not None:
                _make(dev, name, node, entry, run)
            elif node["pointer"] != POINTER:  # from the config; default nodes are left out if /dev is not the container's
                make_at(node, entry, run, lambda fd: paths.mount_id(fd) in own)
        if dev is not None:
            _links(dev, entry["links"])
    finally:
        fs.close(dev)


def _folder(root_fd: int, path: str, is_own: Callable[[int], bool]) -> int | None:
    """-> fd of the directory for a node, created if it is missing; None if it is on a file system that is not the container's. Links are
    not followed: a link in an image could lead to a mount of the host (CVE-2026-41579)."""
    existing = path
    while True:
        try:
            fd = paths.resolve(root_fd, existing or "/", posix.O_PATH | posix.O_DIRECTORY, plain=True)
            break
        except FileNotFoundError:
            existing = existing.rpartition("/")[0]
    if not is_own(fd):
        posix.close(fd)
        return None
    if existing == path:
        return fd
    posix.close(fd)
    return paths.make_dir(root_fd, path, plain=True)


def make_at(node: Device, entry: Entry | Live, run: InitRun, is_own: Callable[[int], bool], tree: int | None = None) -> bool:
    """_make() in the directory of the path. On a file system that is not the container's nothing is created: the node must already
    exist."""
    folder, _, name = node["path"].rpartition("/")
    try:
        fd = _folder(run.root_fd, folder, is_own)
        if fd is None:
            found = _found(run.root_fd, folder, name)
            if found is not None and is_device(found, node):
                return False
            raise StepFailure(
                "foreign-directory", "cannot create the device %s: its directory is on a mount that the container shares" % quote(node["path"]),
                pointer=node["pointer"], path=node["path"], hint="use a path below /dev, or on the root file system",
            )  # fmt: skip
    except OSError as e:
        call = CallError.of(e, "openat2").call
        hint = "links are not followed: name the directory that it leads to" if e.errno == errno.ELOOP else None
        raise StepFailure(
            "device-not-made", "cannot create the device %s: %s: %s" % (quote(node["path"]), call, errno_text(e.errno)),
            pointer=node["pointer"], call=call, errno=e.errno, path=node["path"], hint=hint,
        ) from None  # fmt: skip
    try:
        return _make(fd, name, node, entry, run, tree)
    finally:
        posix.close(fd)


def _found(root_fd: int, folder: str, name: str) -> Stat | None:
    """stat of the existing entry, following links of the image; None if there is none, or its directory does not exist."""
    try:
        fd = paths.resolve(root_fd, folder, posix.O_PATH | posix.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        return look(fd, name)
    finally:
        posix.close(fd)


def _make(folder: int, name: str, node: Device, entry: Entry | Live, run: InitRun, tree: int | None = None) -> bool:
    """Creates the node; False if it already exists. tree: a clone of the host's node (stays open), or None to clone it here if needed."""
    try:
        binds = entry["bind"] and node["type"] != "p"
        if not binds:  # usually there is nothing at the path, so try first and look only after an error
            try:
                if _mknod(folder, name, node, entry, run):
                    return True
                binds = True
            except FileExistsError:
                pass
        found = look(folder, name)
        if found is not None and is_device(found, node):
            return False
        if found is not None and not (binds and found.st_mode & c.S_IFMT == c.S_IFREG):  # our empty file, the mount point for the bind
            if not (entry["own_dev"] and node["path"].startswith("/dev/")):
                raise StepFailure(
                    "other-device-there", "%s in the root is not the device %s" % (quote(node["path"]), shown(node)), pointer=node["pointer"], path=node["path"],
                    hint="remove it from the image, or mount a tmpfs on /dev",
                )  # fmt: skip
            fs.unlink(name, dir_fd=folder)
        if not binds:
            binds = not _mknod(folder, name, node, entry, run)
        if binds:
            _bind(folder, name, node, tree, run)
        return True
    except OSError as e:
        failed = CallError.of(e, "open")
        words = failed.words or "%s: %s" % (failed.call, errno_text(e.errno))
        raise StepFailure(
            "device-not-made", "cannot create the device %s: %s" % (quote(node["path"]), words), pointer=node["pointer"], call=failed.call,
            errno=e.errno, path=node["path"],
        ) from None  # fmt: skip


def look(folder: int, name: str) -> Stat | None:
    """lstat of the entry, or None if it does not exist."""
    try:
        return fs.stat(name, dir_fd=folder)
    except FileNotFoundError:
        return None


def is_device(found: Stat, node: Device) -> bool:
    """Compares type and numbers. Files and pipes have no numbers, so the type comes first."""
    if found.st_mode & c.S_IFMT != TYPES[node["type"]]:
        return False
    return node["type"] == "p" or (posix.major(found.st_rdev), posix.minor(found.st_rdev)) == (node["major"], node["minor"])


def shown(node: Device) -> str:
    return "p" if node["type"] == "p" else "%s %d:%d" % (node["type"], node["major"], node["minor"])


def _mknod(folder: int, name: str, node: Device, entry: Entry | Live, run: InitRun) -> bool:
    """True, or False if the kernel does not allow us to create devices and a bind mount can be used instead."""
    kind = TYPES[node["type"]]
    device = 0 if node["type"] == "p" else posix.makedev(node["major"], node["minor"])
    there: list[Call] = [
        ("OPENAT", folder, name, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC),
        ("IS_FILE", _syscalls.FIRST, kind, device, node["path"]),
    ]
    try:
        _syscalls.calls(
            [
                ("MKNODAT", folder, name, kind | (node["mode"] & 0o700), device),
                *there,
                ("FCHOWN", _syscalls.FIRST, node["uid"], node["gid"]),
                ("FCHMOD", _syscalls.FIRST, node["mode"]),  # by descriptor, so that neither the umask nor a replaced name matters
            ],
            -1,
        )
    except CallError as e:
        if not e.at and e.errno == errno.EPERM and entry["mount_ns"] and node["type"] != "p":
            return False
        if e.call != "fchmodat2" or e.errno != errno.ENOSYS:
            raise
        _chmod_by_link(_syscalls.calls(there, _syscalls.FIRST), node["mode"], run)
    return True


def _chmod_by_link(fd: int, mode: int, run: InitRun) -> None:
    """fchmodat2(2) before Linux 6.6. Closes the descriptor."""
    links = -1
    try:
        links = run.proc.open("thread-self/fd", posix.O_PATH | posix.O_DIRECTORY)
        posix.chmod("%d" % fd, mode, dir_fd=links)
    finally:
        fs.close(fd, links)


def host_node(node: Device) -> int:
    """-> fd of a detached clone of the host's node at the same path, verified to be the device."""
    try:
        tree = mount.clone(node["path"], flags=c.AT_SYMLINK_NOFOLLOW)
    except OSError as e:
        words = "the host's node %s cannot be bound: %s" % (quote(node["path"]), errno_text(e.errno))
        raise CallError.of(e, words=words) from None
    try:
        if not is_device(fs.fstat(tree), node):
            raise StepFailure(
                "host-device-differs",
                "the host's %s is not %s" % (quote(node["path"]), shown(node)),
                pointer=node["pointer"],
                path=node["path"],
            )
        mount.setattr(tree, ATTRIBUTES, 0)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def _source(node: Device, run: InitRun) -> int:
    """-> fd of a detached clone of the host's node, or of one that the host side creates if the host has none."""
    try:
        return host_node(node)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
    _answer, fds = run.ask("devices", {"path": node["path"]})
    return fds[0]


def host_answer(entry: Entry, run: HostRun, request: dict[str, str]) -> tuple[dict[str, object], list[int]]:
    """Host side, while init creates its nodes in a user namespace, where mknod is not allowed. request: {"path"} of a node that the host
    lacks -> ({}, [fd of a detached mount of one with the owner and mode of the config]). It is created in the container's state directory,
    which only root can enter, and removed with it. OSError, StepFailure: the owner is not mapped."""
    index, node = next((i, one) for i, one in enumerate(entry["nodes"]) if one["path"] == request["path"])
    maps = run.plans.get("idmaps")
    uid, gid = (_outer(maps["uid"], node["uid"]), _outer(maps["gid"], node["gid"])) if maps else (node["uid"], node["gid"])
    if uid is None or gid is None:
        raise StepFailure("unmapped-id", "the owner of the device %s is not mapped" % quote(node["path"]), pointer=node["pointer"])
    name = "device.%d" % index
    try:
        fs.mknod(name, TYPES[node["type"]], posix.makedev(node["major"], node["minor"]), dir_fd=run.dir_fd)
        _syscalls.fchownat(run.dir_fd, name.encode(), uid, gid, c.AT_SYMLINK_NOFOLLOW)
        posix.chmod(name, node["mode"], dir_fd=run.dir_fd)
        tree = mount.clone(name, dir_fd=run.dir_fd, flags=c.AT_SYMLINK_NOFOLLOW)
    except OSError as e:
        words = "the host has no device %s, and none can be made: %s" % (quote(node["path"]), errno_text(e.errno))
        raise CallError.of(e, words=words, pointer=node["pointer"]) from None
    try:
        mount.setattr(tree, ATTRIBUTES, c.MOUNT_ATTR_NODEV)  # /run rarely allows devices
    except BaseException:
        posix.close(tree)
        raise
    return {}, [tree]


def _outer(ranges: list[list[int]], number: int) -> int | None:
    return next((outer + number - inner for inner, outer, count in ranges if inner <= number < inner + count), None)


def _bind(folder: int, name: str, node: Device, given: int | None, run: InitRun) -> None:
    """Binds the host's node onto an empty file."""
    tree = _source(node, run) if given is None else given
    try:
        try:
            posix.close(fs.open(name, posix.O_RDONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_NONBLOCK, 0, folder))
        except FileExistsError:
            pass  # a file of an earlier run; checked below
        target = fs.open(name, posix.O_PATH | posix.O_NOFOLLOW, dir_fd=folder)
        try:
            if fs.kind(target) != c.S_IFREG:
                raise fs.failure(errno.EEXIST, "openat", node["path"])
            mount.attach(tree, target)
        finally:
            posix.close(target)
        mount.propagate(tree, c.MS_PRIVATE)
        found = fs.stat(name, dir_fd=folder)
        if not is_device(found, node):
            raise fs.failure(errno.ESTALE, "fstatat", node["path"])
    finally:
        if given is None:
            posix.close(tree)


def _links(dev: int, links: list[list[str]]) -> None:
    """Creates the links. Existing files are kept, except for ptmx: it must lead to the container's own devpts."""
    left: list[Call] = [("SYMLINKAT", dev, name, target) for name, target in links]
    while left:
        try:
            _syscalls.calls(left, -1)
            break
        except CallError as e:
            if e.errno != errno.EEXIST or e.at is None:
                raise
            del left[: e.at + 1]
    try:
        fs.symlink(PTMX, "ptmx", dir_fd=dev)
        return
    except FileExistsError:
        pass
    try:
        if fs.readlink("ptmx", dir_fd=dev) == PTMX:
            return
    except OSError as e:
        if e.errno != errno.EINVAL:  # not a link
            raise
    try:
        fs.unlink("ptmx", dir_fd=dev)
    except OSError as e:
        if e.errno == errno.EBUSY and is_device(fs.stat("ptmx", dir_fd=dev), make_node("ptmx", "c", 5, 2, 0, 0, 0, POINTER)):
            return  # the config has mounted one there
        raise CallError.of(e, words="/dev/ptmx in the root cannot be replaced: %s" % errno_text(e.errno)) from None
    fs.symlink(PTMX, "ptmx", dir_fd=dev)
