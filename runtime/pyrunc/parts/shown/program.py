"""The program, without the values of its environment."""

from __future__ import annotations

from pyrunc.oci.secrets import without_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.program import Entry
    from pyrunc.parts.sides import Json


def public(entry: Entry) -> Json:
    return {**entry, "env": without_values(entry["env"])}
