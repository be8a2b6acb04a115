"""Sets of capabilities by name."""

from __future__ import annotations

from pyrunc.linux import caps
from pyrunc.parts.capabilities import SETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.capabilities import Entry
    from pyrunc.parts.sides import Json


def public(entry: Entry) -> Json:
    return {key: caps.names(value) if key in SETS else value for key, value in entry.items()}  # type: ignore[arg-type]  # a mask


def brief(entry: Entry) -> Json:
    return {key: ", ".join(value) if key in SETS else value for key, value in public(entry).items()}
