"""Device nodes that are bind mounts of the host's nodes with the same name."""

from __future__ import annotations

from pyrunc.linux import constants as c
from pyrunc.linux import mount
from pyrunc.parts.devices.make import ATTRIBUTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.devices.plan import Entry
    from pyrunc.parts.sides import External, HostRun


def bound(entry: Entry) -> list[str]:
    """Their paths; fifos are always created in the container."""
    return [node["path"] for node in entry["nodes"] if node["type"] != "p"] if entry["bind"] else []


def external(entry: Entry, _run: HostRun) -> list[External]:
    return [
        {
            "part": "devices", "name": path, "source": path, "bind": False, "recursive": False, "follow": False, "by_itself": False,
            "pointer": "/linux/devices", "item": None,
        }
        for path in bound(entry)
    ]  # fmt: skip


def clone(source: External, _run: HostRun, around: str | None = None) -> int:
    """-> fd of a detached mount of the node, or of the mount that contains it."""
    tree = mount.clone(around or source["source"], flags=c.AT_SYMLINK_NOFOLLOW)
    mount.setattr(tree, ATTRIBUTES, 0)  # like those that create binds
    return tree
