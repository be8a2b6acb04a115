"""Device nodes."""

from __future__ import annotations

import posix

from pyrunc.linux import constants as c
from pyrunc.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.devices.plan import Entry
    from pyrunc.parts.sides import Drift, Mounted


def compare(entry: Entry, drift: Drift, mounted: Mounted) -> None:
    for node in entry["nodes"]:
        try:
            fd = paths.resolve(mounted.root_fd, node["path"])
        except OSError:
            drift.differs("devices", node["path"], "%s %d:%d" % (node["type"], node["major"], node["minor"]), None, node["pointer"])
            continue
        info = posix.fstat(fd)
        posix.close(fd)
        kinds = {c.S_IFCHR: "c", c.S_IFBLK: "b", c.S_IFIFO: "p"}
        seen = (kinds.get(info.st_mode & c.S_IFMT), posix.major(info.st_rdev), posix.minor(info.st_rdev))
        if seen != (node["type"], node["major"], node["minor"]) and node["type"] != "p":
            drift.differs(
                "devices", node["path"], "%s %d:%d" % (node["type"], node["major"], node["minor"]), "%s %d:%d" % seen, node["pointer"]
            )
