"""Ids on both sides of a user namespace (user_namespaces(7)). Its one rule: an id without a mapping is None, never another id."""

import posix

from pyrunc import lean

MAP_LIMIT = 1 << 20


def is_ours(pid):
    """Whether the process is in our own user namespace. Read from within, its map tells the ids of the namespace above."""
    return posix.readlink("/proc/%d/ns/user" % pid) == posix.readlink("/proc/self/ns/user")


def outer_uid(pid, uid):
    """What `uid` of the user namespace of process `pid` is here; None if it has no mapping."""
    if is_ours(pid):
        return uid
    for line in lean.read_file("/proc/%d/uid_map" % pid, MAP_LIMIT).split(b"\n"):
        fields = [int(field) for field in line.split()]
        if len(fields) == 3 and fields[0] <= uid < fields[0] + fields[2]:
            return fields[1] + uid - fields[0]
    return None
