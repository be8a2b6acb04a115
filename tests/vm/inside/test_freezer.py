"""pause, resume, kill and delete on cgroup v2, with both drivers: frozen, forking and deeply nested containers."""

import pathlib

import pytest

import guest
import harness
import hoststate
from guest import numbers, read

FORKS = ["/bin/sh", "-c", "f() { while :; do sh -c 'sleep 0.01; :' & sh -c : ; done; }; f & f & f"]
LIMIT = {"/linux/resources": {"pids": {"limit": 60}}}


def is_over(group):
    return not group.exists() or numbers(group / "cgroup.events")["populated"] == 0


@pytest.mark.vm_short("cgroupfs")
def test_pause_and_resume(runtime, started):
    id, pid, group = started()
    runtime.ok("pause", id)
    assert runtime.status(id) == "paused" and read(group / "cgroup.freeze") == "1" and numbers(group / "cgroup.events")["frozen"] == 1
    assert runtime.call("pause", id).code == 1
    runtime.ok("resume", id)
    assert runtime.status(id) == "running" and read(group / "cgroup.freeze") == "0" and numbers(group / "cgroup.events")["frozen"] == 0
    result = runtime.call("resume", id)
    assert result.code == 1 and "container not paused" in result.said
    runtime.stopped(id, "TERM")


def test_nothing_moves_while_frozen(runtime, started):
    id, _pid, group = started(args=["/bin/sh", "-c", "while :; do :; done"])
    runtime.ok("pause", id)
    before = numbers(group / "cpu.stat")["usage_usec"]
    runtime.ok("state", id)
    assert numbers(group / "cpu.stat")["usage_usec"] == before
    runtime.ok("resume", id)
    guest.until(lambda: numbers(group / "cpu.stat")["usage_usec"] > before, "going on")


def test_a_created_container_freezes(runtime, make_bundle, driver, no_leaks):
    id = runtime.create(make_bundle({"/linux/cgroupsPath": driver.path()}), globals=driver.globals)
    runtime.ok("pause", id)
    assert runtime.status(id) == "paused"
    runtime.ok("resume", id)
    assert runtime.status(id) == "created"
    runtime.delete(id, "--force")


def test_kill_of_a_frozen_container(runtime, started):
    id, pid, group = started()
    runtime.ok("pause", id)
    with harness.Watched(pid) as init:
        runtime.kill(id)
        init.wait()
    assert runtime.status(id) == "stopped"
    runtime.delete(id)
    assert not group.exists()


def test_term_waits_for_the_thaw(runtime, started):
    id, pid, _group = started()
    runtime.ok("pause", id)
    with harness.Watched(pid) as init:
        runtime.kill(id, "TERM")
        assert runtime.status(id) == "paused"
        runtime.ok("resume", id)
        init.wait()


@pytest.mark.vm_short("systemd")
def test_delete_of_a_frozen_container(runtime, started):
    id, _pid, group = started()
    runtime.ok("pause", id)
    result = runtime.call("delete", id)
    assert result.code == 1 and "paused" in result.said
    runtime.delete(id, "--force")
    assert not group.exists()


def test_exec_into_a_frozen_container(runtime, started):
    id, _pid, _group = started()
    runtime.ok("pause", id)
    result = runtime.call("exec", id, "true")
    assert result.code == 255 and "paused" in result.said, result


def test_forking_freezes(runtime, started):
    id, _pid, group = started(LIMIT, FORKS)
    guest.until(lambda: int(read(group / "pids.current")) > 3, "forking")
    runtime.ok("pause", id)
    assert numbers(group / "cgroup.events")["frozen"] == 1
    runtime.delete(id, "--force")
    assert not group.exists()


@pytest.mark.vm_short("cgroupfs-host")
@pytest.mark.parametrize("shared", [False, True], ids=["own pids", "host's pids"])
def test_forking_is_deleted(runtime, started, shared):
    """In the pid namespace of the host, the exit of one process does not kill the others."""
    kinds = [{"type": t} for t in ("network", "ipc", "uts", "mount") + (() if shared else ("pid",))]
    id, _pid, group = started({**LIMIT, "/linux/namespaces": kinds}, FORKS)
    guest.until(lambda: int(read(group / "pids.current")) > 3, "forking")
    runtime.delete(id, "--force")
    assert not group.exists()


def test_forking_is_killed_all(runtime, started):
    kinds = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
    id, pid, group = started({**LIMIT, "/linux/namespaces": kinds}, FORKS)
    with harness.Watched(pid) as init:
        runtime.ok("kill", "--all", id, "KILL")
        init.wait()
    guest.until(lambda: is_over(group), "being empty")
    runtime.delete(id)


def test_orphans_in_a_shared_pid_namespace(runtime, started):
    """Init is gone, but the processes that it started are not: delete kills them too."""
    kinds = [{"type": t} for t in ("network", "ipc", "uts", "mount")]
    id, pid, group = started({"/linux/namespaces": kinds}, ["/bin/sh", "-c", "sleep 1000 & sleep 1000 & exit 0"])
    guest.until(lambda: not pathlib.Path("/proc/%d" % pid).exists() or hoststate.state_of(pid) == "Z", "init's end")
    assert runtime.status(id) == "stopped" and not is_over(group)
    runtime.delete(id)
    assert not group.exists()


def test_deep_and_frozen_by_the_container(runtime, started):
    """A container that owns its cgroup creates nested cgroups, moves itself and freezes itself."""
    script = "cd /sys/fs/cgroup; mkdir -p a/b/c; echo 1 > a/b/c/cgroup.procs; echo ok; echo 1 > a/b/cgroup.freeze; sleep 1000"
    cgroup_mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}
    kinds = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
    id, _pid, group = started({"/mounts/-": cgroup_mount, "/linux/namespaces": kinds}, ["/bin/sh", "-c", script])
    guest.until(lambda: (group / "a/b/c").exists() and numbers(group / "a/b/cgroup.events")["frozen"] == 1, "freezing itself")
    runtime.delete(id, "--force")
    assert not group.exists()
