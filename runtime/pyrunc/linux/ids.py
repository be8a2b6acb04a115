"""Ids on both sides of a user namespace (user_namespaces(7)). Invariant: an id without a mapping is None, never another id."""

from __future__ import annotations

from pyrunc import fileio
from pyrunc.linux import ns

MAP_LIMIT = 1 << 20


def outer_uid(pid: int, uid: int) -> int | None:
    """What `uid` of the user namespace of process `pid` is here; None if it has no mapping."""
    if ns.is_shared(pid, "user"):  # read from within, the map tells the ids of the namespace above
        return uid
    for line in fileio.read_file("/proc/%d/uid_map" % pid, MAP_LIMIT).split(b"\n"):
        fields = [int(field) for field in line.split()]
        if len(fields) == 3 and fields[0] <= uid < fields[0] + fields[2]:
            return fields[1] + uid - fields[0]
    return None
