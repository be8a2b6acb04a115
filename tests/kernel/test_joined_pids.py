"""create in an existing pid namespace, as in a pod that shares its processes: what its neighbours see, and what the program gets."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
import hoststate
from pyrunc.linux import _syscalls
from test_joining import CAPS, KILL, SETS, Watcher

pytestmark = pytest.mark.kernel

KINDS = ("network", "ipc", "uts", "mount")
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
MAPS = [{"containerID": 0, "hostID": 300000, "size": 65536}]


def sharing(pid: int, *kinds: str) -> dict[str, harness.Json]:
    return {"/linux/namespaces": [{"type": "pid", "path": "/proc/%d/ns/pid" % pid}, *({"type": kind} for kind in kinds or KINDS)]}


@pytest.fixture
def neighbour(pyrunc, make_bundle) -> int:
    """The pid of the init of a container with CAP_SYS_PTRACE."""
    id = pyrunc.started(make_bundle(CAPS, args=["/bin/sleep", "1000"]))
    pid: int = pyrunc.state(id)["pid"]
    return pid


FILTER = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}


@pytest.mark.parametrize("changes", [{}, {"/process/noNewPrivileges": False, "/linux/seccomp": FILTER}], ids=["plain", "filter"])
def test_neighbours_never_see_more_than_the_rights_of_the_program(pyrunc, make_bundle, neighbour, changes):
    watcher = Watcher(neighbour)
    watcher.start()
    kill = {"/process/capabilities": {name: ["CAP_KILL"] for name in SETS}}
    for _ in range(20):
        pyrunc.ok("run", "--bundle", make_bundle({**sharing(neighbour), **kill, **changes}, args=["/bin/sleep", "0.01"]), pyrunc.new_id())
    seen = watcher.end()
    assert (KILL, KILL) in seen["sleep"], "the watcher sees executed programs"
    assert {sets for name, found in seen.items() for sets in found} == {(KILL, KILL)}, seen


def test_the_waiting_process_becomes_the_program(pyrunc, make_bundle, neighbour):
    """The state and the pid file have the pid of the process that executes the program: in the namespace, a session leader, in its cgroup."""
    id = pyrunc.create(make_bundle(sharing(neighbour), args=["/bin/sleep", "1000"]))
    pid = pyrunc.state(id)["pid"]
    assert os.readlink("/proc/%d/ns/pid" % pid) == os.readlink("/proc/%d/ns/pid" % neighbour)
    assert os.readlink("/proc/%d/ns/pid_for_children" % pid) == os.readlink("/proc/%d/ns/pid" % pid)
    stat = pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    assert stat[3] == str(pid), "it leads its session"
    pyrunc.start(id)
    assert pyrunc.state(id)["pid"] == pid and pyrunc.state(id)["status"] == "running"
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"
    pyrunc.ok("kill", id, "KILL")
    pyrunc.delete(id, "--force")
    assert pathlib.Path("/proc/%d" % neighbour).exists()


def test_descriptors_of_the_waiting_process(pyrunc, make_bundle, neighbour):
    """It has no namespace and no socket of the runtime."""
    id = pyrunc.create(make_bundle(sharing(neighbour), args=["/bin/sleep", "1000"]))
    folder = pathlib.Path("/proc/%d/fd" % pyrunc.state(id)["pid"])
    links = [os.readlink(entry) for entry in folder.iterdir()]
    assert len(links) == 5 and not [link for link in links if "ns/" in link or link.startswith(("socket:", "pid:"))], links


def test_its_procfs_shows_the_namespace(pyrunc, make_bundle, neighbour):
    shown = pyrunc.ok("run", "--bundle", make_bundle(sharing(neighbour), args=["/bin/ps", "-o", "pid,comm"]), pyrunc.new_id()).out
    assert "sleep" in shown and "ps" in shown and len(shown.splitlines()) == 3, shown


def test_a_procfs_with_options(pyrunc, make_bundle, neighbour):
    proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["hidepid=2", "nosuid", "noexec", "nodev"]}
    bundle = make_bundle({**sharing(neighbour), "/mounts/0": proc}, args=["/bin/grep", " /proc ", "/proc/mounts"])
    assert "nosuid,nodev,noexec" in (out := pyrunc.ok("run", "--bundle", bundle, pyrunc.new_id()).out) and "hidepid" in out


def test_an_unknown_procfs_option(pyrunc, make_bundle, neighbour, no_leaks):
    proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["hidepid=banana"]}
    failed = pyrunc.run(make_bundle({**sharing(neighbour), "/mounts/0": proc}))
    assert failed.code == 1 and "/mounts/0/options/0" in failed.err, failed


def test_signals_end_the_waiting_process(pyrunc, make_bundle, neighbour):
    id = pyrunc.create(make_bundle(sharing(neighbour), args=["/bin/sleep", "1000"]))
    with harness.Watched(pyrunc.state(id)["pid"]) as init:
        pyrunc.ok("kill", id, "TERM")
        init.wait()
    assert pyrunc.state(id)["status"] == "stopped"


def test_limits_scheduler_and_the_rest(pyrunc, make_bundle, neighbour):
    changes = {
        **sharing(neighbour),
        "/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}],
        "/process/scheduler": {"policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
        "/process/oomScoreAdj": 321,
        "/process/user": {"uid": 1000, "gid": 1000, "umask": 0o77},
    }
    id = pyrunc.started(make_bundle(changes, args=["/bin/sleep", "1000"]))
    pid = pyrunc.state(id)["pid"]
    found = _syscalls.sched_getattr(pid)
    assert (found[0], found[1] & 1, found[2]) == (os.SCHED_BATCH, 1, 3)
    assert _syscalls.ioprio_get(1, pid) == 2 << 13 | 6
    limits = pathlib.Path("/proc/%d/limits" % pid).read_text()
    assert next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")) == ["77", "78"]
    assert pathlib.Path("/proc/%d/oom_score_adj" % pid).read_text() == "321\n"
    status = dict(line.split(":\t", 1) for line in pathlib.Path("/proc/%d/status" % pid).read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["1000"] * 4 and status["Umask"] == "0077"


def test_a_terminal(pyrunc, make_bundle, neighbour):
    bundle = make_bundle(
        {**sharing(neighbour), "/process/terminal": True}, args=["/bin/sh", "-c", "tty; ps -o tty,comm; echo hello >/dev/tty"]
    )
    out = pyrunc.ok("run", "--bundle", bundle, pyrunc.new_id()).out
    assert "/dev/pts/0" in out and "hello" in out and "136,0" in out, out


def test_a_terminal_of_an_ordinary_user(pyrunc, make_bundle, neighbour):
    changes = {**sharing(neighbour), "/process/terminal": True, "/process/user": {"uid": 1000, "gid": 1000}}
    assert (
        "hello" in pyrunc.ok("run", "--bundle", make_bundle(changes, args=["/bin/sh", "-c", "echo hello >/dev/tty"]), pyrunc.new_id()).out
    )


def hook(path: pathlib.Path, text: str) -> harness.Json:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return [{"path": str(path)}]


def test_hooks(pyrunc, make_bundle, neighbour, tmp_path):
    """Hooks before the pivot run outside of the shared namespace, where no process with rights on the host may be visible; later ones run inside."""
    bundle = make_bundle(sharing(neighbour))
    inside = bundle.rootfs / "hook"
    for kind in ("prestart", "createRuntime", "createContainer"):
        bundle.patch(
            {
                "/hooks/" + kind: hook(
                    tmp_path / kind, "readlink /proc/self/ns/pid >%s/%s.pid; cat >%s/%s.json\n" % (tmp_path, kind, tmp_path, kind)
                )
            }
        )
    hook(inside, "readlink /proc/self/ns/pid >/seen\n")
    bundle.patch({"/hooks/startContainer": [{"path": "/hook"}], "/process/args": ["/bin/cat", "/seen"]})
    shared, ours = os.readlink("/proc/%d/ns/pid" % neighbour), os.readlink("/proc/self/ns/pid")
    assert pyrunc.ok("run", "--bundle", bundle, pyrunc.new_id()).out.strip() == shared
    assert (tmp_path / "createRuntime.pid").read_text().strip() == ours
    assert (tmp_path / "createContainer.pid").read_text().strip() == ours
    assert json.loads((tmp_path / "createRuntime.json").read_text())["pid"] > 0


def test_a_filter_that_bars_the_way_is_a_failure(pyrunc, make_bundle, neighbour, no_leaks):
    """A process that neighbours see would need CAP_SYS_ADMIN to load it. With noNewPrivileges it does not."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["clone", "clone3", "fork", "vfork"], "action": "SCMP_ACT_ERRNO"}]}
    changes = {**sharing(neighbour), "/process/noNewPrivileges": False, "/linux/seccomp": profile}
    failed = pyrunc.run(make_bundle(changes))
    assert failed.code == 1 and "seccomp.op_early" in failed.err and "noNewPrivileges" in failed.err, failed
    assert pyrunc.run(make_bundle({**changes, "/process/noNewPrivileges": True})).code == 0


