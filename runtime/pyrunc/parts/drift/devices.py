"""Device nodes."""

from __future__ import annotations

import posix

from pyrunc.linux import constants as c
from pyrunc.linux import fs, paths
from pyrunc.parts.devices.make import is_device, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux._syscalls import Stat
    from pyrunc.parts.devices.plan import Entry
    from pyrunc.parts.sides import Drift, Mounted


def compare(entry: Entry, drift: Drift, mounted: Mounted) -> None:
    for node in entry["nodes"]:
        try:
            fd = paths.resolve(mounted.root_fd, node["path"])
        except OSError:
            drift.differs("devices", node["path"], shown(node), None, node["pointer"])
            continue
        info = fs.fstat(fd)
        posix.close(fd)
        if not is_device(info, node):
            drift.differs("devices", node["path"], shown(node), _seen(info), node["pointer"])


def _seen(info: Stat) -> str:
    kind = {c.S_IFCHR: "c", c.S_IFBLK: "b", c.S_IFIFO: "p"}.get(info.st_mode & c.S_IFMT)
    if kind in (None, "p"):
        return kind or "no device"
    return "%s %d:%d" % (kind, posix.major(info.st_rdev), posix.minor(info.st_rdev))
