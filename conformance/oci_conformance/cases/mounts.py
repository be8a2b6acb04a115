"""config.md#configMounts: order, kinds, paths."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT
from oci_conformance.case import case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


def tmpfs(destination: str, *options: str, **more: object) -> dict[str, Json]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options), **more}


def table(text: str) -> dict[str, dict[str, Sequence[str]]]:
    """{mount point: {"options", "propagation", "type", "source", "data"}} of a mountinfo; the topmost mount of each point."""
    found = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, last = left.split(), right.split(" ", 2)
        found[fields[4]] = {
            "options": fields[5].split(","),
            "propagation": [field.partition(":")[0] for field in fields[6:]],
            "type": last[0],
            "source": last[1],
            "data": last[2].split(",") if len(last) > 2 else [],
        }
    return found


def share(t: Trial, name: str = "share", *files: str) -> str:
    """A directory of the host to bind, with files."""
    path = os.path.join(t.directory, name)
    os.makedirs(path, exist_ok=True)
    for file in files:
        with open(os.path.join(path, file), "w") as handle:
            handle.write(file)
    return path


@case("mounts.order", level="core")
def order(t: Trial) -> None:
    """A later mount covers an earlier one, and can be made below an earlier one."""
    mounts = [tmpfs("/mnt", "mode=700"), tmpfs("/mnt/inner", "mode=750"), tmpfs("/tmp", "size=1m"), tmpfs("/tmp", "size=2m")]
    made = t.configuration()["mounts"] + mounts
    seen = t.observe({"/mounts": made}, "stat /mnt", "stat /mnt/inner", "read /proc/self/mountinfo")
    t.equal(seen[0].get("mode"), 0o700, "mode of the outer mount")
    t.equal(seen[1].get("mode"), 0o750, "mode of the mount in it")
    data = table(seen[2].get("text", "")).get("/tmp", {}).get("data", [])
    t.check("size=2048k" in data, "of two mounts on one path the later one is on top", (), "size=2048k", data)


@case("mounts.type", "op.create.applies", level="core")
def kinds(t: Trial) -> None:
    """Mounts of different types are of those types, with their sources."""
    mounts = [tmpfs("/mnt/a"), {"destination": "/mnt/b", "type": "mqueue", "source": "mqueue"}]
    seen = t.observe({"/mounts": t.configuration()["mounts"] + mounts}, "read /proc/self/mountinfo")
    found = table(seen.get("text", ""))
    for point, kind in (("/mnt/a", "tmpfs"), ("/mnt/b", "mqueue"), ("/proc", "proc"), ("/dev/pts", "devpts"), ("/sys", "sysfs")):
        t.equal(found.get(point, {}).get("type"), kind, "type of %s" % point)


@case("mounts.destination.required", level="core")
def without_destination(t: Trial) -> None:
    """A mount without destination gives an error."""
    t.refused({"/mounts/-": {"type": "tmpfs", "source": "tmpfs"}})


@case("mounts.destination.relative", level="core")
def relative_destination(t: Trial) -> None:
    """A relative destination starts at /, whatever the working directory is."""
    seen = t.observe({"/mounts/-": tmpfs("mnt/rel", "mode=711"), "/process/cwd": "/tmp"}, "stat /mnt/rel", "read /proc/self/mountinfo")
    t.equal(seen[0].get("mode"), 0o711, "mode of /mnt/rel")
    t.has("/mnt/rel", table(seen[1].get("text", "")), "the mount is there")


@case("mounts.source.relative", level="core")
def relative_source(t: Trial) -> None:
    """A relative source of a bind mount starts at the bundle, not at the caller's directory."""
    made = t.container({"/mounts/-": {"destination": "/mnt", "type": "none", "source": "files", "options": ["bind"]}}, "stat /mnt/mark")
    os.mkdir(os.path.join(made.bundle.path, "files"))
    open(os.path.join(made.bundle.path, "files/mark"), "w").close()
    made.create()
    made.start()
    t.equal(made.finish()[0].get("type"), "file", "a file of the source")


@case("mounts.bind", level="core")
def bind_whatever_type(t: Trial) -> None:
    """bind and rbind make a bind mount whatever the type is, or without one."""
    source = share(t, "share", "mark")
    for kind in ("none", "bind", "ext4", "no-such-type", None):
        for option in ("bind", "rbind"):
            mount = {"destination": "/mnt", "type": kind, "source": source, "options": [option]}
            if kind is None:
                del mount["type"]
            seen = t.observe({"/mounts/-": mount}, "read /mnt/mark")
            t.equal(seen.get("text"), "mark", "type %s with %s" % (kind, option))


