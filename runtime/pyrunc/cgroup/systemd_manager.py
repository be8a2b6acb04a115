"""The service manager on its bus: its address, calls, and jobs with deadlines (org.freedesktop.systemd1(5)).

Invariant: every call has a deadline, and any error of the connection becomes a StepFailure that names the unit.
"""

from __future__ import annotations

import posix
import time
from errno import EACCES, ENOENT

from pyrunc.errors import StepFailure, quote
from pyrunc.fileio import fsdecode, read_file
from pyrunc.linux import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    from pyrunc.linux.dbus import Value

    # As recorded in the state; the values have different types:
    Unit: TypeAlias = dict[str, Any]  # {"name", "slice", "user", "address", "properties", "below", "timeout_ms"}

POINTER = "/linux/cgroupsPath"
NAME = "org.freedesktop.systemd1"
OBJECT = "/org/freedesktop/systemd1"
MANAGER = NAME + ".Manager"
SYSTEM_BUS = "/run/dbus/system_bus_socket"
PRIVATE = "/run/systemd/private"  # for a manager without a bus
TIMEOUT_S = 30


class Manager:
    """A connection to the service manager of a unit ("user": our user's manager, at "address"), with the unit's "timeout_ms" if it has one.
    Errors of the connection are raised as StepFailure."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit["name"]
        self.timeout_s = unit["timeout_ms"] / 1000 if unit.get("timeout_ms") else TIMEOUT_S
        self.what = "the user's systemd" if unit["user"] else "systemd"
        self.version_cache: int | None = None
        self.subscribed = False
        self.link = self._connect(unit["user"], unit["address"])

    def _connect(self, user: bool, address: str | None) -> dbus.Connection:
        # a user's unit is never looked up on the system bus, even if the state with the address is lost
        paths = [(address or "", True)] if user or address else [(SYSTEM_BUS, True), (PRIVATE, False)]
        first: Exception | None = None
        for path, is_bus in paths:
            try:
                return dbus.Connection(path, self._deadline(), is_bus)
            except (OSError, ValueError, dbus.DBusError) as e:
                first = first or e
        raise self._failure(first, "connect to")

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout_s

    def _failure(self, e: Exception | None, what: str) -> StepFailure:
        number = e.errno if isinstance(e, OSError) else None
        if isinstance(e, TimeoutError):
            return StepFailure(
                "manager-timeout",
                "%s did not answer within %g s about the unit %s" % (self.what, self.timeout_s, quote(self.unit)),
                pointer=POINTER,
                call="dbus",
                errno=number,
                path=self.unit,
                hint="see systemctl list-jobs; --systemd-timeout of create and run sets a longer timeout",
            )
        text = str(e)
        if isinstance(e, OSError):
            text = {ENOENT: "there is no such socket", EACCES: "we may not use its socket"}.get(e.errno or 0, e.strerror or text)
        hint = "is it running? --cgroup-manager=cgroupfs does not need it" if what == "connect to" else None
        return StepFailure(
            "no-manager", "cannot %s %s: %s" % (what, self.what, text), pointer=POINTER, call="dbus", errno=number, hint=hint
        )

    def close(self) -> None:
        self.link.close()

    def call(
        self,
        member: str,
        signature: str = "",
        values: Sequence[Value] = (),
        what: str | None = None,
        interface: str = MANAGER,
        answer: str | None = None,
        path: str = OBJECT,
    ) -> list[Value]:
        """The values of the reply, which has the signature `answer` (None: any). A DBusError is passed on if `what` is None."""
        try:
            return self.link.call(NAME, path, interface, member, signature, values, self._deadline(), answer)
        except dbus.DBusError as e:
            if what is None:
                raise
            raise self._failure(e, what) from None
        except (OSError, ValueError) as e:
            raise self._failure(e, what or "call %s of" % member) from None

    def get(self, name: str, path: str = OBJECT, interface: str = MANAGER) -> str:
        """A property that is a string, of the manager or of the unit at `path`."""
        kind, value = self.call("Get", "ss", (interface, name), "ask", "org.freedesktop.DBus.Properties", "v", path)[0]
        if kind != "s":
            raise self._failure(ValueError("its %s has the type %r instead of 's'" % (name, kind)), "ask")
        text: str = value
        return text

    def find(self, unit: str) -> str | None:
        """The object path of a unit that is loaded, or None."""
        try:
            path: str = self.call("GetUnit", "s", (unit,), answer="o")[0]
        except dbus.DBusError as e:
            if e.name != NAME + ".NoSuchUnit":
                raise self._failure(e, "ask") from None
            return None
        return path

    @property
    def version(self) -> int:
        """The number at the beginning of '257.7-1' or 'v249'."""
        if self.version_cache is None:
            digits = ""
            for char in self.get("Version").lstrip("v"):
                if not char.isdigit():
                    break
                digits += char
            self.version_cache = int(digits or 0)
        return self.version_cache

    def _subscribe(self) -> None:
        """Once per connection: a second time is an error (AlreadySubscribed)."""
        if self.subscribed:
            return
        if self.link.is_bus:
            rule = "type='signal',interface='%s',member='JobRemoved',path='%s'" % (MANAGER, OBJECT)
            try:
                self.link.call(*dbus.BUS, "AddMatch", "s", (rule,), self._deadline())
            except (OSError, ValueError, dbus.DBusError) as e:
                raise self._failure(e, "subscribe to") from None
        self.call("Subscribe", what="subscribe to")
        self.subscribed = True

    def job(self, member: str, unit: str, signature: str, values: Sequence[Value], what: str) -> None:
        """Starts a job and waits until it is done. A DBusError is passed on if the call itself is refused; otherwise StepFailure."""
        self._subscribe()
        path = self.call(member, signature, values, answer="o")[0]
        try:
            values = self.link.wait_signal(NAME, OBJECT, MANAGER, "JobRemoved", "uoss", lambda v: v[1] == path, self._deadline())
        except (OSError, ValueError) as e:
            raise self._failure(e, "%s %s with" % (what, unit)) from None
        result = values[3]
        if result != "done":
            words = "error %sing systemd unit %s: got %s" % (what, quote(unit), quote(result))
            raise StepFailure("job-failed", words, pointer=POINTER, call="dbus", path=unit, hint="see systemctl status %s" % quote(unit))


def bus_address(environment: Iterable[bytes]) -> str:
    """Path of the user's bus, from the caller's environment (list of bytes)."""
    found = dict(item.partition(b"=")[::2] for item in environment)
    address = fsdecode(found.get(b"DBUS_SESSION_BUS_ADDRESS", b""))
    for one in address.split(";"):
        if one.startswith("unix:path="):
            return one[len("unix:path=") :].split(",")[0]
    runtime = fsdecode(found.get(b"XDG_RUNTIME_DIR", b"")) or "/run/user/%d" % outer_uid()
    return runtime + "/bus"


def outer_uid() -> int:
    """Our uid in the parent user namespace: we are root in the namespace of a user, and use that user's bus."""
    euid = posix.geteuid()
    for line in fsdecode(read_file("/proc/self/uid_map", 1 << 20)).split("\n"):
        fields = [int(x) for x in line.split()]
        if len(fields) == 3 and fields[0] <= euid < fields[0] + fields[2]:
            return fields[1] + euid - fields[0]
    return euid
