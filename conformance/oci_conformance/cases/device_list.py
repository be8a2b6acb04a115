"""config-linux.md#configLinuxDeviceAllowedlist: what the list allows the program to do, tested from inside."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


NOTHING = {"allow": False, "access": "rwm"}
FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}
KMSG = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}
EVERYTHING = {"allow": True, "type": "a", "access": "rwm"}


def attempts(t: Trial, *rules: Json, devices: Json = (FUSE, KMSG)) -> dict[str, Json]:
    """{what: errno} of opening and creating devices with these rules."""
    changes = {"/linux/devices": list(devices), "/linux/resources/devices": list(rules)}
    names = {"fuse r": "open /dev/fuse r", "fuse w": "open /dev/fuse w", "kmsg r": "open /dev/kmsg r", "null w": "open /dev/null w"}
    names["mknod fuse"] = "mknod /tmp/f c 10 229"
    names["mknod kmsg"] = "mknod /tmp/k c 1 11"
    seen = t.observe(changes, *names.values())
    return {name: line.get("errno") for name, line in zip(names, seen, strict=True)}


@case("device-list.deny", "device-list.wildcard", "device-list.type", level="core")
def deny_all(t: Trial) -> None:
    """Everything denied: a listed device cannot be opened, the default devices still can."""
    seen = attempts(t, NOTHING)
    t.equal(seen["fuse r"], errno.EPERM, "reading /dev/fuse", "device-list.deny", "device-list.type", "device-list.wildcard")
    t.equal(seen["kmsg r"], errno.EPERM, "reading /dev/kmsg", "device-list.deny", "device-list.type", "device-list.wildcard")
    t.equal(seen["null w"], 0, "writing /dev/null", "device-list.deny")


@case("device-list.allow", "device-list.order", level="core")
def allow_one(t: Trial) -> None:
    """One device allowed after everything was denied: it can be used, others cannot."""
    seen = attempts(t, NOTHING, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"})
    t.equal(seen["fuse r"], 0, "reading /dev/fuse")
    t.equal(seen["fuse w"], 0, "writing /dev/fuse")
    t.equal(seen["kmsg r"], errno.EPERM, "reading /dev/kmsg")


@case("device-list.allow", level="core")
def access(t: Trial) -> None:
    """Only the listed access is allowed: reading, writing and creating a node are separate."""
    seen = attempts(t, NOTHING, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"})
    t.equal(seen["fuse r"], 0, "reading /dev/fuse with r")
    t.equal(seen["fuse w"], errno.EPERM, "writing /dev/fuse with r")
    seen = attempts(t, NOTHING, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "w"})
    t.equal(seen["fuse r"], errno.EPERM, "reading /dev/fuse with w")
    t.equal(seen["fuse w"], 0, "writing /dev/fuse with w")


@case("device-list.wildcard")
def wildcards(t: Trial) -> None:
    """A rule without minor applies to all minors, one without major to all majors with that minor."""
    seen = attempts(t, NOTHING, {"allow": True, "type": "c", "major": 10, "access": "rwm"})
    t.equal(seen["fuse r"], 0, "reading 10:229 with a rule for major 10")
    t.equal(seen["kmsg r"], errno.EPERM, "reading 1:11 with a rule for major 10")
    seen = attempts(t, NOTHING, {"allow": True, "type": "c", "access": "rwm"})
    t.equal((seen["fuse r"], seen["kmsg r"]), (0, 0), "reading with a rule for all character devices")


@case("device-list.type")
def all_types(t: Trial) -> None:
    """Type a allows all devices; a rule for block devices does not apply to character devices."""
    seen = attempts(t, NOTHING, EVERYTHING)
    t.equal((seen["fuse r"], seen["kmsg r"]), (0, 0), "reading with everything allowed")
    seen = attempts(t, NOTHING, {"allow": True, "type": "b", "access": "rwm"})
    t.equal(seen["fuse r"], errno.EPERM, "reading a character device with block devices allowed")


@case("device-list.order")
def later_wins(t: Trial) -> None:
    """A later rule takes precedence: a device that is allowed and then denied cannot be used, the others can."""
    fuse = {"type": "c", "major": 10, "minor": 229, "access": "rw"}
    seen = attempts(t, EVERYTHING, {"allow": False, **fuse})
    t.equal((seen["fuse r"], seen["kmsg r"]), (errno.EPERM, 0), "reading fuse and kmsg after allow all, deny fuse")
    seen = attempts(t, {"allow": True, **fuse}, NOTHING)
    t.equal(seen["fuse r"], errno.EPERM, "reading fuse after allow fuse, deny all")


@case("values.name", "device-list.type")
def invalid(t: Trial) -> None:
    """An unknown type and an unknown letter of access give an error."""
    for rule in ({"allow": True, "type": "x", "access": "r"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rq"}):
        t.refused({"/linux/resources/devices": [NOTHING, rule]}, what="create with the rule %r gives an error" % rule)
