"""config.md#configProcess: terminal and consoleSize; config-linux.md#configLinuxDefaultDevices: /dev/console."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import struct
import termios
from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT
from oci_conformance.case import case
from oci_conformance.terminal import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_conformance.container import Container
    from oci_conformance.shapes import Changes, Operation
    from oci_conformance.trial import Trial


@contextlib.contextmanager
def on_terminal(t: Trial, changes: Changes, *operations: Operation) -> Iterator[tuple[Container, Console]]:
    """A created container with a terminal whose master we have."""
    console = Console(t.directory)
    made = t.container({"/process/terminal": True, **changes}, *operations)
    try:
        made.expect(made.try_create(*console.option), "create with --console-socket")
        made.watch()
        t.need(console.receive(), "the master of the pseudoterminal is sent to the console socket")
        yield made, console
    finally:
        console.close()


@case("process.terminal", needs="probe", level="core")
def streams(t: Trial) -> None:
    """The three streams are one pseudoterminal, which is the controlling terminal of the program's session."""
    with on_terminal(t, {}, "self", "wait") as (made, console):
        made.start()
        seen = console.lines("wait")
        first = seen[0] if seen else {}
        tty = first.get("tty", [])
        t.equal([stream.get("is") for stream in tty], [1, 1, 1], "streams that are a terminal")
        t.equal(len({stream.get("rdev") for stream in tty}), 1, "they are the same one")
        t.equal({stream.get("owner") for stream in tty}, {first.get("sid")}, "it is the controlling terminal of the session")
        assert console.master is not None  # on_terminal has received it
        fcntl.ioctl(console.master, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 9, 0, 0))
        t.equal(
            [line.get("signal") for line in console.lines("signal") if line["op"] == "signal"],
            [signal.SIGWINCH],
            "a change of size is signalled",
        )


@case("default-device.console", needs="probe", level="core")
def device(t: Trial) -> None:
    """/dev/console is the pseudoterminal, bind mounted."""
    with on_terminal(t, {}, "self", "follow /dev/console", "read /proc/self/mountinfo", "say end") as (made, console):
        made.start()
        seen = {line["op"]: line for line in console.lines("say")}
        tty = seen.get("self", {}).get("tty", [{}])[0]
        found = seen.get("follow", {})
        t.equal(found.get("type"), "char", "type of /dev/console")
        t.equal((found.get("ino"), found.get("dev")), (tty.get("ino"), tty.get("dev")), "it is the node of the standard streams")
        points = [line.split()[4] for line in seen.get("read", {}).get("text", "").splitlines() if line]
        t.has("/dev/console", points, "it is a mount")


@case("process.console-size", needs="probe", level="core")
def size(t: Trial) -> None:
    """consoleSize is the size of the terminal when the program starts."""
    with on_terminal(t, {"/process/consoleSize": {"height": 33, "width": 111}}, "self", "say end") as (made, console):
        made.start()
        tty = (console.lines("say") or [{}])[0].get("tty", [{}])[0]
        t.equal((tty.get("rows"), tty.get("columns")), (33, 111), "rows and columns")


@case("default-device.console", "process.terminal.false", needs="probe", level="linux")
def none(t: Trial) -> None:
    """Without a terminal, /dev/console does not lead to one."""
    seen = t.observe({"/process/terminal": ABSENT}, "self", "stat /dev/console")
    t.equal([stream.get("is") for stream in seen[0].get("tty", ())], [0, 0, 0], "streams that are a terminal", "process.terminal.false")
    t.check(seen[1].get("errno") == 2, "there is no /dev/console", "default-device.console", "ENOENT", seen[1])


@case("process.terminal", level="linux")
def other_user(t: Trial) -> None:
    """A program of another user can reopen its terminal."""
    changes = {"/process/user": {"uid": 1000, "gid": 1000}}
    with on_terminal(t, changes, "open /dev/tty rw", "say end") as (made, console):
        made.start()
        seen = console.lines("say")
        t.equal(seen[0].get("errno") if seen else None, 0, "opening /dev/tty")
