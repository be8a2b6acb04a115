"""restore: prepares the mounts that CRIU uses, in its process and a private mount namespace, before execve.

The sources of all external mounts are mounted below one directory, each with the flags and id map that create would use: CRIU copies a
mount unchanged, but loses the flags of the second of two equal mounts, and does not support id maps. If the mount of a source receives
mounts of the host (always if `/` is shared), that mount is included as a whole: CRIU copies the sharing of mounts that are slaves of the
same mount from a single source, and the kernel only allows copying it within the source's root (move_mount(2), MOVE_MOUNT_SET_GROUP).
Invariant: all of this exists only in that namespace; the host sees none of it, and it disappears when CRIU exits.
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.cgroup import hierarchies
from pyrunc.engine import planner
from pyrunc.engine.criu_external import NULL, TABLE_LIMIT, items, mounted, nodes
from pyrunc.errors import CallError, StepFailure, errno_text, quote
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, mountinfo, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import MountTable
    from pyrunc.parts.sides import Entry

    Clone = tuple[int, str, int | None]  # from clones()

NOTIFY = "/run/notify"
EMPTY = ("/mnt", "/media", "/srv", "/opt", "/home", "/var/empty")
NULL_DEVICE = (1, 3)
PARENTS = 100  # dumps in a chain
COVER = c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC  # as in parts/paths.py for masked files
NODE = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC  # as in parts/devices/make.py for bound nodes


def folder(run: Run, own: str) -> str:
    """The directory for the mounts: `own` in the container's state directory. A process in a user namespace may not enter that, so in this
    case it is an empty directory of the host that everybody may enter; it is covered only in CRIU's mount namespace."""
    if run.plans["namespaces"]["userns"]:
        for path in EMPTY:
            try:
                if posix.stat(path).st_mode & 0o001 and not posix.listdir(path):
                    return path
            except OSError:
                continue
    return own


def _wanted(run: Run) -> list[tuple[str, str, Any]]:
    """[(name in the images, kind, what)]; the index in this list is the name below the directory. what: an item of the mounts, or a
    path."""
    found: list[tuple[str, str, Any]] = []
    for item in items(run):
        if item["kind"] == "bind":
            found.append((item["destination"], "bind", item))
        elif item["kind"] == "cgroup" and not run.plans["mounts"]["cgroupns"]:
            found += [(where, "cgroup", {**item, "source": source}) for where, source in _cgroups(run, item["destination"])]
    if (planner.entry(run.plans, "paths") or {}).get("masked"):
        found.append((NULL, "null", NULL))
    return found + [(path, "node", path) for path in nodes(run)]


def _cgroups(run: Run, where: str) -> list[tuple[str, str]]:
    """The container's cgroups on this host, by the path of their bind mounts; see parts/mounts/cgroupfs.py."""
    own = run.stored.state.get("cgroup_paths") or {}
    layout = hierarchies.layout()
    if layout.version == 2:
        return [(where, layout.mounts["unified"][0])]
    return [
        ("%s/%s" % (where, point.rpartition("/")[2]), own.get(key) or (point + layout.own_path(key)).rstrip("/"))
        for key, (point, _root, _device) in layout.mounts.items()
        if key != "unified"
    ]


# -- options for CRIU ----------------------------------------------------------------------------------------------------


def named(run: Run, sources: str, spare: str) -> list[tuple[str, str]]:
    """[(name, path)]; names that are not in the images are ignored. spare: an empty directory, for the mount of a supervisor's socket at
    the dump (sd_notify(3)). Uses run.plans, run.rootfs, run.stored."""
    found = {NOTIFY: spare}
    aliases: dict[str, str] = {}
    host = None
    groups = _groups(run)
    rootfs = run.rootfs or "/"
    root_fd = fs.open(rootfs, posix.O_PATH | posix.O_DIRECTORY)
    try:
        for number, (name, kind, what) in enumerate(_wanted(run)):
            if kind == "bind":
                _check_source(what)
            around = _around(groups, kind, what)
            path = found[name] = "%s/%d" % (sources, number) + (around[1] if around else "")
            if kind != "bind":
                continue
            if what["flags"] & c.MS_REC:
                host = host or mounted("self")
                for below in _below(host, what["source"]):
                    found.setdefault(name + below, path + below)
            for fixed, _pointer in (planner.entry(run.plans, "paths") or {}).get("readonly", ()):
                if fixed.startswith(name + "/"):  # a bind mount of part of this one
                    found.setdefault(fixed, path + fixed[len(name) :])
            aliases.setdefault(_inside(root_fd, name, rootfs), path)
    finally:
        posix.close(root_fd)
    return sorted({**aliases, **found}.items())


