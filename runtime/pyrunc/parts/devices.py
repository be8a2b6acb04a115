"""/linux/devices and the nodes and links of /dev that every container has (runtime-spec, config-linux.md#devices, #default-devices,
runtime-linux.md#dev-symbolic-links).

Its one rule: all work is done by *at calls on the descriptor of a directory inside the root, and a node is accepted only if its type
and numbers are right (CVE-2026-41579: an image's /dev that leads somewhere else; CVE-2025-31133: a fake /dev/null).
/dev/console belongs to the part terminal.
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
    from collections.abc import Callable
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, HostRun, InitRun

    class Given(TypedDict, total=False):
        type: str
        path: str
        major: int
        minor: int
        fileMode: int
        uid: int
        gid: int

    Node = TypedDict(
        "Node",
        {"/linux/devices": list[Given]},
        total=False,
    )

    class Device(TypedDict):
        path: str
        type: str
        major: int
        minor: int
        mode: int
        uid: int
        gid: int
        pointer: str

    class Entry(TypedDict):
        nodes: list[Device]
        links: list[list[str]]  # [name, target]
        dev: bool  # /dev is ours to fill
        own_dev: bool  # the config mounts a new file system there
        bind: bool  # nodes of the host are bound instead of made (user namespace)
        mount_ns: bool

    class Live(TypedDict):
        """A device for a container that runs."""

        node: Device
        bind: bool
        own_dev: bool
        mount_ns: bool
        shared: list[int]  # st_dev of the file systems that the host has mounted


POINTER: Final = "/linux/devices"
DEFAULTS = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"))
CORE = ("core", "/proc/kcore")
PRIVATE = ("tmpfs", "ramfs")  # a mount of these is a new file system
PTMX = "pts/ptmx"
TYPES = {"c": c.S_IFCHR, "u": c.S_IFCHR, "b": c.S_IFBLK, "p": c.S_IFIFO}
TABLE_LIMIT = 64 << 20
MAJOR_LIMIT, MINOR_LIMIT = 1 << 12, 1 << 20  # the kernel's bits; more would be cut off silently
ATTRIBUTES = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: {"/linux/devices": [...]} or {}. Entry: {"nodes": [{"path", "type", "major", "minor", "mode", "uid", "gid", "pointer"}],
    "links": [[name, target]], "dev": whether /dev is ours to fill, "own_dev": whether the config mounts a new file system there,
    "bind": nodes of the host are bound in place of made ones (user namespace), "mount_ns": bool}; None if nothing is to be done.
    Refused: an unknown type; a path that is relative, / or has ..; numbers that are missing or too big; two nodes for one path;
    /dev/null as anything else; ids that are not mapped."""
    namespaces = ctx.plans["namespaces"]
    mounts = ctx.plans.get("mounts")
    listed = mounts["list"] if mounts else []
    below_dev = [m for m in listed if m["destination"] == "/dev" and m["kind"] != "remount"]
    own_dev = bool(below_dev) and below_dev[-1]["kind"] == "fs" and below_dev[-1]["type"] in PRIVATE
    entry: Entry = {
        "nodes": [],
        "links": [],
        "dev": own_dev or not below_dev,
        "own_dev": own_dev,
        "bind": bool(namespaces.get("userns")) or ctx.in_userns,
        "mount_ns": "mount" in namespaces["new"] or "mount" in namespaces["join"],
    }
    given = _given(node.get(POINTER) or [], ctx)
    if entry["dev"]:
        for path, major, minor in DEFAULTS:
            if path not in given:
                entry["nodes"].append(_node(path, "c", major, minor, 0o666, 0, 0, POINTER))
        entry["links"] = [list(link) for link in LINKS] + ([list(CORE)] if _exists("/proc/kcore") else [])
    for path, made in given.items():
        if entry["dev"] or not path.startswith("/dev/"):
            entry["nodes"].append(made)
        else:
            ctx.warn(
                made["pointer"], "%s is not made: /dev is a mount that others see too, and its contents stay as they are" % quote(path)
            )
    return entry if entry["nodes"] or entry["links"] else None


def _node(path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int, pointer: str) -> Device:
    return {"path": path, "type": kind, "major": major, "minor": minor, "mode": mode, "uid": uid, "gid": gid, "pointer": pointer}


