"""A container that may write to its own cgroups: it moves, freezes, nests and threads itself, and tries to get out."""

import contextlib
import os
import pathlib
import threading

import pytest

import guest
import harness
from guest import CGROUP, numbers, read

FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0}
PROBE = "true </dev/fuse && echo read; true >>/dev/fuse && echo wrote; true"  # opening is enough
MIB = 1 << 20
KINDS = ("network", "ipc", "uts", "mount", "cgroup")
CAPS = {"/process/capabilities/%s" % kind: ["CAP_SYS_ADMIN", "CAP_KILL"] for kind in ("bounding", "effective", "permitted")}


def own_tree(*kinds, **more):
    """Changes: the container's own cgroup, writable."""
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}
    return {"/mounts/-": mount, "/linux/namespaces": [{"type": t} for t in (*KINDS, *kinds)], **more}


def script(text):
    return ["/bin/sh", "-c", "cd /sys/fs/cgroup; %s" % text]


def superblock():
    return {line.split()[3] for line in pathlib.Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"}


def beneath(pid, group):
    """Whether a process is in a cgroup or below it; True for one that has ended."""
    try:
        return guest.cgroup_of(pid).is_relative_to(group)
    except (FileNotFoundError, ProcessLookupError):
        return True


# ---- out of the cgroup


OUT = """
t() { echo "$1 $(sh -c "$2" 2>/dev/null && echo yes || echo no)"; }
mkdir own /tmp/c
t own-limit 'test -e own/cgroup.procs'
t moved 'echo $$ > own/cgroup.procs && grep -q ^0::/own$ /proc/self/cgroup'
t limit 'echo max > pids.max'
t weight 'echo 10000 > cpu.weight'
t memory 'echo max > memory.max'
t above 'echo $$ > ../cgroup.procs'
t init 'echo 1 > own/cgroup.procs && echo 1 > ../cgroup.procs'
t again 'mount -t cgroup2 none /tmp/c && test -e /tmp/c/system.slice'
t through-it 'echo max > /tmp/c/pids.max'
t remount 'mount -o remount,nsdelegate /sys/fs/cgroup; echo max > pids.max'
t fresh 'unshare -C sh -c "umount /tmp/c; mount -t cgroup2 none /tmp/c && echo max > /tmp/c/pids.max"'
t fresh-below 'echo $$ > own/cgroup.procs; unshare -C sh -c "mount -t cgroup2 none /tmp/c; echo \\$\\$ > /tmp/c/../../cgroup.procs"'
cat /proc/self/cgroup
"""


@pytest.mark.vm_short("systemd")
def test_out_of_the_cgroup(runtime, started):
    """With all that CAP_SYS_ADMIN gives in the container: it sees its own tree only, and its limits are not its own."""
    before = superblock()
    assert any("nsdelegate" in words.split(",") for words in before), before
    limit = {"/linux/resources": {"pids": {"limit": 60}, "memory": {"limit": 256 * MIB}}}
    id, _pid, group = started(own_tree("pid", **CAPS, **limit), harness.WAIT_FOR_TERM)
    said = runtime.ok("exec", id, "/bin/sh", "-c", "cd /sys/fs/cgroup;" + OUT).out.splitlines()
    found = dict(line.split() for line in said if " " in line)
    assert found.pop("own-limit") == "yes" and found.pop("moved") == "yes", said
    assert set(found.values()) == {"no"} and len(found) == 10, said
    assert [line for line in said if " " not in line] == ["0::/"], said
    assert read(group / "pids.max") == "60" and read(group / "memory.max") == str(256 * MIB) and superblock() == before


@pytest.mark.parametrize("changes", [{}, {"path": "/proc/1/ns/cgroup"}], ids=["none", "the host's by path"])
def test_the_options_of_the_host(ran, changes):
    """A mount of cgroup2 from outside of a namespace would change them for everybody."""
    before = superblock()
    kinds = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")] + ([{"type": "cgroup", **changes}] if changes else [])
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}
    result = ran({"/mounts/-": mount, "/linux/namespaces": kinds}, ["/bin/sh", "-c", "test -e /sys/fs/cgroup/cgroup.procs && echo there"])
    assert result.out == "there\n" and superblock() == before, (result, superblock())


# ---- moving


