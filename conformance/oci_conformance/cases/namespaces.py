"""config-linux.md#configLinuxNamespaces, #configLinuxTimeOffset."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import add, case

if TYPE_CHECKING:
    from oci_conformance.case import CaseFunction
    from oci_conformance.shapes import Changes, Json
    from oci_conformance.trial import Trial


FILES = {"pid": "pid", "network": "net", "mount": "mnt", "ipc": "ipc", "uts": "uts", "user": "user", "cgroup": "cgroup", "time": "time"}
SIMPLE = ("network", "ipc", "uts", "cgroup")  # can be added to and taken from the usual list one by one


def own(kind: str) -> str:
    return os.readlink("/proc/self/ns/" + FILES[kind])


def seen_namespace(t: Trial, kind: str, spaces: list[dict[str, str]]) -> Json:
    return t.observe({"/linux/namespaces": spaces}).get("ns", {}).get(FILES[kind])


def listed(*kinds: str, **paths: str) -> list[dict[str, str]]:
    return [{"type": kind, **({"path": paths[kind]} if kind in paths else {})} for kind in (*kinds, *paths)]


WITHOUT_MOUNT: Changes = {
    "/linux/namespaces": listed("pid", "ipc", "uts"),
    "/mounts/-": {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"},
}


def new_or_inherited(kind: str) -> CaseFunction:
    def run(t: Trial) -> None:
        rest = [name for name in ("pid", "mount", "ipc", "uts") if name != kind]
        first = seen_namespace(t, kind, listed(*rest, kind))
        t.need(first, "the program can read its namespaces", None, first)
        t.check(first != own(kind), "a listed %s namespace is a new one" % kind, ("namespaces.new", "namespaces." + kind), None, first)
        seen = seen_namespace(t, kind, listed(*rest))
        t.equal(seen, own(kind), "a %s namespace that is not listed is the runtime's" % kind, "namespaces.inherited")

    run.__doc__ = "A %s namespace is new when listed, and the runtime's when not." % kind
    return run


for kind in ("pid", *SIMPLE):
    add("namespaces.new_" + kind, new_or_inherited(kind), ("namespaces.new", "namespaces.inherited", "namespaces." + kind), "linux")


@case("namespaces.time", "namespaces.new", "namespaces.inherited", needs="time-namespace")
def new_time(t: Trial) -> None:
    """A time namespace is new when listed, and the runtime's when not."""
    usual = ("pid", "mount", "ipc", "uts")
    first = seen_namespace(t, "time", listed(*usual, "time"))
    t.check(first not in (None, own("time")), "a listed one is new", ("namespaces.new", "namespaces.time"), None, first)
    t.equal(seen_namespace(t, "time", listed(*usual)), own("time"), "one that is not listed is the runtime's", "namespaces.inherited")


@case("namespaces.mount", "namespaces.new", "namespaces.inherited", level="core")
def new_mount(t: Trial) -> None:
    """A mount namespace is new when listed: its mounts are not seen outside; and the runtime's when not: the root is still the container's."""
    before = system.read("/proc/self/mountinfo")
    made = t.running({"/mounts/-": {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}})
    t.check(os.readlink("/proc/%d/ns/mnt" % made.pid) != own("mount"), "the namespace is new", ("namespaces.mount", "namespaces.new"))
    t.equal(system.read("/proc/self/mountinfo"), before, "the caller's mounts", "namespaces.mount", "namespaces.new")
    made = t.running(WITHOUT_MOUNT)
    t.equal(os.readlink("/proc/%d/ns/mnt" % made.pid), own("mount"), "one that is not listed is the runtime's", "namespaces.inherited")
    root = os.path.realpath("/proc/%d/root" % made.pid)
    t.equal(root, os.path.realpath(made.bundle.inside("/")), "the root without a mount namespace", "namespaces.inherited")