def _given(devices: list[Given], ctx: Context) -> dict[str, Device]:
    """{path: node} of the config's list, in its order."""
    given: dict[str, Device] = {}
    for index, device in enumerate(devices):
        pointer = "%s/%d" % (POINTER, index)
        made = _planned(device, pointer, ctx)
        path = made["path"]
        if path == "/dev/ptmx" or (path == "/dev/console" and ctx.plans.get("terminal")):
            continue  # the link to our devpts and the terminal are there
        if path in given and _identity(made) != _identity(given[path]):
            raise Refusal(
                "duplicate-device",
                "two different devices for the path %s" % quote(path),
                pointer,
                "the other is %s" % given[path]["pointer"],
            )
        if path == "/dev/null" and _identity(made) != ("c", 1, 3):
            raise Refusal("bad-null-device", "/dev/null must be c 1:3", pointer, "masked paths and stdio depend on it")
        given.setdefault(path, made)
    return given


def _identity(node: Device) -> tuple[str, int, int]:
    return node["type"], node["major"], node["minor"]


def _planned(device: Given, pointer: str, ctx: Context) -> Device:
    kind = device.get("type")
    if kind not in TYPES:
        raise Refusal("unknown-device-type", 'invalid device type "%s"' % quote(kind or ""), pointer + "/type", "c, b, u or p")
    path = device.get("path") or ""
    if path[:1] != "/" or ".." in path.split("/") or "\0" in path or "\n" in path or paths.clean(path) == "/":
        raise Refusal(
            "bad-device-path", 'device path "%s" must be absolute, below the root and without ..' % quote(path), pointer + "/path"
        )
    numbers = []
    for key, value, limit in (("major", device.get("major"), MAJOR_LIMIT), ("minor", device.get("minor"), MINOR_LIMIT)):
        if value is None and kind == "p":
            value = 0
        if value is None:
            raise Refusal("no-device-number", "device %s has no %s number" % (quote(path), key), pointer, "give /%s" % key)
        if not 0 <= value < limit:
            raise Refusal(
                "device-number-range",
                "device %s: %s %d is not between 0 and %d" % (quote(path), key, value, limit - 1),
                "%s/%s" % (pointer, key),
            )
        numbers.append(value if kind != "p" else 0)
    mode = device.get("fileMode", 0o666)
    if not 0 <= mode <= 0o7777:
        raise Refusal("bad-file-mode", "device %s: fileMode %o is more than 7777 (octal)" % (quote(path), mode), pointer + "/fileMode")
    uid, gid = device.get("uid", 0), device.get("gid", 0)
    maps = ctx.plans.get("idmaps")
    for key, value, ranges in (("uid", uid, maps["uid"]), ("gid", gid, maps["gid"])) if maps else ():
        if not any(first <= value < first + count for first, _outer, count in ranges):
            raise Refusal(
                "unmapped-id",
                "device %s: %s %d is not mapped in the user namespace" % (quote(path), key, value),
                "%s/%s" % (pointer, key),
            )
    return _node(paths.clean(path), "c" if kind == "u" else kind, numbers[0], numbers[1], mode, uid, gid, pointer)


def _exists(path: str) -> bool:
    try:
        return bool(posix.stat(path))
    except OSError:
        return False


# --- the verb


def init_make(entry: Entry, run: InitRun) -> None:
    """Init side, after the mounts and before the pivot. Uses run.root_fd and run.proc. StepFailure: a node that the image has there is
    another one, or can't be made. Not undone: nodes on a mounted /dev disappear with the mount; others stay in the root, as with runc."""
    own = {paths.mount_id(run.root_fd), *run.own_mounts}
    dev = _folder(run.root_fd, "/dev", lambda fd: paths.mount_id(fd) in own) if entry["dev"] else None
    try:
        for node in entry["nodes"]:
            folder, _, name = node["path"].rpartition("/")
            if folder == "/dev" and dev is not None:
                _make(dev, name, node, entry, run)
            elif node["pointer"] != POINTER:  # of the config; the default ones are left out on a /dev that is not the container's
                _make_at(node, entry, run, lambda fd: paths.mount_id(fd) in own)
        if dev is not None:
            _links(dev, entry["links"])
    finally:
        fs.close(dev)


def _folder(root_fd: int, path: str, is_own: Callable[[int], bool]) -> int | None:
    """-> fd of a directory that nodes may be made in, itself made if it is missing; None where it is on somebody else's file system. Not
    through links: those of an image could lead to a mount of the host's (CVE-2026-41579)."""
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


def _make_at(node: Device, entry: Entry | Live, run: InitRun, is_own: Callable[[int], bool], tree: int | None = None) -> bool:
    """_make() in the directory of the path; on somebody else's file system only what is there already will do."""
    folder, _, name = node["path"].rpartition("/")
    try:
        fd = _folder(run.root_fd, folder, is_own)
        if fd is None:
            found = _found(run.root_fd, folder, name)
            if found is not None and _is(found, node):
                return False
            raise StepFailure(
                "foreign-directory", "cannot make the device %s: its directory is on a mount that the container shares" % quote(node["path"]),
                pointer=node["pointer"], path=node["path"], hint="give it a path below /dev, or in the root itself",
            )  # fmt: skip
    except OSError as e:
        call = CallError.of(e, "openat2").call
        hint = "links are not followed: name the directory that it leads to" if e.errno == errno.ELOOP else None
        raise StepFailure(
            "device-not-made", "cannot make the device %s: %s: %s" % (quote(node["path"]), call, errno_text(e.errno)),
            pointer=node["pointer"], call=call, errno=e.errno, path=node["path"], hint=hint,
        ) from None  # fmt: skip
    try:
        return _make(fd, name, node, entry, run, tree)
    finally:
        posix.close(fd)


