"""Namespaces, with the names of the clone flags."""

from __future__ import annotations

from pyrunc.linux.flag_names import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.namespaces import Entry
    from pyrunc.parts.sides import Json


def readable(entry: Entry) -> Json:
    return {**entry, "flags": named(entry["flags"], "CLONE_NEW")}


def brief(entry: Entry) -> Json:
    return {key: value for key, value in readable(entry).items() if key != "pointers"}
