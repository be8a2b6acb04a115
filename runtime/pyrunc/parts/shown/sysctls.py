"""Sysctls."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Json
    from pyrunc.parts.sysctls import Entry


def brief(entry: Entry) -> Json:
    return {**entry, "list": ["%s = %s" % (name, value) for name, _path, value in entry["list"]]}
