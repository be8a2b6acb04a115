"""Whether the root is read-only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.root import Entry
    from pyrunc.parts.sides import Drift, Mounted


def compare(entry: Entry, drift: Drift, mounted: Mounted) -> None:
    flags = mounted.root_flags()
    if flags is not None and entry["readonly"] != ("ro" in flags):
        words = ("read-only", "writable")
        drift.differs("mounts", "/", words[not entry["readonly"]], words["ro" not in flags], "/root/readonly")