def _found(root_fd: int, folder: str, name: str) -> posix.stat_result | None:
    """What is there already, also through links of the image; None if the folder is missing too."""
    try:
        fd = paths.resolve(root_fd, folder, posix.O_PATH | posix.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        return _look(fd, name)
    finally:
        posix.close(fd)


def _make(folder: int, name: str, node: Device, entry: Entry | Live, run: InitRun, tree: int | None = None) -> bool:
    """False if it exists. tree: the host's node, already cloned (stays open); None: it is cloned here if needed."""
    try:
        binds = entry["bind"] and node["type"] != "p"
        if not binds:  # most often nothing is there: the kernel knows without being asked first
            try:
                if _mknod(folder, name, node, entry, run):
                    return True
                binds = True
            except FileExistsError:
                pass
        found = _look(folder, name)
        if found is not None and _is(found, node):
            return False
        if found is not None and not (binds and found.st_mode & c.S_IFMT == c.S_IFREG):  # our empty file, to bind on
            if not (entry["own_dev"] and node["path"].startswith("/dev/")):
                raise StepFailure(
                    "other-device-there", "%s in the root is not the device %s" % (quote(node["path"]), _shown(node)), pointer=node["pointer"], path=node["path"],
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
            "device-not-made", "cannot make the device %s: %s" % (quote(node["path"]), words), pointer=node["pointer"], call=failed.call,
            errno=e.errno, path=node["path"],
        ) from None  # fmt: skip


def _look(folder: int, name: str) -> posix.stat_result | None:
    """stat of what is there, without following links, or None."""
    try:
        return fs.stat(name, dir_fd=folder)
    except FileNotFoundError:
        return None


def _is(found: posix.stat_result, node: Device) -> bool:
    """Compares type and numbers. Files and pipes have no numbers, so the type comes first."""
    if found.st_mode & c.S_IFMT != TYPES[node["type"]]:
        return False
    return node["type"] == "p" or (posix.major(found.st_rdev), posix.minor(found.st_rdev)) == (node["major"], node["minor"])


def _shown(node: Device) -> str:
    return "p" if node["type"] == "p" else "%s %d:%d" % (node["type"], node["major"], node["minor"])


def _mknod(folder: int, name: str, node: Device, entry: Entry | Live, run: InitRun) -> bool:
    """True; False if the kernel does not let us make devices and a bind can be used instead."""
    try:
        fs.mknod(name, TYPES[node["type"]] | (node["mode"] & 0o700), posix.makedev(node["major"], node["minor"]), dir_fd=folder)
    except OSError as e:
        if e.errno == errno.EPERM and entry["mount_ns"] and node["type"] != "p":
            return False
        raise
    fd = fs.open(name, posix.O_PATH | posix.O_NOFOLLOW, dir_fd=folder)
    try:
        if not _is(fs.fstat(fd), node):
            raise fs.failure(errno.ESTALE, "openat", node["path"])
        _syscalls.fchownat(fd, b"", node["uid"], node["gid"], c.AT_EMPTY_PATH)
        _chmod(fd, node["mode"], run)
    finally:
        posix.close(fd)
    return True


def _chmod(fd: int, mode: int, run: InitRun) -> None:
    """By descriptor, so that neither the umask nor a replaced name matters."""
    try:
        _syscalls.fchmodat2(fd, b"", mode, c.AT_EMPTY_PATH)
        return
    except OSError as e:
        if e.errno != errno.ENOSYS:  # before Linux 6.6
            raise
    links = run.proc.open("thread-self/fd", posix.O_PATH | posix.O_DIRECTORY)
    try:
        posix.chmod("%d" % fd, mode, dir_fd=links)
    finally:
        posix.close(links)


def _host_node(node: Device) -> int:
    """-> fd of a detached clone of the host's node of the same path, proven to be the device."""
    try:
        tree = mount.clone(node["path"], flags=c.AT_SYMLINK_NOFOLLOW)
    except OSError as e:
        words = "the host's node %s cannot be bound: %s" % (quote(node["path"]), errno_text(e.errno))
        raise CallError.of(e, words=words) from None
    try:
        if not _is(fs.fstat(tree), node):
            raise StepFailure(
                "host-device-differs",
                "the host's %s is not %s" % (quote(node["path"]), _shown(node)),
                pointer=node["pointer"],
                path=node["path"],
            )
        mount.setattr(tree, ATTRIBUTES, 0)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def _source(node: Device, run: InitRun) -> int:
    """-> fd of a detached clone of the host's node, or of one that the host side makes, where the host has none."""
    try:
        return _host_node(node)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
    _answer, fds = run.ask("devices", {"path": node["path"]})
    return fds[0]


def host_answer(entry: Entry, run: HostRun, request: dict[str, str]) -> tuple[dict[str, object], list[int]]:
    """Host side, while init makes its nodes, in a user namespace, where it can make no devices. request: {"path"} of a node that the host
    lacks -> ({}, [fd of a detached mount of one with the owner and mode of the config]). It is made in the container's directory below
    --root, which only root can enter, and goes with it. OSError, StepFailure: the owner is not mapped."""
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
    """The host's node on an empty file."""
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
        if not _is(found, node):
            raise fs.failure(errno.ESTALE, "fstatat", node["path"])
    finally:
        if given is None:
            posix.close(tree)


def _links(dev: int, links: list[list[str]]) -> None:
    """What exists stays, except for ptmx: it must lead to the container's own devpts."""
    for name, target in links:
        try:
            fs.symlink(target, name, dir_fd=dev)
        except FileExistsError:
            continue
    try:
        if fs.readlink("ptmx", dir_fd=dev) == PTMX:
            return
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.EINVAL):  # EINVAL: not a link
            raise
    try:
        fs.unlink("ptmx", dir_fd=dev)
    except FileNotFoundError:
        pass
    except OSError as e:
        if e.errno == errno.EBUSY and _is(fs.stat("ptmx", dir_fd=dev), _node("ptmx", "c", 5, 2, 0, 0, 0, POINTER)):
            return  # the config has mounted one there
        raise CallError.of(e, words="/dev/ptmx in the root cannot be replaced: %s" % errno_text(e.errno)) from None
    fs.symlink(PTMX, "ptmx", dir_fd=dev)