@case("namespaces.pid", needs="probe", level="core")
def pid_view(t: Trial) -> None:
    """In a pid namespace only the container's own processes are seen, and its init is 1."""
    seen = t.observe(None, "list /proc", "self")
    numbers = sorted(int(name) for name in seen[0].get("names", ()) if name.isdigit())
    t.equal(numbers, [1], "processes in /proc")
    t.equal(seen[1].get("pid"), 1, "pid of the program")


@case("namespaces.network", level="core", needs="probe")
def network_view(t: Trial) -> None:
    """A new network namespace has a loopback device and none of the host's."""
    seen = t.observe({"/linux/namespaces/-": {"type": "network"}}, "interfaces").get("interfaces", {})
    hosts = set(os.listdir("/sys/class/net")) - {"lo"}
    t.has("lo", seen, "loopback")
    addresses = {name for name, found in seen.items() if name != "lo" and found.get("addresses")}
    t.equal(sorted(addresses), [], "devices with addresses (the host has %s)" % ", ".join(sorted(hosts)))


@case("namespaces.ipc", level="linux", needs="probe")
def ipc_view(t: Trial) -> None:
    """A new ipc namespace does not contain the queues of another one."""
    import subprocess

    from oci_conformance.probe import parse

    number = 0x0C1C0F + os.getpid()
    done = subprocess.run([t.tools.probe, "call", "msgget", str(number), "0x3ff"], capture_output=True, text=True)
    queue = parse(done.stdout)[0].get("ret", -1)
    t.need(queue >= 0, "a message queue can be made on the host", None, done.stdout)
    try:
        seen = t.observe(None, "call msgget %d 0" % number)
        t.equal(seen.get("errno"), 2, "the host's queue inside")
        seen = t.observe({"/linux/namespaces": listed("pid", "mount", "uts")}, "call msgget %d 0" % number)
        t.equal(seen.get("ret"), queue, "the host's queue without an ipc namespace")
    finally:
        system._libc.msgctl(queue, 0, None)


@case("namespaces.path.joined", level="core")
def joined(t: Trial) -> None:
    """With a path the program is in that namespace: network, ipc, uts, pid of another container."""
    other = t.running({"/linux/namespaces/-": {"type": "network"}, "/hostname": "the-other-one"})
    for kind in ("network", "ipc", "uts", "pid"):
        path = "/proc/%d/ns/%s" % (other.pid, FILES[kind])
        rest = [name for name in ("pid", "mount", "ipc", "uts") if name != kind]
        seen = t.observe({"/linux/namespaces": listed(*rest, **{kind: path})})
        t.equal(seen.get("ns", {}).get(FILES[kind]), os.readlink(path), "the %s namespace" % kind)
        if kind == "uts":
            t.equal(seen.get("hostname"), "the-other-one", "host name in a joined uts namespace")


def by_file(t: Trial, name: str) -> None:
    other = t.running({"/linux/namespaces/-": {"type": "network"}})
    path = os.path.join(t.directory, name)
    open(path, "w").close()
    system.mount("/proc/%d/ns/net" % other.pid, path, None, system.MS_BIND)
    try:
        seen = t.observe({"/linux/namespaces/-": {"type": "network", "path": path}})
        t.equal(seen.get("ns", {}).get("net"), os.readlink("/proc/%d/ns/net" % other.pid), "the network namespace")
    finally:
        system.umount(path)


@case("namespaces.path.joined", level="linux")
def joined_by_file(t: Trial) -> None:
    """The path can be a file with a namespace bind-mounted on it."""
    by_file(t, "net")


@case("namespaces.path.joined", level="full")
def joined_by_odd_file(t: Trial) -> None:
    """The path can contain any characters: a comma, a space, a colon."""
    by_file(t, "a, b:c")


def join_by_pid(t: Trial, kind: str) -> None:
    usual = ("pid", "mount", "ipc", "uts")
    other = t.running({"/linux/namespaces": listed(*usual, kind)})
    path = "/proc/%d/ns/%s" % (other.pid, FILES[kind])
    seen = t.observe({"/linux/namespaces": listed(*usual, **{kind: path})})
    t.equal(seen.get("ns", {}).get(FILES[kind]), os.readlink(path), "the %s namespace" % kind)


