"""The memory policy with the names of its mode and flags."""

from __future__ import annotations

from pyrunc.parts.mempolicy import FLAGS, MODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mempolicy import Entry
    from pyrunc.parts.sides import Json


def readable(entry: Entry) -> Json:
    mode = entry["mode"] & ~sum(FLAGS.values())
    names = [name for name, number in MODES.items() if number == mode]
    return {**entry, "mode": names + [name for name, bit in FLAGS.items() if entry["mode"] & bit]}
