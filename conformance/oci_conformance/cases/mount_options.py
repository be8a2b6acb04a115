"""config.md#configLinuxMountOptions: tests each option in the table by its effect, or by what the kernel shows.

Plain options are tried on a tmpfs, and again on a bind mount, where flags are set differently (by a remount). `shown` and `hidden` are
words in the mount's line of /proc/self/mountinfo."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.case import add, case
from oci_conformance.cases.mounts import share, table, tmpfs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_conformance.case import CaseFunction
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


# option: (options before it, words that must be shown, words that must not)
SHOWN = {
    "async": (["sync"], [], ["sync"]),
    "atime": (["noatime"], [], ["noatime"]),
    "defaults": ([], [], ["ro", "nosuid", "noexec", "nodev"]),
    "diratime": (["nodiratime"], [], ["nodiratime"]),
    "dirsync": ([], ["dirsync"], []),
    "iversion": ([], [], []),
    "lazytime": ([], ["lazytime"], []),
    "loud": (["silent"], [], []),
    "noatime": ([], ["noatime"], []),
    "nodiratime": ([], ["nodiratime"], []),
    "noiversion": ([], [], []),
    "nolazytime": (["lazytime"], [], ["lazytime"]),
    "norelatime": ([], [], []),
    "nostrictatime": (["strictatime"], [], []),
    "relatime": ([], ["relatime"], ["noatime"]),
    "silent": ([], [], []),
    "strictatime": ([], [], ["relatime", "noatime"]),
    "sync": ([], ["sync"], []),
    "nosymfollow": ([], ["nosymfollow"], []),
    "symfollow": (["nosymfollow"], [], ["nosymfollow"]),
    "mand": ([], [], []),
    "nomand": ([], [], []),
}
ON_BIND = ("atime", "diratime", "noatime", "nodiratime", "relatime", "nosymfollow", "symfollow")
PROPAGATION = {"private": [], "shared": ["shared"], "slave": ["master"], "unbindable": ["unbindable"]}


def line_of(seen: Json, point: str = "/mnt") -> dict[str, Sequence[str]]:
    return table(seen.get("text", "")).get(point, {})


def shown(option: str) -> CaseFunction:
    before, must, must_not = SHOWN[option]

    def run(t: Trial) -> None:
        mounts: list[dict[str, Json]] = [tmpfs("/mnt", *before, option)]
        if option in ON_BIND:
            mounts.append({"destination": "/srv", "type": "none", "source": share(t), "options": ["bind", *before, option]})
        for mount in mounts:
            seen = t.observe({"/mounts/-": mount}, "read /proc/self/mountinfo")
            found = line_of(seen, mount["destination"])
            words = [*found.get("options", ()), *found.get("data", ())]
            t.check(bool(found), "the mount is there: %s" % mount["type"])
            for word in must:
                t.has(word, words, "%s with %s" % (mount["type"], " ".join(mount["options"])))
            for word in must_not:
                t.lacks(word, words, "%s with %s" % (mount["type"], " ".join(mount["options"])))

    run.__doc__ = "%s is recognised%s." % (option, " and in effect" if must or must_not else "")
    return run


for option in SHOWN:
    need = ("symfollow",) if "symfollow" in option else ()
    add("mount_options." + option, shown(option), ("option." + option,), "full", need)


@case("option.ro", "option.rw", level="linux")
def ro_rw(t: Trial) -> None:
    """ro and rw, on a file system and on a bind mount; the later one takes precedence."""
    source = share(t)
    for options, wanted in ((["ro"], errno.EROFS), (["rw"], 0), (["ro", "rw"], 0), (["rw", "ro"], errno.EROFS)):
        for mount in (tmpfs("/mnt", *options), {"destination": "/mnt", "type": "none", "source": source, "options": ["bind", *options]}):
            seen = t.observe({"/mounts/-": mount}, "open /mnt/new c")
            t.equal(seen.get("errno"), wanted, "writing to %s with %s" % (mount["type"], ",".join(options)), "option." + options[-1])


@case("option.dev", "option.nodev", level="linux")
def dev_nodev(t: Trial) -> None:
    """Devices below nodev cannot be opened, below dev they can."""
    source = share(t)
    os.mknod(source + "/null", 0o666 | 0o020000, os.makedev(1, 3))
    for options, wanted, name in ((["nodev"], errno.EACCES, "nodev"), (["dev"], 0, "dev"), (["nodev", "dev"], 0, "dev")):
        mount = {"destination": "/mnt", "type": "none", "source": source, "options": ["bind", *options]}
        seen = t.observe({"/mounts/-": mount}, "open /mnt/null r")
        t.equal(seen.get("errno"), wanted, "opening a device with %s" % ",".join(options), "option." + name)


@case("option.exec", "option.noexec", needs="probe", level="linux")
def exec_noexec(t: Trial) -> None:
    """Programs below noexec cannot be executed, below exec they can."""
    source = share(t)
    copy(t, source + "/program", 0o755)
    for options, wanted, name in ((["noexec"], errno.EACCES, "noexec"), (["exec"], 0, "exec"), (["noexec", "exec"], 0, "exec")):
        mount = {"destination": "/mnt", "type": "none", "source": source, "options": ["bind", *options]}
        seen = t.observe({"/mounts/-": mount}, "run /mnt/program", "say end")
        t.equal(seen[0].get("errno"), wanted, "executing with %s" % ",".join(options), "option." + name)


@case("option.suid", "option.nosuid", needs="probe", level="linux")
def suid_nosuid(t: Trial) -> None:
    """A set-user-id program below nosuid gains nothing, below suid it does."""
    source = share(t)
    copy(t, source + "/program", 0o4755)
    for options, wanted, name in ((["nosuid"], 1000, "nosuid"), (["suid"], 0, "suid"), (["nosuid", "suid"], 0, "suid")):
        mount = {"destination": "/mnt", "type": "none", "source": source, "options": ["bind", *options]}
        seen = t.observe({"/mounts/-": mount, "/process/user": {"uid": 1000, "gid": 1000}}, "run /mnt/program self", "say end")
        t.equal(seen[0].get("euid"), wanted, "its effective user with %s" % ",".join(options), "option." + name)


def copy(t: Trial, path: str, mode: int) -> None:
    with open(t.tools.probe, "rb") as source, open(path, "wb") as file:
        file.write(source.read())
    os.chmod(path, mode)


def nested(t: Trial) -> tuple[str, str]:
    """A directory of the host with a tmpfs mounted below it: (outer, inner), each with a file."""
    outer = share(t, "outer", "mark")
    inner = os.path.join(outer, "inner")
    os.makedirs(inner, exist_ok=True)
    system.mount("tmpfs", inner, "tmpfs")
    with open(os.path.join(inner, "deep"), "w") as file:
        file.write("deep")
    return outer, inner


@case("option.bind", "option.rbind", level="linux")
def bind_rbind(t: Trial) -> None:
    """bind includes only the mount, rbind also the mounts below it."""
    outer, _ = nested(t)
    for option, wanted in (("bind", None), ("rbind", "deep")):
        seen = t.observe(
            {"/mounts/-": {"destination": "/mnt", "type": "none", "source": outer, "options": [option]}}, "read /mnt/inner/deep"
        )
        t.equal(seen.get("text"), wanted, "a file of a mount below, with %s" % option, "option." + option)


@case("option.remount", level="full")
def remount(t: Trial) -> None:
    """remount changes the flags of an existing mount."""
    mounts = t.configuration()["mounts"] + [tmpfs("/mnt"), tmpfs("/mnt", "remount", "ro")]
    seen = t.observe({"/mounts": mounts}, "open /mnt/new c")
    t.equal(seen.get("errno"), errno.EROFS, "writing after a remount with ro")


def propagation(option: str) -> CaseFunction:
    kind, recursive = option.removeprefix("r") if option.startswith("r") else option, option.startswith("r")

    def run(t: Trial) -> None:
        outer, inner = nested(t)
        system.mount(outer, outer, None, system.MS_BIND | system.MS_REC)
        system.mount(None, outer, None, system.MS_REC | (system.MS_PRIVATE if kind in ("shared", "unbindable") else system.MS_SHARED))
        mount = {"destination": "/mnt", "type": "none", "source": outer, "options": ["rbind", option]}
        seen = t.observe({"/mounts/-": mount}, "read /proc/self/mountinfo")
        for point in ("/mnt", "/mnt/inner")[: 2 if recursive else 1]:
            t.equal(line_of(seen, point).get("propagation"), PROPAGATION[kind], "propagation of %s" % point)

    run.__doc__ = "%s sets the propagation of the mount%s." % (option, " and of those below" if recursive else "")
    return run


for option in PROPAGATION:
    for name in (option, "r" + option):
        add("mount_options." + name, propagation(name), ("option." + name,), "full")

# recursive option: (initial options of the mounts, words that the inner mount must show, words that it must not)
RECURSIVE = {
    "rro": (0, ["ro"], ["rw"]),
    "rrw": (1, ["rw"], ["ro"]),
    "rnosuid": (0, ["nosuid"], []),
    "rsuid": (2, [], ["nosuid"]),
    "rnodev": (0, ["nodev"], []),
    "rdev": (4, [], ["nodev"]),
    "rnoexec": (0, ["noexec"], []),
    "rexec": (8, [], ["noexec"]),
    "rnodiratime": (0, ["nodiratime"], []),
    "rdiratime": (2048, [], ["nodiratime"]),
    "rnoatime": (0, ["noatime"], []),
    "ratime": (1024, [], ["noatime"]),
    "rrelatime": (1024, ["relatime"], ["noatime"]),
    "rnorelatime": (0, [], []),
    "rstrictatime": (1024, [], ["noatime", "relatime"]),
    "rnostrictatime": (0, [], []),
    "rnosymfollow": (0, ["nosymfollow"], []),
    "rsymfollow": (256, [], ["nosymfollow"]),
}


def recursive(option: str) -> CaseFunction:
    flags, must, must_not = RECURSIVE[option]

    def run(t: Trial) -> None:
        outer, inner = nested(t)
        if flags:
            system.mount(None, inner, None, system.MS_REMOUNT | system.MS_BIND | flags)
        mount = {"destination": "/mnt", "type": "none", "source": outer, "options": ["rbind", option]}
        seen = t.observe({"/mounts/-": mount}, "read /proc/self/mountinfo")
        words = line_of(seen, "/mnt/inner").get("options", [])
        t.check(bool(words), "the mount below is there")
        for word in must:
            t.has(word, words, "the mount below")
        for word in must_not:
            t.lacks(word, words, "the mount below")

    run.__doc__ = "%s is in effect for the mounts below." % option
    return run


for option in RECURSIVE:
    need = ("rsymfollow",) if "symfollow" in option else ("mount_setattr",)
    add("mount_options." + option, recursive(option), ("option." + option,), "full", need)


@case("option.tmpcopyup", level="full")
def tmpcopyup(t: Trial) -> None:
    """tmpcopyup copies the covered directory to the tmpfs."""
    made = t.container({"/mounts/-": tmpfs("/mnt", "tmpcopyup")}, "read /mnt/kept", "read /proc/self/mountinfo")
    with open(made.bundle.inside("/mnt/kept"), "w") as file:
        file.write("kept")
    made.create()
    made.start()
    seen = made.finish()
    t.equal(seen[0].get("text"), "kept", "contents of a file")
    t.equal(line_of(seen[1]).get("type"), "tmpfs", "type of the mount")
