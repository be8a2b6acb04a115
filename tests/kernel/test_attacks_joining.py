"""exec into a container, and create beside one, whose processes have CAP_SYS_PTRACE: from its clone to its execve they control the joining
process, and so its descriptors and what it sends to the runtime."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest

import harness
from pyrunc.engine import handshake
from pyrunc.linux import _syscalls
from test_joined_pids import FILTER, neighbour, others_in, sharing  # noqa: F401  # a fixture
from test_joining import CAPS, joined, popen, slow, until  # noqa: F401  # a fixture

pytestmark = pytest.mark.kernel

ENOENT = 2


def record(kind: bytes, error: int = 0, extra: int = 0) -> bytes:
    return struct.pack(handshake.RECORD, kind, 0, 0, error, extra, b"execve")


def link_of(pid: int) -> socket.socket:
    """The joining process's end of the connection to the runtime, as any process gets it that may trace that process (pidfd_getfd(2))."""
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir("/proc/%d/fd" % pid):
            if os.readlink("/proc/%d/fd/%s" % (pid, name)).startswith("socket:"):
                return socket.socket(fileno=_syscalls.pidfd_getfd(pidfd, int(name), 0))
    finally:
        os.close(pidfd)
    raise AssertionError("%d has no socket" % pid)


class Held:
    """An exec whose process waits in execve(2): `command`, `pid` of the process and `link`, its connection to the runtime."""

    def __init__(self, pyrunc: harness.Runtime, id: str) -> None:
        self.command = popen(pyrunc, "exec", id, "/bin/slow", "true")
        self.pid = joined(pyrunc, id, self.command)
        until(lambda: waits_for_lease(self.pid), "a process in execve")
        self.link = link_of(self.pid)

    def ends(self) -> str:
        """The error that the command ends with; the process must not remain."""
        err = self.command.communicate(timeout=harness.WATCHDOG)[1]
        assert self.command.returncode == 255, err
        assert not os.path.exists("/proc/%d" % self.pid)
        return err


def waits_for_lease(pid: int) -> list[str]:
    """Whether a process waits in execve(2) until the lease on the program ends: [its wait channel], or []."""
    channel = pathlib.Path("/proc/%d/wchan" % pid).read_text()
    return [channel] if "break_lease" in channel else []


@pytest.fixture
def held(pyrunc, slow) -> Iterator[Held]:  # noqa: F811
    made = Held(pyrunc, slow[0])
    yield made
    made.link.close()
    if made.command.poll() is None:
        made.command.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(made.pid, signal.SIGKILL)
        made.command.communicate()


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host."""
    made = subprocess.Popen(["sleep", "1000"])
    yield made
    made.kill()
    made.wait()


def test_what_it_sends_is_received(held):
    held.link.send(record(handshake.C_FAIL, ENOENT))
    assert "no such file or directory" in held.ends()


def test_it_cannot_pass_another_process_off_as_itself(held, victim):
    """The runtime would kill it when exec fails, and forward signals to it when it does not."""
    held.link.send(record(handshake.C_CLONED, extra=victim.pid))
    with contextlib.suppress(OSError):  # by then it may have ended
        held.link.send(record(handshake.C_FAIL, ENOENT))
    held.ends()
    assert victim.poll() is None


@pytest.mark.parametrize("kind", ["C_SYNC", "C_CLONED", "ASK", "HOOKS", "STAMPS", "FAILED"])
def test_messages_of_another_phase_end_it(held, kind):
    head = getattr(handshake, kind)
    held.link.send(record(head) if kind.startswith("C_") else head)
    assert "the other side sent" in held.ends()


def test_many_messages_do_not_keep_a_signal_from_ending_it(held):
    """Signals wait while there are messages, so a process that never stops sending would keep the command from ending."""
    held.link.setblocking(False)
    with contextlib.suppress(OSError):
        for _ in range(10_000):
            held.link.send(record(handshake.C_LISTENER))
    held.command.send_signal(signal.SIGTERM)
    held.ends()


def test_closing_the_connection_is_not_an_exit(held):
    held.link.shutdown(socket.SHUT_RDWR)
    assert "closed its connection" in held.ends()


def test_a_connection_that_ends_before_execve_is_no_failure(held, slow):  # noqa: F811
    held.link.shutdown(socket.SHUT_RDWR)
    fcntl.fcntl(slow[2], fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert "exec failed" not in held.command.communicate(timeout=harness.WATCHDOG)[1]
    assert held.command.returncode == 127  # busybox has no applet of this name


# ---- the filter


def seccomp_of(pid: int) -> str:
    """0 without a filter, 2 with one."""
    lines = pathlib.Path("/proc/%d/status" % pid).read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Seccomp:"))


@pytest.mark.parametrize("nnp", [False, True])
@pytest.mark.parametrize("profile", [None, FILTER], ids=["none", "filter"])
def test_a_waiting_process_that_neighbours_may_trace_has_its_filter(pyrunc, make_bundle, neighbour, nnp, profile):  # noqa: F811
    changes = {**sharing(neighbour), "/process/noNewPrivileges": nnp, "/linux/seccomp": profile or harness.ABSENT}
    id = pyrunc.create(make_bundle(changes, args=["/bin/sleep", "1000"]))
    assert seccomp_of(pyrunc.state(id)["pid"]) == ("2" if profile else "0")
    pyrunc.start(id)
    assert seccomp_of(pyrunc.state(id)["pid"]) == ("2" if profile else "0")


@pytest.mark.parametrize("nnp", [False, True])
@pytest.mark.parametrize("caps", [CAPS, {}], ids=["ptrace", "no ptrace"])
def test_a_joining_process_that_the_container_may_trace_has_its_filter(pyrunc, make_bundle, tmp_path, nnp, caps):
    """Looked at in its first call after the clone, setsid(2)."""
    changes = {**caps, "/process/noNewPrivileges": nnp, "/linux/seccomp": FILTER}
    id = pyrunc.started(make_bundle(changes, args=["/bin/sleep", "1000"]))
    slowly = ["strace", "-f", "-qq", "-o", str(tmp_path / "calls"), "-e", "trace=setsid", "-e", "inject=setsid:delay_enter=3000000"]
    with subprocess.Popen([*slowly, *pyrunc.argv("exec", id, "/bin/true")], env=pyrunc.env) as command:
        init = pyrunc.state(id)["pid"]
        shared = os.readlink("/proc/%d/ns/pid" % init)
        pid = int(until(lambda: [str(found) for found in others_in(shared, init)], "a process that has joined")[0])
        assert seccomp_of(pid) == ("2" if caps or not nnp else "0")
        assert command.wait(harness.WATCHDOG) == 0


# ---- start


def test_start_ends_although_a_neighbour_holds_its_fifo(pyrunc, make_bundle, neighbour):  # noqa: F811
    """The end of `result` means that the program was executed; whoever may trace the waiting process can keep it open (proc_pid_fd(5))."""
    id = pyrunc.create(make_bundle(sharing(neighbour), args=["/bin/sleep", "1000"]))
    folder = pathlib.Path("/proc/%d/fd" % pyrunc.state(id)["pid"])
    result = next(entry for entry in folder.iterdir() if os.readlink(entry).endswith("/result"))
    held = os.open(result, os.O_WRONLY)
    try:
        pyrunc.start(id)
        assert pyrunc.state(id)["status"] == "running"
    finally:
        os.close(held)
