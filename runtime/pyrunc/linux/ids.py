"""Ids on both sides of a user namespace (user_namespaces(7)). Invariant: an id without a mapping is None, never another id."""

from __future__ import annotations

from pyrunc import fileio
from pyrunc.linux import ns

MAP_LIMIT = 1 << 20


def outer_uid(pid: int, uid: int) -> int | None:
    """The id in our user namespace of `uid` in the user namespace of process `pid`; None if it has no mapping."""
    if ns.is_shared(pid, "user"):  # read from inside, the map has the ids of the parent namespace
        return uid
    for line in fileio.read_file("/proc/%d/uid_map" % pid, MAP_LIMIT).split(b"\n"):
        fields = [int(field) for field in line.split()]
        if len(fields) == 3 and fields[0] <= uid < fields[0] + fields[2]:
            return fields[1] + uid - fields[0]
    return None