def test_a_listener(pyrunc, make_bundle, neighbour, scratch):
    """With noNewPrivileges the process of the program loads the profile, and the listener is told its pid."""
    path = scratch / "agent.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(harness.WATCHDOG)
        got: list[harness.Json] = []

        def take() -> None:
            peer, _ = server.accept()
            with peer:
                data, fds, _flags, _address = socket.recv_fds(peer, 1 << 16, 1)
                got.append(json.loads(data))
                for fd in fds:
                    os.close(fd)

        thread = threading.Thread(target=take)
        thread.start()
        profile = {
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(path),
            "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
        }  # fmt: skip
        changes = {**sharing(neighbour), "/process/noNewPrivileges": True, "/linux/seccomp": profile}
        id = pyrunc.create(make_bundle(changes, args=["/bin/sleep", "1000"]))
        thread.join(harness.WATCHDOG)
    assert got[0]["pid"] == pyrunc.state(id)["pid"]


def test_a_program_that_is_missing(pyrunc, make_bundle, neighbour, no_leaks):
    failed = pyrunc.run(make_bundle(sharing(neighbour), args=["/bin/no-such-program"]))
    assert failed.code == 1 and "no such file or directory" in failed.err, failed


def test_a_namespace_whose_init_has_ended(pyrunc, make_bundle, neighbour, no_leaks):
    fd = os.open("/proc/%d/ns/pid" % neighbour, os.O_RDONLY)
    with harness.Watched(neighbour) as init:
        os.kill(neighbour, signal.SIGKILL)
        init.wait()
    changes = sharing(neighbour)
    changes["/linux/namespaces"][0]["path"] = "/proc/%d/fd/%d" % (os.getpid(), fd)
    failed = pyrunc.run(make_bundle(changes))
    os.close(fd)
    assert failed.code == 1 and "\n" not in failed.err.strip(), failed