MOVING = """
mkdir -p a/b c; (while :; do for g in a/b c .; do echo $$ > $g/cgroup.procs; done 2>/dev/null; done) & wait
"""
MOVING_INTO_LEAVES = """
mkdir -p a b; echo $$ > a/cgroup.procs; (echo 0 > a/cgroup.procs; echo '+pids' > cgroup.subtree_control
while :; do for g in a b; do echo $$ > $g/cgroup.procs; done 2>/dev/null; mkdir -p x/y; rmdir x/y x; done) & sleep 1000
"""


@pytest.mark.parametrize("text", [MOVING, MOVING_INTO_LEAVES], ids=["anywhere", "into leaves"])
@pytest.mark.parametrize("shared", [False, True], ids=["own pids", "host's pids"])
def test_exec_into_a_container_that_moves(runtime, started, text, shared):
    """A process of exec is in the container's cgroup, wherever init is; kill and delete reach everything."""
    id, pid, group = started(own_tree(*(() if shared else ("pid",))), script(text))
    guest.until(lambda: (group / "a").exists() and guest.cgroup_of(pid) != group, "moving")
    worked = 0
    for _ in range(10):
        result = runtime.call("exec", id, "/bin/sh", "-c", "cat /proc/self/cgroup")
        assert "Traceback" not in result.err and "internal error" not in result.err and len(result.err.splitlines()) <= 1, result
        if result.code == 0:
            worked += 1
            assert result.out.startswith("0::/") and ".." not in result.out, result
    assert worked, "some of ten get in"
    pids = set(map(int, runtime.ok("ps", "--format", "json", id).out.strip("[]\n ").split(",")))
    assert pids and all(beneath(one, group) for one in pids)
    with harness.Watched(pid) as init:
        runtime.ok("kill", "--all", id, "KILL")
        init.wait()
    runtime.delete(id, "--force")
    assert not group.exists()


# ---- freezing itself


@pytest.mark.parametrize("where", [".", "a"])
@pytest.mark.parametrize("shared", [False, True], ids=["own pids", "host's pids"])
def test_freezing_itself(runtime, started, where, shared):
    """Whatever it freezes, state answers, exec is refused or works, and kill and delete end it."""
    text = "mkdir a b; sleep 1000 & echo $! > a/cgroup.procs; echo $$ > a/cgroup.procs; echo 1 > %s/cgroup.freeze; sleep 1000" % where
    id, pid, group = started(own_tree(*(() if shared else ("pid",))), script(text))
    guest.until(lambda: (group / "b").exists() and (where == "." or numbers(group / "a/cgroup.events")["frozen"] == 1), "freezing")
    assert runtime.status(id) in ("running", "paused")
    result = runtime.call("exec", id, "/bin/true")
    assert result.code in (0, 255) and len(result.err.splitlines()) <= 1, result
    if runtime.status(id) == "running":
        runtime.ok("pause", id)
        runtime.ok("resume", id)
    with harness.Watched(pid) as init:
        runtime.kill(id)
        init.wait()
    runtime.delete(id, "--force")
    assert not group.exists()


def test_update_of_a_container_that_froze_itself(runtime, started):
    text = "mkdir a; echo $$ > a/cgroup.procs; echo 1 > a/cgroup.freeze; sleep 1000"
    id, _pid, group = started(own_tree("pid"), script(text))
    guest.until(lambda: (group / "a").exists() and numbers(group / "a/cgroup.events")["frozen"] == 1, "freezing")
    runtime.ok("update", "--pids-limit", "77", id)
    assert read(group / "pids.max") == "77" and numbers(group / "a/cgroup.events")["frozen"] == 1
    runtime.delete(id, "--force")


# ---- threads


THREADED = """
mkdir -p t/u v; echo threaded > t/cgroup.type; echo threaded > t/u/cgroup.type
sleep 1000 & echo $! > t/u/cgroup.threads; echo $! > t/cgroup.threads; mkdir t/w; echo done > v/x 2>/dev/null; mkdir ready
while :; do sleep 1000; done
"""


