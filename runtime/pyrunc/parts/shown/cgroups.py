"""Cgroups: the paths show where the hierarchies are mounted."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.cgroups.plan import Entry
    from pyrunc.parts.sides import Json


def brief(entry: Entry) -> Json:
    return {key: value for key, value in entry.items() if key != "mounts"}