@pytest.mark.parametrize("killed", ["before", "after"])
def test_a_create_that_is_killed_leaves_nothing(pyrunc, make_bundle, neighbour, tmp_path, no_leaks, killed):
    """A hook kills the command: init, or the process that it has left behind, ends too."""
    bundle = make_bundle(sharing(neighbour), args=["/bin/sleep", "1000"])
    bundle.patch({"/hooks/createRuntime": hook(tmp_path / "hook", "kill -9 $PPID\n")} if killed == "before" else {})
    id = pyrunc.new_id()
    done = pyrunc.call("create", "--bundle", bundle, id)
    assert (done.code != 0) == (killed == "before"), done
    pyrunc.call("delete", "--force", id)


def others_in(namespace: str, known: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and int(name) != known and os.readlink("/proc/%s/ns/pid" % name) == namespace:
                found.append(int(name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("rounds", [50, pytest.param(2000, marks=[pytest.mark.long, pytest.mark.bound(1800)])])
def test_killed_at_any_time(pyrunc, make_bundle, neighbour, no_leaks, rounds):
    """create is killed at a random time: neither init nor a child that it has left behind stays in the shared namespace."""
    bundle, id, chance = make_bundle(sharing(neighbour), args=["/bin/sleep", "1000"]), pyrunc.new_id(), random.Random(1)
    begin = time.monotonic()
    pyrunc.ok("create", "--bundle", bundle, id)
    latest = 1.5 * (time.monotonic() - begin)
    pyrunc.ok("delete", "--force", id)
    shared = os.readlink("/proc/%d/ns/pid" % neighbour)
    for number in range(rounds):
        with subprocess.Popen(pyrunc.argv("create", "--bundle", bundle, id), stderr=subprocess.DEVNULL, env=pyrunc.env) as process:
            time.sleep(chance.uniform(0, latest))
            process.kill()
        assert pyrunc.call("delete", "--force", id).code == 0, number
        end = time.monotonic() + harness.WATCHDOG
        while left := others_in(shared, neighbour):
            assert time.monotonic() < end, (number, left)
    assert hoststate.state_dirs(pyrunc.root) - no_leaks.before["state"] == set()


# ---- user namespaces


def test_with_a_separate_user_namespace(pyrunc, make_bundle, neighbour):
    """The pid namespace belongs to the host's user namespace, so the container's root cannot mount a procfs for it."""
    changes = {
        **sharing(neighbour, *KINDS, "user"), "/linux/uidMappings": MAPS, "/linux/gidMappings": MAPS, "/mounts": [DEV],
        "/linux/maskedPaths": [], "/linux/readonlyPaths": [],
    }  # fmt: skip
    watcher = Watcher(neighbour)
    watcher.start()
    id = pyrunc.started(make_bundle(changes, args=["/bin/sleep", "1000"]))
    pid = pyrunc.state(id)["pid"]
    seen = watcher.end()
    assert os.readlink("/proc/%d/ns/pid" % pid) == os.readlink("/proc/%d/ns/pid" % neighbour)
    assert os.readlink("/proc/%d/ns/user" % pid) != os.readlink("/proc/self/ns/user")
    assert {uid for uid in pathlib.Path("/proc/%d/status" % pid).read_text().split("Uid:\t")[1].split("\n")[0].split()} == {"300000"}
    assert len({sets for found in seen.values() for sets in found}) <= 1, seen
    assert pyrunc.ok("exec", id, "/bin/echo", "works").out == "works\n"


def test_with_the_user_namespace_that_owns_it(pyrunc, make_bundle):
    """A pod with a user namespace: the second container can mount a procfs too."""
    user = {"/linux/uidMappings": MAPS, "/linux/gidMappings": MAPS, "/linux/namespaces": [{"type": k} for k in ("pid", *KINDS, "user")]}
    first = pyrunc.started(make_bundle(user, args=["/bin/sleep", "1000"]))
    pid = pyrunc.state(first)["pid"]
    spaces = [{"type": kind, "path": "/proc/%d/ns/%s" % (pid, kind)} for kind in ("pid", "user")] + [{"type": kind} for kind in KINDS]
    out = pyrunc.ok("run", "--bundle", make_bundle({"/linux/namespaces": spaces}, args=["/bin/ps", "-o", "comm"]), pyrunc.new_id()).out
    assert "sleep" in out, out


@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_exec_where_a_namespace_belongs_to_the_host(pyrunc, make_bundle, neighbour, kind):
    """A process in the container's user namespace has no rights over it."""
    path = "/proc/%d/ns/%s" % (neighbour, "net" if kind == "network" else kind)
    spaces = [{"type": k} for k in ("pid", *KINDS, "user") if k != kind] + [{"type": kind, "path": path}]
    changes = {"/linux/namespaces": spaces, "/linux/uidMappings": MAPS, "/linux/gidMappings": MAPS, "/hostname": harness.ABSENT}
    id = pyrunc.started(make_bundle(changes, args=["/bin/sleep", "1000"]))
    assert pyrunc.ok("exec", id, "/bin/sh", "-c", "readlink /proc/self/ns/%s" % path.rpartition("/")[2]).out.strip() == os.readlink(path)