def _check_source(item: Entry) -> None:
    try:
        posix.stat(item["source"])
    except OSError as e:
        words = "bind mount source stat: stat %s: %s" % (quote(item["source"]), errno_text(e.errno))
        raise StepFailure(
            "no-mount-source", words, "restore.mounts", "host", item["pointer"] + "/source", "stat", e.errno, item["source"]
        ) from None


def _below(host: MountTable, source: str) -> list[str]:
    """The mounts below the source of an rbind, relative to it: "/sub"."""
    fd = fs.open(source, posix.O_PATH)
    try:
        real = posix.readlink("/proc/self/fd/%d" % fd).rstrip("/")
    finally:
        posix.close(fd)
    return [point[len(real) :] for _parent, point, _kind in host.values() if point.startswith(real + "/")]


def _inside(root_fd: int, where: str, rootfs: str) -> str:
    """The destination with the links of the image resolved: the name that runc uses in its images."""
    try:
        fd = paths.resolve(root_fd, where)
    except OSError:
        return where
    try:
        found = posix.readlink("/proc/self/fd/%d" % fd)
    finally:
        posix.close(fd)
    return found[len(rootfs) :] if found.startswith(rootfs + "/") else where


# -- the mount of a source ------------------------------------------------------------------------------------------------


def _groups(run: Run) -> dict[int, str]:
    """{mount id: mount point} of our mounts that are shared or slaves. None in a user namespace, where CRIU's processes resolve the sources
    themselves and may not enter the host's directories, and if the root propagates to the host, which must not see these mounts."""
    if run.plans["namespaces"]["userns"] or run.plans["root"]["propagation"] in ("shared", "rshared"):
        return {}
    found = {}
    for line in fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", TABLE_LIMIT)).split("\n"):
        for _device, _top, point, _kind, _settings in mountinfo.table(line):
            fields = line.partition(" - ")[0].split(" ")
            if any(field.startswith(("shared:", "master:")) for field in fields[6:]):
                found[int(fields[0])] = point
    return found


def _around(groups: dict[int, str], kind: str, what: Any) -> tuple[str, str] | None:
    """(mount point of the mount that contains a source, path of the source relative to it: "/etc/hosts"); None if the source alone is
    sufficient."""
    if not groups or kind == "cgroup":
        return None
    source = what["source"] if kind == "bind" else what
    follow = kind == "bind" and "src-nofollow" not in what["links"]
    fd = fs.open(source, posix.O_PATH if follow else posix.O_PATH | posix.O_NOFOLLOW)
    try:
        number = paths.mount_id(fd)
        real = posix.readlink("/proc/self/fd/%d" % fd)
        point = groups.get(number)
        if point is None or paths.is_mount_root(fd):
            return None
        top = fs.open(point, posix.O_PATH)
        try:
            if paths.mount_id(top) != number:  # covered by another mount
                return None
        finally:
            posix.close(top)
        rest = real[len(point.rstrip("/")) :]
        return (point, rest) if real.startswith(point) and rest.startswith("/") else None
    finally:
        posix.close(fd)


# -- in CRIU's process ---------------------------------------------------------------------------------------------------


