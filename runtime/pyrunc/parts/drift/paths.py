"""Masked and read-only paths."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.paths import Entry
    from pyrunc.parts.sides import Drift, Mounted


def compare(entry: Entry, drift: Drift, mounted: Mounted) -> None:
    for path, pointer in entry["masked"]:
        found = mounted.at(path)
        if found is not None and not found["root"]:
            drift.differs("mounts", path, "masked", "open", pointer)
    for path, pointer in entry["readonly"]:
        found = mounted.at(path)
        if found is not None and (not found["root"] or "ro" not in found["flags"]):
            drift.differs("mounts", path, "readonly", "writable", pointer)
