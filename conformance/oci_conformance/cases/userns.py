"""config-linux.md#configLinuxNamespaces: user; #configLinuxUserNamespaceMappings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance.case import case
from oci_conformance.machine import DEFAULT_UIDS

if TYPE_CHECKING:
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


USUAL = ("pid", "mount", "ipc", "uts", "user", "network")  # network: required for a new sysfs


def mapped(uids: list[dict[str, int]] | None = None, gids: list[dict[str, int]] | None = None) -> dict[str, Json]:
    """Changes for a user namespace; by default with 65536 ids from DEFAULT_UIDS."""
    one = [{"containerID": 0, "hostID": DEFAULT_UIDS, "size": 65536}]
    return {
        "/linux/namespaces": [{"type": kind} for kind in USUAL],
        "/linux/uidMappings": uids or one,
        "/linux/gidMappings": gids or one,
    }


def numbers(text: str | None) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in (text or "").splitlines()]


@case("namespaces.user", "namespaces.new", "mappings.uid", "mappings.gid", needs="user-namespace", level="core")
def maps(t: Trial) -> None:
    """uidMappings and gidMappings are the maps of the new user namespace, also with several entries."""
    uids = [{"containerID": 0, "hostID": DEFAULT_UIDS, "size": 1000}, {"containerID": 5000, "hostID": 200000, "size": 10}]
    gids = [{"containerID": 0, "hostID": DEFAULT_UIDS, "size": 2000}, {"containerID": 2000, "hostID": 300000, "size": 7}]
    made = t.created(mapped(uids, gids), "self", "read /proc/self/uid_map", "read /proc/self/gid_map", owner=DEFAULT_UIDS)
    made.start()
    seen = made.finish()
    t.check(seen[0].get("ns", {}).get("user") != os.readlink("/proc/self/ns/user"), "the user namespace is new", "namespaces.new")
    t.equal(seen[0].get("uid"), 0, "user of the program", "namespaces.user")
    for line, wanted, name in ((seen[1], uids, "uid"), (seen[2], gids, "gid")):
        lines = [[entry["containerID"], entry["hostID"], entry["size"]] for entry in wanted]
        t.equal(numbers(line.get("text")), lines, "%s map" % name, "mappings." + name)


@case("namespaces.user", "mappings.uid", needs="user-namespace", level="core")
def owner_outside(t: Trial) -> None:
    """Files that the program creates belong to the mapped ids outside."""
    made = t.created({**mapped(), "/process/user": {"uid": 7, "gid": 8}}, ["write", "/tmp/made", "x"], owner=DEFAULT_UIDS)
    made.start()
    made.finish()
    found = os.stat(made.bundle.inside("/tmp/made"))
    t.equal((found.st_uid, found.st_gid), (DEFAULT_UIDS + 7, DEFAULT_UIDS + 8), "owner of a file outside")


@case("mappings.no-chown", needs="user-namespace", level="core")
def no_chown(t: Trial) -> None:
    """The ownership of the files of the root is not changed."""
    made = t.container(mapped(), "say x", owner=DEFAULT_UIDS)
    os.chown(made.bundle.inside("/etc/group"), 4242, 4343)
    names = ("", "bin", "bin/probe", "etc/passwd", "etc/group", "tmp")

    def owners() -> dict[str, tuple[int, int]]:
        found = {name: os.lstat(made.bundle.inside(name)) for name in names}
        return {name: (entry.st_uid, entry.st_gid) for name, entry in found.items()}

    before = owners()
    made.create()
    t.equal(owners(), before, "owners after create")
    made.start()
    made.finish()
    t.equal(owners(), before, "owners after delete")


@case("namespaces.path.joined", "namespaces.user", needs="user-namespace")
def joined(t: Trial) -> None:
    """A user namespace can be joined, together with the network namespace that it owns."""
    other = t.created(mapped(), "wait", owner=DEFAULT_UIDS)
    other.start()
    other.line("wait")
    spaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
    for kind, name in (("user", "user"), ("network", "net")):
        spaces.append({"type": kind, "path": "/proc/%d/ns/%s" % (other.pid, name)})
    made = t.created({"/linux/namespaces": spaces}, "self", owner=DEFAULT_UIDS)
    made.start()
    seen = made.finish()[0].get("ns", {})
    for name in ("user", "net"):
        t.equal(seen.get(name), os.readlink("/proc/%d/ns/%s" % (other.pid, name)), "the %s namespace" % name)


@case("mappings.uid", needs="user-namespace")
def incomplete(t: Trial) -> None:
    """A user that is not mapped, and a user namespace without mappings, give an error, at the latest when it is started."""
    small = [{"containerID": 0, "hostID": DEFAULT_UIDS, "size": 10}]
    changes = {**mapped(small, small), "/process/user": {"uid": 1000, "gid": 0}}
    t.refused(changes, at="start", owner=DEFAULT_UIDS, what="create with a user that is not mapped gives an error")


@case("default-device.null", "devices.available", needs="user-namespace")
def devices(t: Trial) -> None:
    """The default devices, and one from devices, can be used in a user namespace."""
    changes = {**mapped(), "/linux/devices": [{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}]}
    names = ("null", "zero", "full", "random", "urandom", "tty")
    made = t.created(changes, *("stat /dev/" + name for name in names), "open /dev/null w", owner=DEFAULT_UIDS)
    made.start()
    seen = made.finish()
    t.equal([line.get("type") for line in seen[:6]], ["char"] * 6, "types of %s" % ", ".join(names))
    t.equal(seen[6].get("errno"), 0, "writing to /dev/null")
