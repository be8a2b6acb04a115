"""create in an existing pid namespace, as in a pod that shares its processes: what its neighbours see, and what the program gets."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

import harness
import hoststate
from pyrunc.errors import CallError
from pyrunc.linux import _syscalls, constants, mount
from tail import capset, returns
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


# ---- a kernel without pidns=


def test_a_context_from_inside(neighbour):
    fd = os.open("/proc/%d/ns/pid" % neighbour, os.O_RDONLY)
    context = _syscalls.proc_context(fd)
    _syscalls.fsconfig(context, constants.FSCONFIG_CMD_CREATE, None, None, 0)
    top = _syscalls.fsmount(context, constants.FSMOUNT_CLOEXEC, 0)
    assert mount.magic(top) == constants.PROC_SUPER_MAGIC
    assert os.stat("1/ns/pid", dir_fd=top).st_ino == os.fstat(fd).st_ino
    for one in (fd, context, top):
        os.close(one)


@pytest.mark.parametrize("fstype", ["proc", "tmpfs", "sysfs", "ext4"])
def test_a_context_of_another_file_system_is_not_used(monkeypatch, neighbour, fstype):
    """A process that was taken over could send one: completed with our privileges, it would mount what that process chose."""

    def hostile(_pid_ns):
        context = _syscalls.fsopen(fstype, constants.FSOPEN_CLOEXEC)
        with contextlib.suppress(OSError):  # with an error message of its choice
            _syscalls.fsconfig(context, constants.FSCONFIG_SET_STRING, "x'\ne proc: Unknown parameter 'x", "1", 0)
        return context

    def old_kernel(context, cmd, *rest):
        if cmd == constants.FSCONFIG_SET_FD:
            raise CallError(errno.EINVAL, "Invalid argument", None, "fsconfig")
        real(context, cmd, *rest)

    real = _syscalls.fsconfig
    monkeypatch.setattr(mount._syscalls, "proc_context", hostile)
    monkeypatch.setattr(mount._syscalls, "fsconfig", old_kernel)
    fd = os.open("/proc/%d/ns/pid" % neighbour, os.O_RDONLY)
    try:
        if fstype == "proc":
            os.close(mount.procfs_of(fd))
            return
        with pytest.raises(PermissionError):
            mount.procfs_of(fd)
    finally:
        os.close(fd)


RUNTIME = str(pathlib.Path(_syscalls.__file__).parents[2])  # the extension under test, such as one with sanitizers
SLOW = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); from pyrunc.linux import _syscalls; _syscalls.proc_context(os.open(sys.argv[2], 0))"
)


def others_in(namespace: str, known: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and int(name) != known and os.readlink("/proc/%s/ns/pid" % name) == namespace:
                found.append(int(name))
        except OSError:
            continue
    return found


@contextlib.contextmanager
def held_up(neighbour: int, calls: str = "/dev/null", secret: str = "") -> Iterator[pathlib.Path]:
    """The directory in /proc of the process that creates the context and that neighbours may see, delayed before it sends the context."""
    slow = ["strace", "-f", "-qq", "-o", calls, "-e", "trace=keyctl,sendmsg", "-e", "inject=sendmsg:delay_enter=3000000"]
    argv = [*slow, "/usr/bin/python3", "-I", "-B", "-c", SLOW, RUNTIME, "/proc/%d/ns/pid" % neighbour, secret]
    shared = os.readlink("/proc/%d/ns/pid" % neighbour)
    with subprocess.Popen(argv) as command:
        end = time.monotonic() + harness.WATCHDOG
        while not (found := others_in(shared, neighbour)):
            assert command.poll() is None and time.monotonic() < end, "it was never seen"
        yield pathlib.Path("/proc/%d" % found[0])
        assert command.wait(harness.WATCHDOG) == 0


def test_the_process_that_creates_the_context_has_nothing_to_steal(neighbour, tmp_path):
    """It runs as nobody, in separate namespaces and an empty root, with one descriptor, and without the memory and the keys of the caller."""
    secret = "s3cret-of-the-caller"
    with held_up(neighbour, str(tmp_path / "calls"), secret) as folder:
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        assert status["Uid"].split() == ["65534"] * 4 and status["Groups"].strip() == "" and status["NoNewPrivs"] == "1"
        for kind in ("user", "mnt", "net", "ipc", "uts"):
            assert os.readlink(folder / "ns" / kind) != os.readlink("/proc/self/ns/" + kind), kind
        assert os.listdir(folder / "root") == []
        links = [os.readlink(entry) for entry in (folder / "fd").iterdir()]
        assert [link.partition(":")[0] for link in links if link != "anon_inode:[fscontext]"] == ["socket"], links
        assert secret.encode() not in heap_of(folder)
    assert "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)" in (tmp_path / "calls").read_text()


def test_its_namespaces_lead_to_no_file_of_the_host(neighbour):
    """The host's root takes the place of a neighbour that has written the id maps: even then, no mount leads to the host's files."""
    with held_up(neighbour) as folder:
        pid = os.fork()
        if pid == 0:
            for name in ("uid_map", "gid_map"):
                (folder / name).write_text("0 0 4294967295")
            spaces = [os.open(folder / "ns" / kind, os.O_RDONLY) for kind in ("user", "mnt")]
            for fd in spaces:
                _syscalls.setns(fd, 0)
            os.setgid(0)
            os.setuid(0)
            found = os.listdir("/")
            with contextlib.suppress(OSError):
                _syscalls.umount2("/", constants.MNT_DETACH)
            _syscalls.setns(spaces[1], 0)
            os._exit(0 if found == os.listdir("/") == [] else 1)
        assert os.waitpid(pid, 0)[1] == 0


def heap_of(folder: pathlib.Path) -> bytes:
    found = []
    with open(folder / "mem", "rb") as memory:
        for line in (folder / "maps").read_text().splitlines():
            fields = line.split()
            if fields[1].startswith("rw") and (len(fields) == 5 or fields[5] == "[heap]"):
                start, end = (int(word, 16) for word in fields[0].split("-"))
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)


# Creates a procfs for the pid namespace of a child.
IN_A_USER_NAMESPACE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pyrunc.linux import _syscalls, constants
reader, writer = os.pipe()
pid, _fd = _syscalls.clone3(constants.CLONE_NEWPID)
if pid == 0:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
fd = os.open("/proc/%d/ns/pid" % pid, os.O_RDONLY)
context = _syscalls.proc_context(fd)
_syscalls.fsconfig(context, constants.FSCONFIG_CMD_CREATE, None, None, 0)
top = _syscalls.fsmount(context, constants.FSMOUNT_CLOEXEC, 0)
print(os.stat("1/ns/pid", dir_fd=top).st_ino == os.fstat(fd).st_ino, open("/proc/self/setgroups").read().strip())
"""


