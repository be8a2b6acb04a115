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
from pyrunc.engine import planner
from pyrunc.engine.criu_external import TABLE_LIMIT, asked_of, mounted
from pyrunc.errors import StepFailure, errno_text, quote
from pyrunc.linux import constants as c
from pyrunc.linux import fs, mount, mountinfo, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.engine.run import Run
    from pyrunc.engine.shapes import MountTable
    from pyrunc.parts.sides import External

    Clone = tuple[int, str, int | None]  # from clones()

NOTIFY = "/run/notify"
EMPTY = ("/mnt", "/media", "/srv", "/opt", "/home", "/var/empty")
PARENTS = 100  # dumps in a chain


def folder(run: Run, own: str) -> str:
    """The directory for the mounts: `own` in the container's state directory. A process in a user namespace may not enter that, so in this
    case it is an empty directory of the host that every user may enter; it is covered only in CRIU's mount namespace."""
    if planner.module("namespaces").in_userns(run.plans):
        for path in EMPTY:
            try:
                if posix.stat(path).st_mode & 0o001 and not posix.listdir(path):
                    return path
            except OSError:
                continue
    return own


def _wanted(run: Run) -> list[External]:
    """All sources; the index in this list is the name below the directory."""
    return [one for part in ("mounts", "paths", "devices") for one in asked_of(run, part, "external", run)]


# -- options for CRIU ----------------------------------------------------------------------------------------------------


def named(run: Run, sources: str, spare: str) -> list[tuple[str, str]]:
    """[(name, path)]; names that are not in the images are ignored. spare: an empty directory, for the mount of a supervisor's socket at
    the dump (sd_notify(3)). Uses run.plans, run.stored."""
    found = {NOTIFY: spare}
    aliases: dict[str, str] = {}
    host = None
    groups = _groups(run)
    rootfs = planner.module("root").path_of(run.plans) or "/"
    readonly = asked_of(run, "paths", "readonly")
    root_fd = fs.open(rootfs, posix.O_PATH | posix.O_DIRECTORY)
    try:
        for number, one in enumerate(_wanted(run)):
            name = one["name"]
            if one["bind"]:
                _check_source(one)
            around = _around(groups, one)
            path = found[name] = "%s/%d" % (sources, number) + (around[1] if around else "")
            if not one["bind"]:
                continue
            if one["recursive"]:
                host = host or mounted("self")
                for below in _below(host, one["source"]):
                    found.setdefault(name + below, path + below)
            for fixed in readonly:
                if fixed.startswith(name + "/"):  # a bind mount of part of this one
                    found.setdefault(fixed, path + fixed[len(name) :])
            aliases.setdefault(_inside(root_fd, name, rootfs), path)
    finally:
        posix.close(root_fd)
    return sorted({**aliases, **found}.items())


def _check_source(one: External) -> None:
    try:
        posix.stat(one["source"])
    except OSError as e:
        words = "bind mount source stat: stat %s: %s" % (quote(one["source"]), errno_text(e.errno))
        raise StepFailure(
            "no-mount-source", words, "restore.mounts", "host", one["pointer"] + "/source", "stat", e.errno, one["source"]
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
    if planner.module("namespaces").in_userns(run.plans) or planner.module("root").sends(run.plans):
        return {}
    found = {}
    for line in fileio.fsdecode(fileio.read_file("/proc/self/mountinfo", TABLE_LIMIT)).split("\n"):
        for _device, _top, point, _kind, _settings in mountinfo.table(line):
            fields = line.partition(" - ")[0].split(" ")
            if any(field.startswith(("shared:", "master:")) for field in fields[6:]):
                found[int(fields[0])] = point
    return found


def _around(groups: dict[int, str], one: External) -> tuple[str, str] | None:
    """(mount point of the mount that contains a source, path of the source relative to it: "/etc/hosts"); None if the source alone is
    sufficient."""
    if not groups or one["by_itself"]:
        return None
    fd = fs.open(one["source"], posix.O_PATH if one["follow"] else posix.O_PATH | posix.O_NOFOLLOW)
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
        for one in _wanted(run):
            clone = planner.module("criu." + one["part"]).clone
            around = _around(groups, one)
            if around is None:
                found.append((clone(one, run), "", None))
                continue
            point, rest = around
            found.append((clone(one, run, point), rest, None))
            _check_same(found[-1][0], rest, one["source"])
            if one["recursive"] and _below(host, one["source"]):
                found[-1] = (*found[-1][:2], clone(one, run))
    except BaseException:
        for tree, _rest, more in found:
            fs.close(tree, more)
        raise
    return found


def _check_same(tree: int, rest: str, source: str) -> None:
    """Checks that the path below the clone leads to the source."""
    fd = fs.open(rest[1:], posix.O_PATH | posix.O_NOFOLLOW, dir_fd=tree)
    try:
        if not fileio.is_same(posix.fstat(fd), posix.stat(source)):
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


def open_images(run: Run, sources: str, path: str) -> int:
    """-> fd of the directory that CRIU reads the images from. In a user namespace, its processes also read them, some before they have an
    id there, but only root can enter the directory: so they get another directory, with the same files mounted in it."""
    if not planner.module("namespaces").in_userns(run.plans):
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
