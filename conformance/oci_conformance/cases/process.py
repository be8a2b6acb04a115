"""config.md#configProcess, #configPOSIXProcess; runtime-linux.md#runtimeLinuxFileDescriptors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.trial import Trial


@case("process.cwd", level="core")
def cwd(t: Trial) -> None:
    """The program starts in cwd."""
    for path in ("/tmp", "/bin", "/"):
        t.equal(t.observe({"/process/cwd": path}).get("cwd"), path, "working directory")


@case("process.cwd.required", "process.cwd.absolute", level="core")
def cwd_invalid(t: Trial) -> None:
    """A process without cwd, or with a relative one, gives an error."""
    t.refused({"/process/cwd": ABSENT}, "process.cwd.required", at="start", what="create without cwd gives an error")
    for path in ("tmp", "./tmp"):
        t.refused({"/process/cwd": path}, "process.cwd.absolute", at="start", what="create with the cwd %r gives an error" % path)


@case("process.env", level="core")
def env(t: Trial) -> None:
    """The environment is env, without the caller's variables. A runtime may add HOME."""
    wanted = ["PATH=/bin", "EMPTY=", "SPACE=a b", "EQUALS=a=b", "UTF=ä€", "lower_1=x"]
    made = t.container({"/process/env": wanted}, "self")
    made.expect(made.try_create(env={"OF_THE_CALLER": "1"}), "create")
    made.watch()
    made.start()
    seen = made.finish()[0].get("env", [])
    t.equal(sorted(entry for entry in seen if not entry.startswith("HOME=")), sorted(wanted), "environment")


@case("process.env", level="core")
def env_absent(t: Trial) -> None:
    """Without env, the program has none of the caller's variables."""
    made = t.container({"/process/env": ABSENT}, "self")
    made.expect(made.try_create(env={"OF_THE_CALLER": "1"}), "create")
    made.watch()
    made.start()
    seen = made.finish()[0].get("env", [])
    t.equal([entry for entry in seen if not entry.startswith(("HOME=", "PATH="))], [], "environment")


@case("process.args", needs="probe", level="core")
def args(t: Trial) -> None:
    """The program gets args unchanged: empty ones, spaces, quotes, non-ASCII characters."""
    wanted = ["/bin/probe", "self", "+", "say", "", "+", "say", "a  b", "+", "say", "$HOME `x` \"y\" 'z' \\", "+", "say", "ä€\n\t"]
    made = t.created(None, args=wanted)
    made.start()
    seen = made.finish()
    t.equal(seen[0].get("args"), wanted, "arguments")


@case("process.args.first", level="core")
def lookup(t: Trial) -> None:
    """The program is looked up in the PATH of env; a name with a slash is used as a path, relative to cwd."""
    find = {"/process/env": ["PATH=/nowhere:/opt/a:/bin"]}
    t.equal(t.observe(find, args=["probe", "say", "found"]).get("text"), "found", "a name that is in the last directory of PATH")
    made = t.created({**find, "/process/cwd": "/bin"}, args=["./probe", "say", "here"])
    made.start()
    t.equal(made.finish()[0].get("text"), "here", "a relative path with a slash")
    made = t.container(find, args=["probe", "self"])
    os.makedirs(made.bundle.inside("/opt/a"))
    os.link(made.bundle.inside("/bin/probe"), made.bundle.inside("/opt/a/probe"))
    made.create()
    link = made.bundle.inside("/bin/probe")
    os.unlink(link)
    made.start()
    t.equal([line["op"] for line in made.finish()], ["self"], "the first directory of PATH that has it is used")


@case("process.args.missing", level="core")
def missing(t: Trial) -> None:
    """A program that does not exist, cannot be executed or is not in PATH gives an error, at the latest when it is started."""
    for name in ("/bin/no-such-program", "no-such-program", "/etc/passwd", "/tmp"):
        t.refused(None, at="start", args=[name], what="create with the program %r gives an error" % name)


@case("process.args.required", level="core")
def no_args(t: Trial) -> None:
    """A process without args, or with an empty list, gives an error, at the latest when it is started."""
    t.refused({"/process/args": ABSENT}, at="start", what="create without args gives an error")
    t.refused({"/process/args": []}, at="start", what="create with no args gives an error")


@case("descriptors.three", needs="probe", level="core")
def descriptors(t: Trial) -> None:
    """Only the three standard streams are open, even if the caller had other descriptors open."""
    leak = os.open("/etc/passwd", os.O_RDONLY)
    made = t.container(None, "self")
    made.expect(made.try_create(fds=(leak,)), "create")
    made.watch()
    made.start()
    seen = made.finish()[0].get("fds", {})
    t.equal(sorted(map(int, seen)), [0, 1, 2], "open descriptors")


@case("process.terminal.false", "process.console-size.ignored", needs="probe", level="core")
def no_terminal(t: Trial) -> None:
    """Without a terminal the streams are those of the caller, and consoleSize is ignored."""
    seen = t.observe({"/process/consoleSize": {"height": 11, "width": 22}}, "self", "stat /dev/console")
    t.equal([stream.get("is") for stream in seen[0].get("tty", ())], [0, 0, 0], "streams that are a terminal", "process.terminal.false")
    t.check(True, "consoleSize is not an error", "process.console-size.ignored")


@case("rlimits.soft", "rlimits.hard", "rlimits.readable", level="core")
def rlimits(t: Trial) -> None:
    """Every entry of rlimits is applied, soft and hard."""
    wanted = {"NOFILE": (1000, 1024), "CORE": (0, 0), "FSIZE": (1 << 30, 1 << 31), "STACK": (4 << 20, 8 << 20), "CPU": (100, 200)}
    entries = [{"type": "RLIMIT_" + name, "soft": soft, "hard": hard} for name, (soft, hard) in wanted.items()]
    limits = t.observe({"/process/rlimits": entries}).get("rlimits", {})
    for name, (soft, hard) in wanted.items():
        found = limits.get(name, {})
        t.check(bool(found), "%s can be read" % name, "rlimits.readable")
        t.equal(found.get("soft"), soft, "soft limit of %s" % name, "rlimits.soft")
        t.equal(found.get("hard"), hard, "hard limit of %s" % name, "rlimits.hard")


@case("rlimits.soft", "rlimits.hard", level="linux")
def rlimits_of_other_user(t: Trial) -> None:
    """Limits also apply to a program of another user."""
    entries = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]
    limits = t.observe({"/process/rlimits": entries, "/process/user": {"uid": 1000, "gid": 1000}}).get("rlimits", {})
    t.equal(limits.get("NOFILE"), {"soft": 64, "hard": 128}, "limits of NOFILE")


@case("rlimits.type", "rlimits.duplicates", level="core")
def rlimits_invalid(t: Trial) -> None:
    """An unknown type, and a duplicate type, give an error."""
    one = {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}
    t.refused({"/process/rlimits": [{**one, "type": "RLIMIT_NOSUCH"}]}, "rlimits.type", at="start", what="an unknown type gives an error")
    two = [one, {**one, "soft": 90}]
    t.refused({"/process/rlimits": two}, "rlimits.duplicates", at="start", what="a duplicate type gives an error")


@case("symlink.fd", "symlink.stdin", "symlink.stdout", "symlink.stderr", level="core")
def symlinks(t: Trial) -> None:
    """/dev has the links to the open files of the process that follows them."""
    links = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    seen = t.observe(None, *("stat /dev/" + name for name in links))
    for line, (name, target) in zip(seen, links.items(), strict=True):
        t.equal(line.get("target"), target, "/dev/%s" % name, "symlink." + name)
