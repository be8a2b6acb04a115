"""The mounts of the config, looked up at their destinations."""

from __future__ import annotations

from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import Drift, Mounted

FLAGS = (("ro", c.MS_RDONLY), ("nosuid", c.MS_NOSUID), ("nodev", c.MS_NODEV), ("noexec", c.MS_NOEXEC), ("nosymfollow", c.MS_NOSYMFOLLOW))


def compare(entry: Entry, drift: Drift, mounted: Mounted) -> None:
    last = {item["destination"]: item for item in entry["list"] if item["kind"] != "remount"}
    for item in last.values():
        _mount(drift, mounted, item)


def _mount(drift: Drift, mounted: Mounted, item: Item) -> None:
    where = item["destination"]
    if "copy-symlink" in item["links"]:
        return
    found = mounted.at(where)
    if found is None or not found["root"]:
        drift.differs("mounts", where, item["type"] or item["kind"], None, item["pointer"])
        return
    if item["kind"] == "fs" and found["type"] and item["type"] != found["type"]:
        drift.differs("mounts", where, item["type"], found["type"], item["pointer"] + "/type")
    if item["kind"] in ("fs", "bind", "own"):
        lost = [word for word, flag in FLAGS if item["flags"] & flag and word not in found["flags"] and not item["copyup"]]
        for word in lost:
            drift.differs("mounts", where, word, "not " + word, item["pointer"] + "/options")
