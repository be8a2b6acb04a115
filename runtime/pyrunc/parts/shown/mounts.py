"""Mounts, with the names of their flags."""

from __future__ import annotations

from pyrunc import jsonio
from pyrunc.linux.flag_names import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import Json

FLAGS = {"flags": "MS_", "clear": "MS_", "propagation": "MS_", "rec_set": "MOUNT_ATTR_", "rec_clr": "MOUNT_ATTR_"}
IN_FRONT = ("destination", "type", "source", "flags", "data", "kind", "pointer")  # what brief() has shown, or leaves out


def readable(entry: Entry) -> Json:
    return {**entry, "list": [_item(item) for item in entry["list"]]}


def brief(entry: Entry) -> Json:
    return {**entry, "list": [_line(item) for item in entry["list"]]}


def _item(item: Item) -> dict[str, Json]:
    found: dict[str, Json] = dict(item)
    for key, prefix in FLAGS.items():
        bits = 0
        for one in found[key] if key == "propagation" else [found[key]]:
            bits |= one  # several may share MS_REC
        found[key] = named(bits, prefix)
    return found


def _line(item: Item) -> str:
    """Destination, type and source, flags and data, and what else is set."""
    found = _item(item)
    words = [*found["flags"], *(str(word) for word, _index in item["data"])]
    words += ["%s=%s" % (key, jsonio.dumps(value)) for key, value in found.items() if key not in IN_FRONT and value]
    return "%s %s from %s%s" % (item["destination"], item["type"], item["source"], " (%s)" % ",".join(words) if words else "")