@case("mounts.bind", level="core")
def bind_file(t: Trial) -> None:
    """A file can be bind-mounted, also on a path that does not exist yet."""
    source = share(t, "share", "mark") + "/mark"
    mount = {"destination": "/etc/new/file", "type": "none", "source": source, "options": ["bind"]}
    t.equal(t.observe({"/mounts/-": mount}, "read /etc/new/file").get("text"), "mark", "contents")


@case("mounts.type", level="core")
def destination_made(t: Trial) -> None:
    """A destination that does not exist is created."""
    seen = t.observe({"/mounts/-": tmpfs("/mnt/very/deep/one", "mode=705")}, "stat /mnt/very/deep/one")
    t.equal(seen.get("mode"), 0o705, "mode of the mount")


@case("mounts.destination.relative", "mounts.order", level="linux")
def destination_link(t: Trial) -> None:
    """A symbolic link in a destination is followed inside the root and never out of it."""
    outside = share(t, "outside")
    made = t.container({"/mounts/-": tmpfs("/leads/out", "mode=701")}, "read /proc/self/mountinfo")
    os.symlink(outside, made.bundle.inside("/leads"))
    done = made.try_create()
    t.equal(os.listdir(outside), [], "nothing is made on the host")
    with open("/proc/self/mountinfo") as file:
        t.lacks(outside, file.read(), "nothing is mounted on the host")
    if done.code == 0:
        made.create_call = done
        made.watch()
        made.start()
        points = table(made.finish()[0].get("text", ""))
        t.check(any(point.endswith("/out") for point in points), "the mount is inside", (), "…/out", sorted(points))


@case("option.unknown", level="core")
def unknown_options(t: Trial) -> None:
    """All options that are not options of mount(8) are passed to the file system."""
    mount = tmpfs("/mnt", "nosuid", "size=3m", "nr_inodes=77", "mode=741")
    seen = t.observe({"/mounts/-": mount}, "stat /mnt", "read /proc/self/mountinfo")
    found = table(seen[1].get("text", "")).get("/mnt", {})
    t.equal(seen[0].get("mode"), 0o741, "mode=741")
    for word in ("size=3072k", "nr_inodes=77"):
        t.has(word, found.get("data"), "data of the file system")
    t.has("nosuid", found.get("options"), "an option of mount(8) among them")
    t.refused({"/mounts/-": tmpfs("/mnt", "no-such-option-of-tmpfs=1")}, what="an option that the file system refuses gives an error")


@case("mounts.cannot", level="core")
def destination_is_file(t: Trial) -> None:
    """Mounting a file system on a file gives an error."""
    made = t.container({"/mounts/-": tmpfs("/etc/passwd")})
    t.refuses(made, (), "create", "create gives an error")


@case("filesystem.proc", "filesystem.sys", "filesystem.devpts", "filesystem.shm", level="core")
def usual(t: Trial) -> None:
    """The usual file systems have the right types and contents."""
    seen = t.observe(
        None, "read /proc/self/mountinfo", "read /proc/1/comm", "list /sys", "stat /dev/pts/ptmx", ["write", "/dev/shm/x", "1"]
    )
    found = table(seen[0].get("text", ""))
    for point, kind, name in (
        ("/proc", "proc", "proc"),
        ("/sys", "sysfs", "sys"),
        ("/dev/pts", "devpts", "devpts"),
        ("/dev/shm", "tmpfs", "shm"),
    ):
        t.equal(found.get(point, {}).get("type"), kind, "type of %s" % point, "filesystem." + name)
    t.equal(seen[1].get("errno"), 0, "/proc/1 is there", "filesystem.proc")
    t.check({"fs", "kernel"} <= set(seen[2].get("names", ())), "/sys has its directories", "filesystem.sys", None, seen[2])
    t.equal(seen[3].get("type"), "char", "/dev/pts/ptmx is there", "filesystem.devpts")
    t.equal(seen[4].get("errno"), 0, "/dev/shm can be written", "filesystem.shm")


@case("mounts.optional", level="linux")
def no_mounts(t: Trial) -> None:
    """A configuration without mounts runs."""
    seen = t.observe({"/mounts": ABSENT}, "say ran")
    t.equal(seen.get("text"), "ran", "the program runs")
