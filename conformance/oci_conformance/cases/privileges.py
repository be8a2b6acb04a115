"""config.md#configLinuxProcess: capabilities and noNewPrivileges."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT, CAPABILITIES, granted
from oci_conformance.case import case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oci_conformance.shapes import Changes, Json, Line
    from oci_conformance.trial import Trial


SETS = ("effective", "permitted", "inheritable", "bounding", "ambient")


def mask(*names: str) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in names)


def named(value: int | None) -> list[str]:
    """Names of the bits in a set, for reports."""
    return [name for number, name in enumerate(CAPABILITIES) if (value or 0) >> number & 1]


def check_sets(t: Trial, seen: Json, wanted: Mapping[str, Sequence[str]]) -> None:
    """wanted: {set: names}"""
    found = seen.get("capabilities", {})
    for name in SETS:
        t.equal(named(found.get(name)), named(mask(*wanted.get(name, ()))), "%s set" % name, "capabilities." + name)


def cap(*names: str) -> list[str]:
    return ["CAP_" + name for name in names]


@case(*("capabilities." + name for name in SETS), level="core")
def sets_of_root(t: Trial) -> None:
    """Each set of a program that runs as root is as configured."""
    base = ("CHOWN", "KILL", "NET_RAW")
    sets = {"bounding": cap(*base), "permitted": cap(*base), "effective": cap(*base)}
    check_sets(t, t.observe({"/process/capabilities": sets}), {"bounding": base, "permitted": base, "effective": base})


@case(*("capabilities." + name for name in SETS), level="core")
def sets_of_user(t: Trial) -> None:
    """A program of another user has the ambient capabilities, and the inheritable and bounding sets as configured."""
    sets = {
        "bounding": cap("CHOWN", "KILL", "NET_RAW", "SETUID"),
        "permitted": cap("CHOWN", "KILL", "NET_RAW"),
        "effective": cap("CHOWN", "KILL", "NET_RAW"),
        "inheritable": cap("KILL", "NET_RAW"),
        "ambient": cap("NET_RAW"),
    }
    seen = t.observe({"/process/capabilities": sets, "/process/user": {"uid": 1000, "gid": 1000}})
    wanted = {"effective": ["NET_RAW"], "permitted": ["NET_RAW"], "inheritable": ["KILL", "NET_RAW"], "ambient": ["NET_RAW"]}
    check_sets(t, seen, {**wanted, "bounding": ["CHOWN", "KILL", "NET_RAW", "SETUID"]})


@case("capabilities.effective", "capabilities.permitted", level="core")
def user_without_ambient(t: Trial) -> None:
    """Without ambient capabilities a program of another user has none."""
    seen = t.observe({"/process/user": {"uid": 1000, "gid": 1000}}).get("capabilities", {})
    for name in ("effective", "permitted"):
        t.equal(named(seen.get(name)), [], "%s set" % name, "capabilities." + name)


@case("capabilities.bounding", "capabilities.effective", "capabilities.permitted", level="core")
def empty_sets(t: Trial) -> None:
    """With an object without sets, or with empty sets, a program that runs as root has no capabilities."""
    empty: dict[str, list[str]] = {name: [] for name in SETS}
    for sets in ({}, empty):
        seen = t.observe({"/process/capabilities": sets}).get("capabilities", {})
        for name in ("bounding", "effective", "permitted"):
            t.equal(named(seen.get(name)), [], "%s set with %r" % (name, sets), "capabilities." + name)


@case("capabilities.effective", needs="probe", level="core")
def effect(t: Trial) -> None:
    """A missing capability cannot be used, a present one can."""
    some = cap("MKNOD")
    sets = {"bounding": some, "permitted": some, "effective": some}
    seen = t.observe({"/process/capabilities": sets}, "mknod /tmp/n c 1 3", "mount x /mnt tmpfs 0", "call sethostname =x 1")
    t.equal(seen[0].get("errno"), 0, "mknod with CAP_MKNOD")
    t.equal(seen[1].get("errno"), 1, "mount without CAP_SYS_ADMIN")
    t.equal(seen[2].get("errno"), 1, "sethostname without CAP_SYS_ADMIN")


@case("capabilities.no-failure", "warnings.go-on", level="core")
def unknown(t: Trial) -> None:
    """An unknown capability is not an error; the others are granted."""
    sets = {name: ["CAP_KILL", "CAP_NO_SUCH_THING"] for name in ("bounding", "permitted", "effective")}
    seen = t.observe({"/process/capabilities": sets}).get("capabilities", {})
    t.equal(named(seen.get("effective")), ["KILL"], "effective set")


@case("capabilities.no-failure", "warnings.go-on", level="linux")
def not_granted(t: Trial) -> None:
    """Capabilities that the runtime itself does not have are not an error; those that it has are granted."""
    mine = granted()
    if len(mine) == len(CAPABILITIES):
        t.skip("this process has all capabilities")
    names = cap(*CAPABILITIES)
    seen = t.observe({"/process/capabilities": {name: names for name in ("bounding", "permitted", "effective")}}).get("capabilities", {})
    t.equal(cap(*named(seen.get("effective"))), mine, "effective set")


def suid_root(t: Trial, changes: Changes) -> tuple[Line, Line]:
    """What a set-user-id program of root sees, run by a program of user 1000."""
    made = t.container({"/process/user": {"uid": 1000, "gid": 1000}, **changes}, "run /bin/suid self", "self")
    target = made.bundle.inside("/bin/suid")
    with open(t.tools.probe, "rb") as source, open(target, "wb") as file:
        file.write(source.read())
    os.chmod(target, 0o4755)
    made.create()
    made.start()
    lines = made.finish()
    t.need(len(lines) == 3, "the set-user-id program runs", "three lines", lines)
    return lines[0], lines[2]


@case("no-new-privileges", needs="probe", level="core")
def no_new_privileges(t: Trial) -> None:
    """With noNewPrivileges the flag is set, and a set-user-id program gains nothing."""
    inner, outer = suid_root(t, {"/process/noNewPrivileges": True})
    t.equal(outer.get("no_new_privs"), 1, "the flag")
    t.equal(inner.get("euid"), 1000, "effective user of a set-user-id program")


@case("no-new-privileges.false", needs="probe", level="core")
def new_privileges(t: Trial) -> None:
    """Without it, a set-user-id program gains its owner's privileges."""
    for changes in ({"/process/noNewPrivileges": False}, {"/process/noNewPrivileges": ABSENT}):
        inner, outer = suid_root(t, changes)
        t.equal(outer.get("no_new_privs"), 0, "the flag")
        t.equal(inner.get("euid"), 0, "effective user of a set-user-id program")


