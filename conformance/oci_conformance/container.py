"""One container: the operations of the specification, and the output of its program.

Rule: the program's output comes through a pipe of ours that is read while waiting, so that nothing can block or be lost;
how long anything may take is bounded.
"""

from __future__ import annotations

import json
import os
import select
import signal
from typing import TYPE_CHECKING

from oci_conformance import probe, system
from oci_conformance.case import Stop
from oci_conformance.runtime import FLOOD

if TYPE_CHECKING:
    from typing import Unpack

    from oci_conformance.bundle import Bundle
    from oci_conformance.runtime import Call
    from oci_conformance.shapes import CallOptions, Json, Line
    from oci_conformance.trial import Trial


END_SECONDS = 20
STATUSES = ("creating", "created", "running", "stopped")


class Container:
    def __init__(self, trial: Trial, bundle: Bundle, id: str) -> None:
        self.trial = trial
        self.bundle = bundle
        self.id = id
        self.pid = 0  # from the state; 0 before that, and if it reports none
        self.reported_pid: Json = None  # the reported value, whatever it is
        self.pidfd: int | None = None
        self.ends: tuple[int, int | None] | None = None  # the pipe: our end for reading, the program's for writing
        self.text = ""
        self.last: Call  # the last call
        self.create_call: Call
        self.deleted = False
        self.attempted = False

    # ---- operations; those with `try_` accept a failure

    def call(self, *arguments: str, **kw: Unpack[CallOptions]) -> Call:
        self.last = self.trial.call(*arguments, **kw)
        return self.last

    def expect(self, done: Call, what: str) -> Call:
        if done.code != 0:
            raise Stop(what + " fails", "exit 0", {"call": done.as_dict()})
        return done

    def try_create(self, *options: str, **kw: Unpack[CallOptions]) -> Call:
        self.ends = self.ends or os.pipe2(os.O_CLOEXEC)
        self.attempted = True
        kw["stdout"] = self.ends[1]
        self.create_call = self.call("create", "--bundle", self.bundle.path, *options, self.id, **kw)
        return self.create_call

    def create(self, *options: str, **kw: Unpack[CallOptions]) -> Container:
        self.expect(self.try_create(*options, **kw), "create")
        self.close_writing_end()

        self.watch()
        return self

    def close_writing_end(self) -> None:
        if self.ends and self.ends[1] is not None:
            os.close(self.ends[1])
            self.ends = (self.ends[0], None)

    def watch(self) -> bool:
        """Reads the pid from the state and opens a pidfd, to wait for its exit."""
        self.reported_pid = pid = self.state().get("pid")
        if isinstance(pid, int) and pid > 0 and self.pidfd is None:
            self.pid = pid
            try:
                self.pidfd = os.pidfd_open(self.pid)
            except OSError:
                self.pidfd = None
        return self.pidfd is not None

    def try_start(self, **kw: Unpack[CallOptions]) -> Call:
        return self.call("start", self.id, **kw)

    def start(self) -> Call:
        return self.expect(self.try_start(), "start")

    def try_kill(self, name: str = "KILL") -> Call:
        return self.call("kill", self.id, name)

    def kill(self, name: str = "KILL") -> Call:
        return self.expect(self.try_kill(name), "kill")

    def try_delete(self, *options: str) -> Call:
        done = self.call("delete", *options, self.id)
        self.deleted = self.deleted or done.code == 0
        return done

    def delete(self) -> Call:
        return self.expect(self.try_delete(), "delete")

    def exists(self) -> bool:
        return self.call("state", self.id).code == 0

    def try_state(self) -> dict[str, Json]:
        """The state, or {} if it can't be read."""
        done = self.call("state", self.id)
        try:
            found = json.loads(done.out) if done.code == 0 else {}
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}

    def state(self) -> dict[str, Json]:
        found = self.try_state()
        if not found:
            raise Stop("state gives no JSON object", "a state", {"call": self.last.as_dict()})
        return found

    @property
    def status(self) -> Json:
        return self.state().get("status")

    # ---- the program

    def wait(self, seconds: float) -> tuple[bool, bool]:
        """Waits for output or the exit, whichever comes first. Returns (whether there is output, whether the process has exited)."""
        poll = select.poll()
        for fd in (self.ends[0] if self.ends else None, self.pidfd):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        ready = {fd for fd, event in poll.poll(seconds * 1000) if event & select.POLLIN}
        data = b""
        if self.ends and self.ends[0] in ready:
            data = os.read(self.ends[0], 1 << 16)
            self.text += data.decode("latin-1")
            if len(self.text) > FLOOD:
                raise Stop("the program produces too much output", None, self.text[:200])
        return bool(data), self.pidfd is None or self.pidfd in ready

    def ended(self, seconds: float = END_SECONDS) -> bool:
        """Whether the container process exits in time; its output is read in the meantime."""
        clock = system.Clock(seconds)
        while clock.left:
            came, over = self.wait(clock.left)
            if over and not came:
                system.reap()
                return True
        return False

    def lines(self) -> list[Line]:
        return probe.parse(self.text)

    def line(self, op: str, seconds: float = END_SECONDS) -> Line:
        """Waits for the newest line of an operation."""
        clock = system.Clock(seconds)
        while True:
            hits = [line for line in self.lines() if line["op"] == op] if self.text.endswith("\n") else []
            if hits:
                return hits[-1]
            came, over = self.wait(clock.left)
            if not came and (over or not clock.left):
                raise Stop("the program does not get to %r" % op, op, self.lines() or self.create_call.err[-1000:])

    def finish(self) -> list[Line]:
        """Waits until the program exits and deletes the container. Returns all lines that it printed."""
        if not self.ended():
            raise Stop("the program does not end", "its end", self.lines())
        self.delete()
        return self.lines()

    def is_ours(self) -> bool:
        """Whether the pid that the runtime has reported is a descendant of this process: a runtime may report a wrong pid, and no other process must be harmed."""
        pid = self.pid
        while pid and pid != os.getpid():
            pid = int(system.status_of(pid).get("PPid", 0))
        return bool(pid) and self.pid != os.getpid()

    def stop(self) -> bool:
        """Sends KILL and waits. Returns whether it exited."""
        self.try_kill("KILL")
        return self.ended()

    def discard(self) -> None:
        """At the end of a case: removes processes and state."""
        if self.pidfd is not None:
            if self.is_ours():
                try:
                    signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                except OSError:
                    pass
                system.ended(self.pidfd, 5)
            os.close(self.pidfd)
            self.pidfd = None
        system.reap()
        if self.attempted and not self.deleted and os.path.exists(os.path.join(self.trial.root, self.id)):
            if self.try_delete().code != 0:
                self.try_delete("--force")
        for fd in self.ends or ():
            if fd is not None:
                os.close(fd)
        self.ends = None
