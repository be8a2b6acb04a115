"""The control group hierarchies of this host, their mount points, and our own cgroup in each.

cgroups(7). Reads mountinfo and cgroup of /proc/self and nothing else. Invariant: the mount table decides, never the name of a directory.
Keys of hierarchies: the controller's name on v1 ("memory"), "name=systemd" for the named one, "unified" for cgroup2.
"""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.linux import ns
from pyrunc.linux.mountinfo import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    Mount: TypeAlias = list[str]  # [mount point, its root in the hierarchy, "major:minor"]
    Version: TypeAlias = Literal[1, 2, "hybrid"] | None

ROOT = "/sys/fs/cgroup"
# Controllers that a container joins on v1, in the order of creation; cpuset and cpu need values before the first process.
V1_CONTROLLERS = (
    "cpuset", "devices", "memory", "cpu", "cpuacct", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "perf_event", "freezer", "rdma",
    "misc",
    "name=systemd",
)  # fmt: skip
_KNOWN = frozenset(V1_CONTROLLERS)


class Layout:
    """version: 1, 2, "hybrid" (v1 controllers and a cgroup2) or None; mounts: {key: [mount point, its root, "major:minor"]};
    own: {key: the cgroup of this process, relative to the hierarchy's root}, read when it is needed: most paths are absolute."""

    def __init__(self, version: Version, mounts: dict[str, Mount], cgroup: str | None) -> None:
        self.version = version
        self.mounts = mounts
        self._cgroup = cgroup
        self._own: dict[str, str] | None = None

    @property
    def own(self) -> dict[str, str]:
        if self._own is None:
            self._own = parse_own(_read("/proc/self/cgroup") if self._cgroup is None else self._cgroup)
        return self._own

    def own_path(self, key: str) -> str:
        """Our own cgroup as a path below the mount point ("/" is the mount point itself)."""
        root = self.mounts[key][1]
        path = self.own.get(key, "/")
        if root != "/" and (path == root or path.startswith(root + "/")):
            path = path[len(root) :] or "/"
        # outside of what is mounted (shown as /.. in a cgroup namespace): use the top of the mount, the closest reachable directory
        return "/" if ".." in path.split("/") else path


def layout(mountinfo: str | None = None, cgroup: str | None = None) -> Layout:
    """The hierarchies of this host. The arguments are the contents of the two files, for tests."""
    if mountinfo is None:
        mountinfo = _read("/proc/self/mountinfo")
    v1, unified = _mounts(mountinfo)
    if not v1:
        return Layout(2 if unified else None, {"unified": unified} if unified else {}, cgroup)
    mounts = {key: v1[key] for key in V1_CONTROLLERS if key in v1}
    if unified:
        mounts["unified"] = unified
    return Layout("hybrid" if unified else 1, mounts, cgroup)


def parse_own(text: str) -> dict[str, str]:
    """Text of /proc/PID/cgroup -> {key: path}. Paths may contain colons, controller lists may not."""
    own = {}
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        for key in fields[1].split(",") if fields[1] else ("unified",):
            own[key] = fields[2]
    return own


def _read(path: str) -> str:
    return fileio.fsdecode(fileio.read_file(path, 256 << 20))


def _mounts(mountinfo: str) -> tuple[dict[str, Mount], Mount | None]:
    """({key: [mount point, root, device]} of v1, the same for cgroup2 or None). If a hierarchy is mounted several times, a mount point
    below /sys/fs/cgroup is preferred, then a complete hierarchy over part of one, then the last mount, which is on top. If cgroups are at
    the usual place, mounts elsewhere are private ones that may disappear at any moment (criu mounts some for a dump)."""
    v1: dict[str, Mount] = {}
    unified: Mount | None = None
    usual = " %s" % ROOT in mountinfo
    for device, top, point, kind, options in table(mountinfo, "cgroup"):
        found = [point, top, device]
        if usual and not _rank(found)[0]:
            continue
        if kind == "cgroup2":
            unified = _better(unified, found)
        elif kind == "cgroup":
            for key in options.split(","):
                if key in _KNOWN:
                    v1[key] = _better(v1.get(key), found)
    return v1, unified


def _better(old: Mount | None, new: Mount) -> Mount:
    if old is None or _rank(new) >= _rank(old):
        return new
    return old


def _rank(mount: Mount) -> tuple[bool, bool]:
    return (mount[0] == ROOT or mount[0].startswith(ROOT + "/"), mount[1] == "/")


def controllers(path: str) -> set[str]:
    """The controllers that a cgroup of v2 offers, as a set (file cgroup.controllers); empty if it can't be read."""
    try:
        return set(fileio.fsdecode(fileio.read_file(path + "/cgroup.controllers", 4096)).split())
    except OSError:
        return set()


def exists(path: str) -> bool:
    """Whether a file or directory exists."""
    try:
        posix.stat(fileio.fsencode(path))
    except OSError:
        return False
    return True


def pid_1_is_in_our_userns() -> bool:
    """False in a user namespace that an ordinary user created: the machine's init is outside of it."""
    try:
        return ns.is_shared(1, "user")
    except OSError:
        return False


def how_to_delegate(version: int | str | None) -> str:
    """A hint for errors: how an ordinary user gets a cgroup."""
    if version == 2:
        how = "work in a delegated cgroup (systemd-run --user --scope -p Delegate=yes), or use --systemd-cgroup with the user's systemd"
    else:
        how = "have root create a cgroup delegated to the user for each controller of cgroup v1 (a change of owner)"
    return how + "; or remove cgroupsPath and resources"
