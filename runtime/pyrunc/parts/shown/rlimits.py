"""Resource limits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.rlimits import Entry
    from pyrunc.parts.sides import Json


def brief(entry: Entry) -> Json:
    return {**entry, "list": ["%s soft %d hard %d" % (name, soft, hard) for name, _number, soft, hard, _index in entry["list"]]}