@pytest.mark.parametrize("shared", [False, True], ids=["own pids", "host's pids"])
def test_threaded_cgroups(runtime, started, shared):
    """Below a threaded cgroup, cgroup.procs can't be read and cgroup.kill can't be written."""
    id, pid, group = started(own_tree(*(() if shared else ("pid",))), script(THREADED))
    guest.until(lambda: (group / "ready").exists(), "its tree")
    assert read(group / "t/cgroup.type") == "threaded" and read(group / "t/w/cgroup.type") == "domain invalid"
    assert runtime.ok("exec", id, "/bin/sh", "-c", "cat /proc/self/cgroup").out == "0::/\n"
    runtime.ok("pause", id)
    runtime.ok("resume", id)
    runtime.ok("update", "--pids-limit", "77", id)
    listed = runtime.ok("ps", "--format", "json", id).out
    inside = [int(n) for n in os.listdir("/proc") if n.isdigit() and beneath(n, group) and os.path.exists("/proc/%s/exe" % n)]
    inside = [n for n in inside if n in map(int, listed.strip("[]\n ").split(","))]
    assert len(inside) >= 2, listed
    with harness.Watched(pid) as init:
        runtime.ok("kill", "--all", id, "KILL")
        init.wait()
    runtime.delete(id, "--force")
    assert not group.exists()


def test_a_container_below_a_threaded_cgroup(runtime, make_bundle, token, no_leaks):
    """A tenant's threaded cgroup, and a container that is created in it."""
    top = CGROUP / token
    (top / "t").mkdir(parents=True)
    try:
        (top / "t/cgroup.type").write_text("threaded")
        changes = {"/linux/cgroupsPath": "/%s/t/c" % token, "/linux/resources": {"pids": {"limit": 30}}}
        kinds = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
        id = runtime.create(make_bundle({**changes, "/linux/namespaces": kinds}, args=harness.WAIT_FOR_TERM))
        pid = runtime.state(id)["pid"]
        runtime.start(id)
        assert runtime.ok("exec", id, "/bin/true").code == 0
        with harness.Watched(pid) as init:
            runtime.ok("kill", "--all", id, "KILL")
            init.wait()
        runtime.delete(id, "--force")
        assert not (top / "t/c").exists()
    finally:
        with contextlib.suppress(OSError):
            (top / "t/c").rmdir()
        (top / "t").rmdir()
        top.rmdir()


# ---- nesting


DEEP = 2000


class Nester(threading.Thread):
    """Nests cgroups deeper and deeper, as a container can that owns its cgroup."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.here = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
        self.over, self.count = False, 0

    def run(self):
        with contextlib.suppress(OSError):
            while not self.over and self.count < 50 * DEEP:
                os.mkdir("n", dir_fd=self.here)
                below = os.open("n", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.here)
                os.close(self.here)
                self.here = below
                self.count += 1
        os.close(self.here)


@pytest.mark.bound(900)
def test_kill_overtakes_a_container_that_nests(runtime, started):
    """The processes end although the tree grows while they are looked for."""
    id, pid, group = started(own_tree(), script("sleep 1000 & sleep 1000 & wait"))
    nester = Nester(group)
    nester.start()
    try:
        guest.until(lambda: nester.count > DEEP, "nesting")
        with harness.Watched(pid) as init:
            process = threading.Thread(target=runtime.call, args=("kill", "--all", id, "KILL"))
            process.start()
            init.wait()
    finally:
        nester.over = True
        nester.join()
    process.join()
    runtime.delete(id, "--force")
    assert not group.exists()


# ---- devices


@pytest.mark.vm_short("systemd")
def test_device_rules_below_and_after_updates(runtime, started, driver):
    """They hold in sub-cgroups, through updates of other things, reloads of systemd, and the removal of what update has added."""
    rules = {"/linux/devices": [FUSE], "/linux/resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    id, _pid, group = started(own_tree("pid", **rules), script("mkdir -p a/b; sleep 1000"))
    guest.until(lambda: (group / "a/b").exists(), "its tree")

    def opened():
        below = "echo $$ > /sys/fs/cgroup/a/b/cgroup.procs; grep -q /a/b /proc/self/cgroup || echo outside; " + PROBE
        return runtime.ok("exec", id, "/bin/sh", "-c", below).out.split()

    assert opened() == []
    runtime.ok("update", "--pids-limit", "50", "--memory", "128m", id)
    assert opened() == []
    runtime.ok("update", "--device-add", "c 10:229 r", id)
    assert opened() == ["read"]
    runtime.ok("update", "--pids-limit", "51", id)
    guest.systemctl("daemon-reload")
    assert opened() == ["read"]
    runtime.ok("update", "--device-remove", "c 10:229 r", id)
    assert opened() == []
    guest.systemctl("daemon-reload")
    runtime.ok("update", "--resources", "-", id, text='{"pids": {"limit": 52}}')
    assert opened() == []
    runtime.delete(id, "--force")