def clones(run: Run) -> list[Clone]:
    """[(fd of a detached mount, path of the source in it, fd of the source with what is mounted below it or None)] for everything that
    named() lists. Called before anything else is mounted or made private in this namespace, so that mounts that should continue to receive
    the host's mounts do."""
    found: list[Clone] = []
    groups = _groups(run)
    host = mounted("self") if groups else {}
    try:
        for _name, kind, what in _wanted(run):
            around = _around(groups, kind, what)
            if around is None:
                found.append((MAKERS[kind](run, what), "", None))
                continue
            point, rest = around
            below = kind == "bind" and what["flags"] & c.MS_REC and _below(host, what["source"])
            wide = {**what, "source": point, "flags": what["flags"] & ~c.MS_REC} if kind == "bind" else point
            found.append((MAKERS[kind](run, wide), rest, None))
            _check_same(found[-1][0], rest, kind, what)
            if below:
                found[-1] = (*found[-1][:2], MAKERS[kind](run, what))
    except BaseException:
        for tree, _rest, more in found:
            fs.close(tree, more)
        raise
    return found


def _check_same(tree: int, rest: str, kind: str, what: Any) -> None:
    """Checks that the path below the clone leads to the source, and to the host's /dev/null if that is expected."""
    source = what["source"] if kind == "bind" else what
    fd = fs.open(rest[1:], posix.O_PATH | posix.O_NOFOLLOW, dir_fd=tree)
    try:
        here, there = posix.fstat(fd), posix.stat(source)
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            words = "bind mount source %s has been moved" % quote(source)
            raise StepFailure("no-mount-source", words, "restore.mounts", "host", path=source)
    finally:
        posix.close(fd)


def attach(trees: list[Clone], place: str) -> None:
    """Attaches the clones below the directory `place`, and closes them."""
    top = mount.new("tmpfs", "tmpfs", 0, c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC, ["mode=755"])
    target = fs.open(place, posix.O_PATH | posix.O_DIRECTORY)
    try:
        mount.attach(top, target)
        for number, (tree, rest, more) in enumerate(trees):
            _put(top, "%d" % number, tree)
            if more is not None:
                _put(top, "%d-below" % number, more)
                _lay_below(tree, rest[1:], more, "%s/%d-below" % (place, number))
    finally:
        fs.close(top, target)
        for tree, _rest, more in trees:
            fs.close(tree, more)


def _lay_below(tree: int, rest: str, more: int, where: str) -> None:
    """Attaches the mounts included in `more`, which is mounted at `where`, at their places below the source in `tree`."""
    points = [point[len(where) + 1 :] for _parent, point, _kind in mounted("self").values() if point.startswith(where + "/")]
    for point in points:  # in the order in which they were mounted
        child = mount.clone(point, dir_fd=more)
        target = fs.open("%s/%s" % (rest, point), posix.O_PATH | posix.O_NOFOLLOW, dir_fd=tree)
        try:
            mount.attach(child, target)
        finally:
            fs.close(child, target)


def _put(top: int, name: str, tree: int) -> None:
    if fs.kind(tree) == c.S_IFDIR:
        fs.mkdir(name, 0o755, dir_fd=top)
    else:
        posix.close(fs.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600, dir_fd=top))
    target = fs.open(name, posix.O_PATH | posix.O_NOFOLLOW, dir_fd=top)
    try:
        mount.attach(tree, target)
    finally:
        posix.close(target)


def _bind(run: Run, item: Entry) -> int:
    """Creates a bind mount like init (parts/mounts/bind.py). The container's user namespace does not exist yet: its maps are in the
    plan."""
    if item["idmap"] is not None and not item["idmap"]["uid"]:
        item = {**item, "idmap": {**item["idmap"], **_maps(run)}}
    trees: tuple[int, ...]
    _answer, trees = planner.module("mounts").host_answer({"list": [item]}, run, {"index": 0})
    (tree,) = trees
    try:
        planner.module("mounts.bind").set_flags(tree, item)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def _cgroup(_run: Run, item: Entry) -> int:
    tree = mount.clone(item["source"])
    planner.module("mounts.bind").set_flags(tree, item)
    return tree