@case("namespaces.path.joined", level="full")
def joined_cgroup(t: Trial) -> None:
    """A cgroup namespace can be joined."""
    join_by_pid(t, "cgroup")


@case("namespaces.time", needs="time-namespace", level="full")
def joined_time(t: Trial) -> None:
    """A time namespace can be joined."""
    join_by_pid(t, "time")


@case("namespaces.path.absolute", "namespaces.path.type", level="core")
def invalid_path(t: Trial) -> None:
    """A relative path, a namespace of another type, a missing file and a file that is not a namespace give an error."""
    usual = ("pid", "mount", "ipc")
    relative = os.path.relpath("/proc/self/ns/uts", t.directory)
    t.refused({"/linux/namespaces": listed(*usual, uts=relative)}, "namespaces.path.absolute", what="a relative path gives an error")
    for path, words in (
        ("/proc/self/ns/net", "a network namespace as uts"),
        (os.path.join(t.directory, "missing"), "a missing file"),
        ("/etc/passwd", "a plain file"),
    ):
        t.refused({"/linux/namespaces": listed(*usual, uts=path)}, "namespaces.path.type", what="%s gives an error" % words)


@case("namespaces.duplicates", "values.name", level="core")
def invalid_list(t: Trial) -> None:
    """The same type twice, and an unknown type, give an error."""
    t.refused({"/linux/namespaces/-": {"type": "pid"}}, "namespaces.duplicates", what="a duplicate type gives an error")
    t.refused({"/linux/namespaces/-": {"type": "no-such-type"}}, "values.name", what="an unknown type gives an error")


@case("namespaces.cgroup", level="linux")
def cgroup_view(t: Trial) -> None:
    """In a cgroup namespace the container's own cgroup is the root of the hierarchy."""
    seen = t.observe({"/linux/namespaces/-": {"type": "cgroup"}}, "read /proc/self/cgroup").get("text", "")
    paths = {line.split(":", 2)[2] for line in seen.splitlines()}
    t.equal(sorted(paths), ["/"], "paths in /proc/self/cgroup")


@case("namespaces.uts", level="core")
def uts_view(t: Trial) -> None:
    """A host name that the program sets in its uts namespace does not affect the host."""
    before = os.uname().nodename
    seen = t.observe({"/hostname": "first"}, ["write", "/proc/sys/kernel/hostname", "changed-inside"], "self")
    t.equal(os.uname().nodename, before, "host name of the caller")
    t.equal(seen[1].get("hostname"), "changed-inside" if seen[0].get("errno") == 0 else "first", "host name inside")


@case("time-offsets.monotonic", "time-offsets.boottime", needs=("time-namespace", "probe"))
def offsets(t: Trial) -> None:
    """The clocks of a time namespace are ahead and behind as configured."""
    ahead, later = 100_000, 200_000
    changes = {
        "/linux/namespaces/-": {"type": "time"},
        "/linux/timeOffsets": {"monotonic": {"secs": ahead}, "boottime": {"secs": later, "nanosecs": 5}},
    }
    seen = t.observe(changes)
    for name, clock, offset in (("monotonic", time.CLOCK_MONOTONIC, ahead), ("boottime", time.CLOCK_BOOTTIME, later)):
        difference = (seen.get(name) or 0) - time.clock_gettime(clock)
        t.check(abs(difference - offset) < 60, "offset of %s" % name, "time-offsets." + name, offset, round(difference))


@case("time-offsets.monotonic", needs="time-namespace")
def offsets_without_namespace(t: Trial) -> None:
    """Offsets without a new time namespace cannot be applied: an error."""
    t.refused({"/linux/timeOffsets": {"monotonic": {"secs": 1}}})
