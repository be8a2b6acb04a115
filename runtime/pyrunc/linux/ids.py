"""Ids on both sides of a user namespace (user_namespaces(7)). Its one rule: an id without a mapping is None, never another id."""

from pyrunc import lean

MAP_LIMIT = 1 << 16


def outer_uid(pid, uid):
    """What `uid` of the user namespace of process `pid` is here; None if it has no mapping. We must not sit in that namespace
    ourselves: the kernel then shows the ids of its parent."""
    for line in lean.read_file("/proc/%d/uid_map" % pid, MAP_LIMIT).split(b"\n"):
        fields = [int(field) for field in line.split()]
        if len(fields) == 3 and fields[0] <= uid < fields[0] + fields[2]:
            return fields[1] + uid - fields[0]
    return None