def _null(_run: Run, path: str) -> int:
    """path: /dev/null, or the mount that contains it."""
    tree = mount.clone(path, flags=c.AT_SYMLINK_NOFOLLOW)
    if fs.char_device(posix.stat(NULL)) != NULL_DEVICE:
        posix.close(tree)
        raise StepFailure(
            "bad-null-device",
            "the host's /dev/null is not the null device (c 1:3)",
            "restore.mounts",
            "host",
            "/linux/maskedPaths",
            path=path,
        )
    mount.setattr(tree, COVER, 0)
    return tree


def _node(_run: Run, path: str) -> int:
    tree = mount.clone(path, flags=c.AT_SYMLINK_NOFOLLOW)
    mount.setattr(tree, NODE, 0)
    return tree


MAKERS: dict[str, Callable[[Run, Any], int]] = {"bind": _bind, "cgroup": _cgroup, "null": _null, "node": _node}


def _maps(run: Run) -> dict[str, Any]:
    entry = planner.entry(run.plans, "idmaps") or {}
    return {"uid": entry.get("uid") or [], "gid": entry.get("gid") or []}


def make_mount_points(run: Run) -> None:
    """Creates mount points that are missing in the image, like create; run.root_fd is the container's root. Bind mounts exist while this
    happens, because other mount points may be inside them. Mount points in the container's own file systems are part of the images."""
    mountpoint, bind = planner.module("mounts.mountpoint"), planner.module("mounts.bind")
    fresh: list[str] = []
    attached: list[int] = []
    try:
        for item in items(run):
            if item["kind"] == "remount" or any(item["destination"].startswith(top + "/") for top in fresh):
                continue
            if item["kind"] != "bind":
                posix.close(mountpoint.find_dir(item, run)[0])
                fresh.append(item["destination"])
                continue
            tree = bind.clone(item)
            attached.append(tree)
            target = mountpoint.find_dir(item, run)[0] if fs.kind(tree) == c.S_IFDIR else mountpoint.find_file(item, run)
            try:
                mount.attach(tree, target)
            finally:
                posix.close(target)
    except OSError as e:
        failed = CallError.of(e)
        words = failed.words or "%s: %s" % (quote(item["destination"]), errno_text(e.errno))
        words = "create criu restore mountpoint for %s mount: %s" % (quote(item["destination"]), words)
        pointer = failed.pointer or item["pointer"]
        raise StepFailure(
            "mount-not-restored", words, "restore.mounts", "host", pointer, failed.call, e.errno, item["destination"]
        ) from None
    finally:
        for tree in reversed(attached):
            if paths.is_mount_root(tree):
                mount.detach(tree, run.proc)
            posix.close(tree)


def open_images(run: Run, sources: str, path: str) -> int:
    """-> fd of the directory that CRIU reads the images from. In a user namespace, its processes also read them, some before they have an
    id there, but only root can enter the directory: so they get another directory, with the same files mounted in it."""
    if not run.plans["namespaces"]["userns"]:
        return fs.open(path, posix.O_RDONLY | posix.O_DIRECTORY)
    top = fs.open(sources, posix.O_PATH | posix.O_DIRECTORY)
    source = fs.open(path, posix.O_RDONLY | posix.O_DIRECTORY)
    try:
        _lay_images(top, "images", source, PARENTS)
        return fs.open("images", posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=top)
    finally:
        fs.close(top, source)


def _lay_images(top: int, name: str, source: int, depth: int) -> None:
    """The files of a directory, and those of the earlier dumps that it depends on, which the link "parent" points to."""
    fs.mkdir(name, 0o755, dir_fd=top)
    folder = fs.open(name, posix.O_PATH | posix.O_DIRECTORY, dir_fd=top)
    try:
        for found in posix.listdir(source):
            if found == "parent" and depth:
                below = fs.open(found, posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=source)
                try:
                    _lay_images(folder, found, below, depth - 1)
                finally:
                    posix.close(below)
            elif fs.stat(found, dir_fd=source).st_mode & c.S_IFMT == c.S_IFREG:
                tree = mount.clone(found, dir_fd=source, flags=c.AT_SYMLINK_NOFOLLOW)
                try:
                    _put(folder, found, tree)
                finally:
                    posix.close(tree)
    finally:
        posix.close(folder)