@pytest.mark.parametrize(("count", "setgroups"), [(1, "deny"), (1000, "allow")], ids=["one id", "a thousand"])
def test_a_context_where_nobody_has_no_id(count, setgroups):
    """As in rootless containers without subordinate ids: nobody is not mapped, and with a single id, groups can't be set. (The test writes the
    maps itself: unshare's options for them differ between versions, and older ones call newuidmap.)"""
    program = ["unshare", "--mount", "/usr/bin/python3", "-I", "-B", "-c", IN_A_USER_NAMESPACE, RUNTIME]
    argv = ["unshare", "--user", "sh", "-c", 'echo unmapped; read -r word; exec "$@"', "sh", *program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "unmapped\n"
        for name, text in (("setgroups", setgroups), ("uid_map", "0 0 %d" % count), ("gid_map", "0 0 %d" % count)):
            with open("/proc/%d/%s" % (child.pid, name), "w") as file:
                file.write(text)
        done = child.communicate("mapped\n", timeout=harness.WATCHDOG)
    assert done == ("True %s\n" % setgroups, "")


@pytest.mark.parametrize("name", ["CAP_SETGID", "CAP_SETUID"])
def test_a_caller_that_may_not_change_its_ids(neighbour, name):
    """If nobody is mapped, keeping the caller's ids is a failure that names the call."""
    number = {"CAP_SETGID": 6, "CAP_SETUID": 7}[name]
    fd = os.open("/proc/%d/ns/pid" % neighbour, os.O_RDONLY)

    def look():
        effective, permitted, _inheritable = _syscalls.capget(0)
        capset(effective & ~(1 << number), permitted & ~(1 << number), 0)
        try:
            _syscalls.proc_context(fd)
        except CallError as e:
            return e.errno, e.call

    assert returns((), look) == (errno.EPERM, "setresgid" if name == "CAP_SETGID" else "setresuid")
    os.close(fd)


def test_a_file_that_is_not_a_namespace():
    with open("/dev/null") as file, pytest.raises(OSError) as e:
        _syscalls.proc_context(file.fileno())
    assert e.value.call == "setns"  # type: ignore[attr-defined]
