"""exec into a hostile container: what its processes can see of the joining process and do to it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import harness

pytestmark = pytest.mark.kernel

PTRACE = 1 << 19
KILL = 1 << 5
SETS = ("bounding", "effective", "permitted")
CAPS = {"/process/capabilities": {name: ["CAP_SYS_PTRACE", "CAP_KILL"] for name in SETS}}
ALLOW = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
ROUNDS = 20


class Watcher(threading.Thread):
    """Records the capabilities of each process that the procfs of a container shows, as fast as possible: {name: sets that were seen}."""

    def __init__(self, init: int) -> None:
        super().__init__(daemon=True)
        self.root = "/proc/%d/root/proc" % init
        self.seen: dict[str, set[tuple[int, int]]] = {}
        self.over = False

    def run(self) -> None:
        while not self.over:
            for name in os.listdir(self.root):
                if name.isdigit() and name != "1":
                    self.look(name)

    def look(self, name: str) -> None:
        try:
            with open("%s/%s/status" % (self.root, name)) as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        except OSError:
            return
        if fields["Uid"].split() == ["65534"] * 4 and fields["NoNewPrivs"] == "1":
            # csrc/procfs.c, before Linux 6.18: nobody, with rights only in a user namespace of its own (test_joined_pids_procfs.py attacks it)
            return
        self.seen.setdefault(fields["Name"], set()).add((int(fields["CapBnd"], 16), int(fields["CapPrm"], 16)))

    def end(self) -> dict[str, set[tuple[int, int]]]:
        self.over = True
        self.join()
        return self.seen


@pytest.mark.parametrize("changes", [{}, {"/process/noNewPrivileges": False, "/linux/seccomp": ALLOW}], ids=["plain", "filter"])
def test_the_container_never_sees_more_than_its_own_rights(pyrunc, make_bundle, changes):
    """A process with CAP_SYS_PTRACE can take over every process that it sees."""
    id = pyrunc.started(make_bundle({**CAPS, **changes}, args=["/bin/sleep", "1000"]))
    watcher = Watcher(pyrunc.state(id)["pid"])
    watcher.start()
    for _ in range(ROUNDS):
        pyrunc.ok("exec", id, "/bin/sleep", "0.01")
    seen = watcher.end()
    assert (PTRACE | KILL, PTRACE | KILL) in seen["sleep"], "the watcher sees executed programs"
    assert {sets for found in seen.values() for sets in found} == {(PTRACE | KILL, PTRACE | KILL)}, seen


def test_a_filter_that_bars_the_way_is_a_failure(pyrunc, make_bundle):
    """A process that the container sees would need CAP_SYS_ADMIN to load it. Without CAP_SYS_PTRACE that is harmless."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["clone", "clone3", "fork", "vfork"], "action": "SCMP_ACT_ERRNO"}],
    }
    changes = {"/process/noNewPrivileges": False, "/linux/seccomp": profile}
    id = pyrunc.started(make_bundle({**CAPS, **changes}, args=["/bin/sleep", "1000"]))
    failed = pyrunc.call("exec", id, "/bin/true")
    assert failed.code == 255 and "seccomp.op_early" in failed.err and "CAP_SYS_PTRACE" in failed.err, failed
    id = pyrunc.started(
        make_bundle({**changes, "/process/capabilities": {name: ["CAP_KILL"] for name in SETS}}, args=["/bin/sleep", "1000"])
    )
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"
    id = pyrunc.started(make_bundle({**CAPS, **changes, "/process/noNewPrivileges": True}, args=["/bin/sleep", "1000"]))
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"


PTRACE_SEIZE = 0x4206


@pytest.fixture
def slow(pyrunc, make_bundle) -> Iterator[tuple[str, pathlib.Path, int]]:
    """(id, a program in the image, descriptor): while the descriptor is open, execve(2) of the program waits for the lease."""
    bundle = make_bundle(args=["/bin/sleep", "1000"])
    program = bundle.rootfs / "bin" / "slow"
    shutil.copy(bundle.rootfs / "bin" / "busybox", program)
    id = pyrunc.started(bundle)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(program, os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    yield id, program, fd
    os.close(fd)
    signal.signal(signal.SIGIO, before)


def joined(pyrunc, id: str, command: subprocess.Popen[str]) -> int:
    """The pid of the process that is about to become the program: the second child of the command, in the pid namespace of the container."""
    inside = os.readlink("/proc/%d/ns/pid" % pyrunc.state(id)["pid"])
    end = time.monotonic() + harness.WATCHDOG
    while time.monotonic() < end:
        for task in pathlib.Path("/proc/%d/task" % command.pid).iterdir():
            for pid in (task / "children").read_text().split():
                try:
                    if os.readlink("/proc/%s/ns/pid" % pid) == inside:
                        return int(pid)
                except OSError:
                    continue
    raise AssertionError("no process has joined")


def until_executed(pid: int, name: str) -> None:
    end = time.monotonic() + harness.WATCHDOG
    while pathlib.Path("/proc/%d/comm" % pid).read_text() != name + "\n":
        assert time.monotonic() < end, "%d does not become %s" % (pid, name)


def until_stopped(pid: int) -> None:
    end = time.monotonic() + harness.WATCHDOG
    while pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(") ")[2][0] != "T":
        assert time.monotonic() < end, "%d does not stop" % pid


def popen(pyrunc, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        pyrunc.argv(*args), env=pyrunc.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSYS])
def test_a_program_that_was_never_executed_is_a_failure(pyrunc, slow, tmp_path, number):
    id, _program, _fd = slow
    command = popen(pyrunc, "exec", "--detach", "--pid-file", tmp_path / "pid", id, "/bin/slow", "true")
    os.kill(joined(pyrunc, id, command), number)
    _out, err = command.communicate(timeout=harness.WATCHDOG)
    assert command.returncode == 255 and "killed by signal %d" % number in err, err
    assert not (tmp_path / "pid").exists()


