"""Namespaces that a container has joined: CRIU does not touch some of them and joins the others (criu.org/External_net_ns, join_ns)."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.protowire import Message
    from pyrunc.parts.namespaces import Entry
    from pyrunc.parts.sides import HostRun

EXTERNAL = {"network": "net", "pid": "pid"}  # kinds that CRIU does not touch if they are shared; it joins the others with `join_ns`
KEYS = {"network": "extRootNetNS", "pid": "extRootPidNS"}
JOINED = {"network": "net", "pid": "pid", "mount": "mnt", "uts": "uts", "ipc": "ipc", "user": "user", "time": "time"}


def dumped(entry: Entry, pid: int) -> list[str]:
    """["net[INODE]:extRootNetNS"]: those that CRIU does not touch; pid is a process of the container."""
    found = []
    for kind, name in EXTERNAL.items():
        if kind in entry["join"]:
            found.append("%s[%d]:%s" % (name, posix.stat("/proc/%d/ns/%s" % (pid, name)).st_ino, KEYS[kind]))
    return found


def restored(entry: Entry, run: HostRun, first_fd: int) -> tuple[list[int], list[Message], list[Message]]:
    """(descriptors to pass to CRIU, inherit_fd, join_ns) for the namespaces that host_open has opened into run.fds."""
    fds: list[int] = []
    inherited: list[Message] = []
    joined: list[Message] = []
    for kind in entry["join"]:
        fd = run.fds["ns:" + kind]
        if kind in EXTERNAL:
            inherited.append({"key": KEYS[kind], "fd": first_fd + len(fds)})
            fds.append(fd)
        else:
            joined.append({"ns": JOINED[kind], "ns_file": "/proc/%d/fd/%d" % (posix.getpid(), fd)})
    return fds, inherited, joined
