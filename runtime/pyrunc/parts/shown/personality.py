"""The execution domain by its name."""

from __future__ import annotations

from pyrunc.parts.personality import DOMAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.personality import Entry
    from pyrunc.parts.sides import Json


def readable(entry: Entry) -> Json:
    return {"domain": next((name for name, number in DOMAINS.items() if number == entry["domain"]), entry["domain"])}