def test_the_same_program_if_it_is_not_killed(pyrunc, slow, tmp_path):
    id, _program, fd = slow
    command = popen(pyrunc, "exec", "--detach", "--pid-file", tmp_path / "pid", id, "/bin/slow", "sleep", "1000")
    joined(pyrunc, id, command)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert command.wait(harness.WATCHDOG) == 0, command.stderr and command.stderr.read()
    assert (tmp_path / "pid").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_process_does_not_block_exec(pyrunc, slow, number):
    id, _program, fd = slow
    command = popen(pyrunc, "exec", id, "/bin/slow", "true")
    pid = joined(pyrunc, id, command)
    os.kill(pid, signal.SIGSTOP)
    until_stopped(pid)  # before that, the program may still be executed
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    command.send_signal(number)
    _out, err = command.communicate(timeout=harness.WATCHDOG)
    assert command.returncode == 255 and "interrupted by signal %d" % number in err, err
    assert not os.path.exists("/proc/%d" % pid)


LIMITED = """
import sys
sys.path[:0] = [sys.argv[1]]
from pyrunc import cli, seal
seal.ensure = lambda argv: None
from pyrunc.engine import exec
exec.EXECUTE_MS = 1000
sys.exit(cli.main(sys.argv[2:]))
"""


def test_a_program_that_is_never_executed_is_ended(pyrunc, slow):
    """A process in the container can hold the joining process forever; exec gives up after a while and leaves nothing behind."""
    id, _program, _fd = slow
    argv = [sys.executable, "-I", "-c", LIMITED, str(harness.ROOT / "runtime"), *pyrunc.argv("exec", id, "/bin/slow", "true")[1:]]
    done = subprocess.run(
        argv, env=pyrunc.env, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=harness.WATCHDOG, check=False
    )
    assert done.returncode == 255 and "was not executed within 1 seconds" in done.stderr, done
    init = pyrunc.state(id)["pid"]
    assert inside_of(init) == [init]


def inside_of(init: int) -> list[int]:
    """The pids of all processes in the pid namespace of this process."""
    found, inside = [], os.readlink("/proc/%d/ns/pid" % init)
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/ns/pid" % name) == inside:
                found.append(int(name))
        except OSError:
            continue
    return found


def test_a_tracer_that_does_not_wait_does_not_block_exec(pyrunc, make_bundle):
    """As a process in the container with CAP_SYS_PTRACE can do it: the program has ended, but the tracer has not collected its status."""
    id = pyrunc.started(make_bundle(args=["/bin/sleep", "1000"]))
    command = popen(pyrunc, "exec", id, "/bin/sleep", "1000")
    pid = joined(pyrunc, id, command)
    until_executed(pid, "sleep")
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.ptrace(PTRACE_SEIZE, pid, 0, 0) == 0, os.strerror(ctypes.get_errno())
    try:
        os.kill(pid, signal.SIGKILL)
        assert command.wait(harness.WATCHDOG) == 128 + signal.SIGKILL
    finally:
        os.waitpid(pid, 0)


def test_exec_joins_the_namespaces_of_the_config(pyrunc, make_bundle):
    """If a program of an ordinary user creates a user namespace and all other namespaces in it, exec does not follow."""
    bundle = make_bundle(args=["/bin/sh", "-c", "sleep 1000 & exec unshare -U -u -i -n -m sleep 1000"])
    id = pyrunc.started(bundle)
    init = pyrunc.state(id)["pid"]
    until_executed(init, "sleep")
    shown = pyrunc.ok("exec", id, "/bin/sh", "-c", "for n in user uts ipc net mnt; do readlink /proc/self/ns/$n; done").out.split()
    before = harness.saved_state(pyrunc, id)["namespaces"]
    assert shown[0] == os.readlink("/proc/self/ns/user")
    for link, kind in zip(shown[1:], ("uts", "ipc", "network", "mount"), strict=True):
        assert link.endswith("[%d]" % before[kind]), (kind, shown, before)


