"""Masked and read-only paths."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.paths import Entry
    from pyrunc.parts.sides import Json


def brief(entry: Entry) -> Json:
    masked, readonly = (", ".join(path for path, _pointer in covered) for covered in (entry["masked"], entry["readonly"]))
    return {**entry, "masked": masked, "readonly": readonly}