@case("apparmor", needs="no-apparmor", level="linux")
def apparmor_missing(t: Trial) -> None:
    """A profile on a machine without AppArmor gives an error, at the latest when it is started."""
    t.refused({"/process/apparmorProfile": "no-such-profile"}, at="start")


@case("apparmor", needs="apparmor", level="linux")
def apparmor(t: Trial) -> None:
    """An unknown profile gives an error; the profile unconfined is applied."""
    t.refused({"/process/apparmorProfile": "no-such-profile-here"}, at="start")
    seen = t.observe({"/process/apparmorProfile": "unconfined"}, "read /proc/self/attr/current")
    t.check(seen.get("text", "").startswith("unconfined"), "profile of the program", (), "unconfined", seen)


@case("selinux-label", "mount-label", needs="no-selinux", level="linux")
def selinux_missing(t: Trial) -> None:
    """A label on a machine without SELinux gives an error, at the latest when it is started."""
    label = "system_u:system_r:container_t:s0"
    t.refused({"/process/selinuxLabel": label}, "selinux-label", at="start", what="create with selinuxLabel gives an error")
    label = "system_u:object_r:container_file_t:s0"
    t.refused({"/linux/mountLabel": label}, "mount-label", at="start", what="create with mountLabel gives an error")


@case("selinux-label", "mount-label", needs="selinux", level="linux")
def selinux(t: Trial) -> None:
    """Program and mounts have the labels of the configuration."""
    label, context = "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0"
    changes = {"/process/selinuxLabel": label, "/linux/mountLabel": context}
    seen = t.observe(changes, "read /proc/self/attr/current", "read /proc/self/mountinfo")
    t.equal(seen[0].get("text", "").strip("\0\n"), label, "label of the program", "selinux-label")
    t.check(context in seen[1].get("text", ""), "context of the mounts", "mount-label", context, seen[1].get("text"))