def test_exec_works_if_the_original_namespace_is_gone(pyrunc, make_bundle):
    caps = {"/process/capabilities": {name: ["CAP_SYS_ADMIN"] for name in SETS}}
    id = pyrunc.started(make_bundle(caps, args=["/bin/sh", "-c", "exec unshare -m sleep 1000"]))
    until_executed(pyrunc.state(id)["pid"], "sleep")
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"


@pytest.fixture
def mount_namespace() -> Iterator[str]:
    """The path of a mount namespace that is not our own."""
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline()
    yield "/proc/%d/ns/mnt" % holder.pid
    holder.kill()
    holder.wait()
    holder.stdout.close()


@pytest.mark.parametrize("kind", ["none", "joined"])
def test_exec_stays_in_a_root_that_is_a_chroot(pyrunc, make_bundle, request, kind):
    spaces = [{"type": kind} for kind in ("pid", "ipc", "uts")]
    if kind == "joined":
        spaces.append({"type": "mount", "path": request.getfixturevalue("mount_namespace")})
    bare = {"/linux/namespaces": spaces, "/mounts": [], "/linux/maskedPaths": [], "/linux/readonlyPaths": [], "/hostname": harness.ABSENT}
    bundle = make_bundle(bare, args=["/bin/sleep", "1000"])
    (bundle.rootfs / "only-here").touch()
    id = pyrunc.started(bundle)
    shown = pyrunc.ok("exec", id, "/bin/sh", "-c", "ls /only-here && ls -d /../only-here && pwd").out
    assert shown.split() == ["/only-here", "/../only-here", "/"]


def test_live_changes_apply_to_the_original_namespaces(pyrunc, make_bundle, tmp_path):
    """An init of an ordinary user that has moved to namespaces it created cannot prevent changes to the container."""
    (tmp_path / "file").touch()
    bundle = make_bundle(args=["/bin/sh", "-c", "sleep 1000 & exec unshare -U -m sleep 1000"])
    (bundle.rootfs / "given").mkdir()
    id = pyrunc.started(bundle)
    until_executed(pyrunc.state(id)["pid"], "sleep")
    pyrunc.ok("update", "--device-add", "c 1:7 rw /dev/full2", id)
    pyrunc.ok("mounts", "add", "--source", tmp_path, "--destination", "/given", id)
    assert pyrunc.ok("exec", id, "/bin/ls", "/dev/full2", "/given/file").out.split() == ["/dev/full2", "/given/file"]
    pyrunc.ok("mounts", "remove", id, "/given")
    assert pyrunc.ok("exec", id, "/bin/ls", "/given").out == ""


@pytest.fixture
def freezer(pyrunc) -> Iterator[Callable[[str], pathlib.Path]]:
    """freezer(id) -> freezer.state of the container's cgroup (version 1); thawed at the end."""
    if not os.path.isdir("/sys/fs/cgroup/freezer"):
        pytest.skip("this machine has no freezer of cgroup v1, in which killed processes do not die")
    files = []

    def of(id: str) -> pathlib.Path:
        lines = pathlib.Path("/proc/%d/cgroup" % pyrunc.state(id)["pid"]).read_text().splitlines()
        path = next(line.split(":", 2)[2] for line in lines if ":freezer:" in line)
        files.append(pathlib.Path("/sys/fs/cgroup/freezer" + path) / "freezer.state")
        return files[-1]

    yield of
    for file in files:
        file.write_text("THAWED")


def test_exec_ends_although_the_program_is_frozen(pyrunc, slow, freezer):
    """A process that may write to the container's freezer can freeze another, which SIGKILL then does not end."""
    id, _program, _fd = slow
    command = popen(pyrunc, "exec", id, "/bin/slow", "true")
    pid = joined(pyrunc, id, command)
    freezer(id).write_text("FROZEN")
    command.send_signal(signal.SIGTERM)
    assert command.wait(harness.WATCHDOG) == 255
    freezer(id).write_text("THAWED")
    gone(pid)
    assert "interrupted by signal 15" in command.communicate()[1]


def test_exec_ends_although_the_container_is_already_frozen(pyrunc, make_bundle, freezer):
    id = pyrunc.started(make_bundle(args=["/bin/sleep", "1000"]))
    freezer(id)
    pyrunc.ok("pause", id)
    command = popen(pyrunc, "exec", "--ignore-paused", id, "/bin/true")
    pid = int(until(lambda: pathlib.Path("/proc/%d/task/%d/children" % (command.pid, command.pid)).read_text().split(), "a child")[0])
    command.send_signal(signal.SIGTERM)
    assert command.wait(harness.WATCHDOG) == 255
    pyrunc.ok("resume", id)
    gone(pid)
    assert "interrupted by signal 15" in command.communicate()[1]


def until(true: Callable[[], list[str]], what: str) -> list[str]:
    end = time.monotonic() + harness.WATCHDOG
    while not (found := true()):
        assert time.monotonic() < end, "it never appeared: " + what
    return found


def gone(pid: int) -> None:
    """Waits until a process has ended, no matter who its parent is by now."""
    end = time.monotonic() + harness.WATCHDOG
    while True:
        try:
            if pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        assert time.monotonic() < end, "%d is still there" % pid
