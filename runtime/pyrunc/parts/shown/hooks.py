"""Hooks, without the values of their environment."""

from __future__ import annotations

from pyrunc.oci.secrets import without_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.hooks import Entry
    from pyrunc.parts.sides import Json


def public(entry: Entry) -> Json:
    return {kind: [{**hook, "env": without_values(hook["env"])} for hook in hooks] for kind, hooks in entry.items()}
