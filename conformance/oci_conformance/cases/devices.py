"""config-linux.md#configLinuxDevices, #configLinuxDefaultDevices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance.bundle import DEV, PROC, PTS
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


DEFAULTS = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}


@case(*("default-device." + name for name in DEFAULTS), "default-device.ptmx", level="core")
def defaults(t: Trial) -> None:
    """The default devices exist, with their numbers, and can be used; /dev/ptmx belongs to the container."""
    seen = t.observe(None, *("stat /dev/" + name for name in DEFAULTS), "stat /dev/ptmx", "follow /dev/ptmx", "follow /dev/pts/ptmx")
    for line, (name, numbers) in zip(seen, DEFAULTS.items(), strict=False):
        t.equal(line.get("type"), "char", "type of /dev/%s" % name, "default-device." + name)
        t.equal((line.get("major"), line.get("minor")), numbers, "numbers of /dev/%s" % name, "default-device." + name)
        t.equal(line.get("mode"), 0o666, "mode of /dev/%s" % name, "default-device." + name)
    link, multiplexer, own = seen[len(DEFAULTS) :]
    t.check(link.get("type") == "link" or multiplexer.get("dev") == own.get("dev"), "/dev/ptmx is a link or a mount", "default-device.ptmx")
    same = [(line.get("dev"), line.get("ino")) for line in (multiplexer, own)]
    t.equal(same[0], same[1], "/dev/ptmx leads to /dev/pts/ptmx", "default-device.ptmx")


@case(*("default-device." + name for name in DEFAULTS), level="core")
def defaults_work(t: Trial) -> None:
    """The default devices can be opened by a program of another user."""
    operations = ["open /dev/%s rw" % name for name in DEFAULTS if name != "tty"]
    for line in t.observe({"/process/user": {"uid": 1000, "gid": 1000}}, *operations):
        t.equal(line.get("errno"), 0, "opening %s" % line.get("path"), "default-device." + line.get("path", "").rpartition("/")[2])


@case("devices.available", "devices.numbers", "devices.mode", "devices.uid", "devices.gid", level="core")
def listed(t: Trial) -> None:
    """Listed devices exist with the right type, numbers, mode, owner and group."""
    wanted: list[dict[str, Json]] = [
        {**FUSE, "fileMode": 0o640, "uid": 11, "gid": 22},
        {"path": "/dev/loop77", "type": "b", "major": 7, "minor": 77, "fileMode": 0o600},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 5},
    ]
    seen = t.observe({"/linux/devices": wanted}, *("stat " + device["path"] for device in wanted))
    kinds = {"c": "char", "b": "block", "p": "fifo"}
    for line, device in zip(seen, wanted, strict=True):
        path = device["path"]
        t.equal(line.get("type"), kinds[device["type"]], "type of %s" % path, "devices.available")
        t.equal(line.get("mode"), device["fileMode"], "mode of %s" % path, "devices.mode")
        t.equal(line.get("uid"), device.get("uid", 0), "owner of %s" % path, "devices.uid")
        t.equal(line.get("gid"), device.get("gid", 0), "group of %s" % path, "devices.gid")
        if device["type"] != "p":
            numbers = (line.get("major"), line.get("minor"))
            t.equal(numbers, (device["major"], device["minor"]), "numbers of %s" % path, "devices.numbers")


@case("devices.available", "devices.numbers", level="core")
def unbuffered(t: Trial) -> None:
    """Type u is a character device."""
    line = t.observe({"/linux/devices": [{**FUSE, "type": "u"}]}, "stat /dev/fuse")
    t.equal(line.get("type"), "char", "type", "devices.available")
    t.equal((line.get("major"), line.get("minor")), (10, 229), "numbers", "devices.numbers")


@case("devices.path.anywhere", level="core")
def anywhere(t: Trial) -> None:
    """A device can be outside of /dev, in directories that do not exist yet."""
    line = t.observe({"/linux/devices": [{**FUSE, "path": "/srv/deep/down/fuse"}]}, "stat /srv/deep/down/fuse")
    t.equal(line.get("type"), "char", "type")


@case("devices.type", "devices.numbers.required", level="core")
def invalid(t: Trial) -> None:
    """An unknown type, and a device without numbers, give an error."""
    t.refused({"/linux/devices": [{**FUSE, "type": "x"}]}, "devices.type", what="an unknown type gives an error")
    without = {"path": "/dev/fuse", "type": "c"}
    t.refused({"/linux/devices": [without]}, "devices.numbers.required", what="a device without numbers gives an error")


@case("devices.path.existing", level="core")
def existing(t: Trial) -> None:
    """A different file at the path gives an error: a plain file, another device."""
    made = t.container({"/linux/devices": [{**FUSE, "path": "/etc/passwd"}]})
    t.refuses(made, (), "create", "a device on a plain file gives an error")
    made = t.container({"/linux/devices": [{**FUSE, "path": "/mnt/other"}]})
    os.mknod(made.bundle.inside("/mnt/other"), 0o600 | 0o020000, os.makedev(1, 3))
    t.refuses(made, (), "create", "a device on another device gives an error")


@case("devices.available", level="linux")
def existing_same(t: Trial) -> None:
    """A node of the same device at the path is accepted."""
    made = t.container({"/linux/devices": [{**FUSE, "path": "/mnt/same"}]}, "stat /mnt/same")
    os.mknod(made.bundle.inside("/mnt/same"), 0o600 | 0o020000, os.makedev(10, 229))
    made.create()
    made.start()
    line = made.finish()[0]
    t.equal((line.get("type"), line.get("major"), line.get("minor")), ("char", 10, 229), "the device")


@case("default-device.null", "symlink.fd", level="linux")
def without_dev_mount(t: Trial) -> None:
    """Without a mount on /dev, the default devices are created in the root's /dev."""
    seen = t.observe({"/mounts": [PROC]}, "stat /dev/null", "stat /dev/fd")
    t.equal(seen[0].get("type"), "char", "type of /dev/null", "default-device.null")
    t.equal(seen[1].get("target"), "/proc/self/fd", "/dev/fd", "symlink.fd")


@case("default-device.ptmx", level="linux")
def own_terminals(t: Trial) -> None:
    """Terminals that are opened in the container are private: /dev/pts shows no others."""
    seen = t.observe({"/mounts": [PROC, DEV, PTS]}, "list /dev/pts")
    t.equal(seen.get("names"), ["ptmx"], "names in /dev/pts")