# --- in a container that runs


def live_plan(device: Given, pointer: str, ctx: Context) -> Live:
    """One device in the config's form -> {"node", "bind", "own_dev", "mount_ns", "shared"}. Refusal as in plan()."""
    namespaces = ctx.plans["namespaces"]
    return {
        "node": _planned(device, pointer, ctx),
        "bind": bool(namespaces.get("userns")) or ctx.in_userns,
        "own_dev": False,  # nothing that exists is replaced
        "mount_ns": False,  # if nodes can't be made, binds are used from the start
        "shared": _file_systems(),
    }


def live_source(entry: Live, _run: HostRun) -> int | None:
    """-> fd of the host's node where one is bound, else None. In the host's mount namespace."""
    return _host_node(entry["node"]) if entry["bind"] and entry["node"]["type"] != "p" else None


def live_make(entry: Live, run: InitRun, tree: int | None) -> bool:
    """Makes the node beneath run.root_fd; False if it exists. In the container's mount namespace, as its root. StepFailure."""
    return _make_at(entry["node"], entry, run, _not_shared(entry, run), tree)


def _not_shared(entry: Live, run: InitRun) -> Callable[[int], bool]:
    """For a directory: it is on the root's own mount, or on a file system that the host has not mounted."""
    root = paths.mount_id(run.root_fd)
    return lambda fd: paths.mount_id(fd) == root or fs.fstat(fd).st_dev not in entry["shared"]


def _file_systems() -> list[int]:
    """The devices of all file systems that the runtime sees."""
    found = {device for device, *_more in mountinfo.table(fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", TABLE_LIMIT)))}
    return sorted([posix.makedev(*[int(number) for number in device.split(":")]) for device in found])


def live_remove(entry: Live, run: InitRun) -> None:
    """Removes the node if it is this device; what is bound there is unmounted first. Tolerates a missing node. StepFailure."""
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
    found = _look(folder, name)
    if found is None:
        return
    if not _is(found, node):
        raise StepFailure(
            "other-device-there",
            "%s in the root is not the device %s" % (quote(node["path"]), _shown(node)),
            pointer=node["pointer"],
            path=node["path"],
        )
    fd = fs.open(name, posix.O_PATH | posix.O_NOFOLLOW, dir_fd=folder)
    try:
        if paths.is_mount_root(fd):
            mount.detach(fd, run.proc)
            below = _look(folder, name)
            if below is None or below.st_mode & c.S_IFMT != c.S_IFREG or below.st_size:
                return  # not the empty file that was made as its mount point
    finally:
        posix.close(fd)
    fs.unlink(name, dir_fd=folder)
