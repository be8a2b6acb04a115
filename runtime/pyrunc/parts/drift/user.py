"""The ids and groups of init, as seen in the container."""

from __future__ import annotations

from pyrunc.linux import ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Drift
    from pyrunc.parts.user import Entry

EVERY_ID = "0 0 4294967295"


def compare(entry: Entry, drift: Drift) -> None:
    status = drift.status()
    for kind, field, planned in (("uid", "Uid", entry["uid"]), ("gid", "Gid", entry["gid"])):
        seen = inside(int(status[field][1]), _map(drift, kind))
        if seen != planned:
            drift.differs("user", kind, planned, seen, "/process/user/" + kind)
    if entry["setgroups"]:
        table = _map(drift, "gid")
        groups = sorted(str(inside(int(group), table)) for group in status["Groups"])
        if groups != sorted(str(group) for group in set(entry["groups"])):
            shown = [int(group) if group.isdigit() else group for group in groups]
            drift.differs("user", "groups", sorted(set(entry["groups"])), shown, "/process/user/additionalGids")


def _map(drift: Drift, kind: str) -> str:
    return EVERY_ID if ns.is_shared(drift.pid, "user") else drift.proc(kind + "_map")


def inside(number: int, table: str) -> int | str:
    """Converts one of our ids to the container's, with a uid_map as we see it; the text '?' if it is not mapped."""
    for line in table.split("\n"):
        fields = [int(word) for word in line.split()]
        if len(fields) == 3 and fields[1] <= number < fields[1] + fields[2]:
            return number - fields[1] + fields[0]
    return "?"
