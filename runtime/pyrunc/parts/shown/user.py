"""Ids, with the umask in octal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Json
    from pyrunc.parts.user import Entry


def readable(entry: Entry) -> Json:
    return {**entry, "umask": "0%o" % entry["umask"]}
