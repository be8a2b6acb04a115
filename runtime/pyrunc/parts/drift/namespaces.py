"""The namespaces that init is in."""

from __future__ import annotations

import posix

from pyrunc.linux import ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.namespaces import Entry
    from pyrunc.parts.sides import Drift


def compare(entry: Entry, drift: Drift) -> None:
    for kind in ns.FLAGS:
        try:
            seen, ours = (posix.readlink("/proc/%s/ns/%s" % (pid, ns.FILES[kind])) for pid in (drift.pid, "self"))
        except FileNotFoundError:
            continue  # this kernel has none of that kind
        pointer = entry["pointers"].get(kind, "/linux/namespaces")
        if kind in entry["new"] and seen == ours:
            drift.differs("namespaces", kind, "its own", "the caller's", pointer)
        elif kind in entry["host"] and seen != ours:
            drift.differs("namespaces", kind, "the caller's", seen, pointer)
        elif kind in entry["join"]:
            wanted = _inode(entry["join"][kind])
            if wanted and not seen.endswith("[%d]" % wanted):
                drift.differs("namespaces", kind, "%s:[%d]" % (ns.FILES[kind], wanted), seen, pointer)


def _inode(path: str) -> int:
    """0 if the path no longer exists; the namespace then exists only through its processes."""
    try:
        return posix.stat(path).st_ino
    except OSError:
        return 0
