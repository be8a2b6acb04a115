"""Kubernetes through containerd's CRI: pods, containers in them, probes (exec), limits, the order of calls at the end.

The answers of the CRI are read as cri.py gives them; states are 0 created, 1 running, 2 exited.
"""

import contextlib

import pytest

import cri as api
from callers import gone
from sandbox import BASE, wait_until


@contextlib.contextmanager
def pod(cri, name, **options):
    """A pod sandbox, stopped and removed at the end with what is in it."""
    sandbox = cri.run_pod(name, **options)
    try:
        yield sandbox
    finally:
        cri.remove_pod(sandbox)


def started(cri, sandbox, name, *command, **options):
    container = cri.create(sandbox, name, command, **options)
    cri.start(container)
    return container


def finished(cri, sandbox, name, script, **options):
    """(exit code, output) of a container that runs a shell script to its end."""
    container = started(cri, sandbox, name, "sh", "-c", script, **options)
    wait_until("it has exited", lambda: cri.status(container)[0] == 2)
    wait_until("its log is closed", lambda: cri.status(container)[0] == 2)
    code, output = cri.status(container)[1], cri.log(sandbox, name)
    cri.remove(container)
    return code, output


def test_hello(cri):
    with pod(cri, "hello") as sandbox:
        assert finished(cri, sandbox, "hello", "echo hello; hostname") == (0, "hello\nhello\n")


def test_exit_status(cri):
    with pod(cri, "status") as sandbox:
        assert finished(cri, sandbox, "status", "exit 7")[0] == 7


def test_command_that_cannot_run(cri):
    with pod(cri, "cannot") as sandbox:
        container = cri.create(sandbox, "cannot", ["/no/such/file"])
        with pytest.raises(api.Failed, match="no such file or directory"):
            cri.start(container)
        cri.remove(container)


def test_namespaces_of_the_pod(cri):
    with pod(cri, "shared") as sandbox:
        script = "for name in net ipc uts; do readlink /proc/self/ns/$name; done"
        assert finished(cri, sandbox, "one", script) == finished(cri, sandbox, "two", script)


def test_shared_process_namespace(cri, world):
    """Processes of a finished container in a pod-wide process namespace are killed by `kill --all ID 9` after its end."""
    with pod(cri, "processes", pid=0) as sandbox:
        script = "sleep 4321 & echo started"
        assert finished(cri, sandbox, "leaves-one", script, security={3: {2: 0}})[1] == "started\n"
        wait_until("its process is gone", lambda: not [words for words in world.processes().values() if "sleep 4321" in words])


def test_host_network(cri, world):
    with pod(cri, "host", network=api.NODE) as sandbox:
        security = {3: {1: api.NODE, 2: api.CONTAINER}}
        code, out = finished(cri, sandbox, "host", "readlink /proc/self/ns/net", security=security)
        assert (code, out) == (0, world.run(["readlink", "/proc/self/ns/net"]).out)


def test_host_processes(cri):
    with pod(cri, "pids", network=api.NODE, pid=api.NODE) as sandbox:
        out = finished(cri, sandbox, "pids", "cat /proc/1/cmdline", security={3: {1: api.NODE, 2: api.NODE}})[1]
        assert "holder.py" in out


def test_user(cri):
    with pod(cri, "user") as sandbox:
        security = {5: {1: 1000}, 12: {1: 1000}, 8: [2000, 3000]}
        assert finished(cri, sandbox, "user", "id -u; id -g; id -G", security=security)[1] == "1000\n1000\n1000 2000 3000\n"


def test_read_only(cri):
    with pod(cri, "ro") as sandbox:
        assert finished(cri, sandbox, "ro", "touch /x 2>&1", security={7: True})[1] == "touch: /x: Read-only file system\n"


def test_capabilities(cri):
    with pod(cri, "caps") as sandbox:
        out = finished(cri, sandbox, "caps", "grep CapEff /proc/self/status", security={1: {2: "ALL", 1: "CHOWN"}})[1]
        assert int(out.split()[1], 16) == 1


def test_seccomp_default(cri):
    with pod(cri, "seccomp") as sandbox:
        script = "grep Seccomp: /proc/self/status"
        assert finished(cri, sandbox, "default", script, security={15: {1: 0}})[1].split()[1] == "2"
        assert finished(cri, sandbox, "none", script, security={15: {1: api.UNCONFINED}})[1].split()[1] == "0"


def test_privileged(cri):
    with pod(cri, "privileged", privileged=True) as sandbox:
        out = finished(cri, sandbox, "privileged", "ls /dev | wc -l; grep CapEff /proc/self/status", security={2: True})[1].split()
        assert int(out[0]) > 20 and int(out[2], 16) & 1 << 21


def test_volume(cri, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    with pod(cri, "volume") as sandbox:
        mounts = [{1: "/data", 2: f"{BASE}/volume", 3: True}]
        code, out = finished(cri, sandbox, "volume", "cat /data/in; touch /data/x 2>&1", mounts=mounts)
        assert code == 1 and out == "from outside\ntouch: /data/x: Read-only file system\n"


def test_limits(cri):
    with pod(cri, "limits") as sandbox:
        resources = {1: 100000, 2: 50000, 3: 512, 4: 64 << 20, 5: 500, 6: "0", 10: 64 << 20}
        script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpuset/cpuset.cpus 2>/dev/null || cat memory.max cpuset.cpus"
        script += "; cat /proc/self/oom_score_adj"
        assert finished(cri, sandbox, "limits", script, resources=resources)[1].split() == [str(64 << 20), "0", "500"]


def test_tty(cri):
    with pod(cri, "tty") as sandbox:
        assert finished(cri, sandbox, "tty", "tty", tty=True)[1].strip() == "/dev/pts/0"


def test_stop(cri):
    with pod(cri, "stop") as sandbox:
        container = started(cri, sandbox, "stop", "sh", "-c", "trap 'exit 3' TERM; echo set; while :; do sleep 0.05; done")
        wait_until("the trap is set", lambda: cri.log(sandbox, "stop"))
        cri.stop(container, timeout=20)
        assert cri.status(container) == (2, 3)
        cri.remove(container)


def test_stop_by_force(cri):
    with pod(cri, "kill") as sandbox:
        container = started(cri, sandbox, "kill", "sleep", "1000")
        cri.stop(container, timeout=0)
        assert cri.status(container) == (2, 137)
        cri.remove(container)


def test_pod_is_removed_with_a_running_container(cri, world):
    with pod(cri, "busy") as sandbox:
        started(cri, sandbox, "busy", "sleep", "1000")
    gone(world)


@pytest.mark.needs_exec
def test_exec(cri):
    with pod(cri, "exec") as sandbox:
        container = started(cri, sandbox, "exec", "sleep", "1000", security={5: {1: 1000}})
        assert cri.exec(container, "sh", "-c", "id -u; echo $FROM_POD; echo err >&2") == (0, "1000\nyes\n", "err\n")
        assert cri.exec(container, "sh", "-c", "exit 9")[0] == 9
        with pytest.raises(api.Failed, match="no such file or directory"):
            cri.exec(container, "/no/such/file")


@pytest.mark.needs_exec
def test_exec_runs_out_of_time(cri):
    with pod(cri, "late") as sandbox:
        container = started(cri, sandbox, "late", "sleep", "1000")
        with pytest.raises(api.Failed, match="timeout"):
            cri.exec(container, "sleep", "600", timeout=1)
        assert cri.status(container)[0] == 1


@pytest.mark.needs_update
@pytest.mark.needs_exec
def test_update(cri):
    with pod(cri, "update") as sandbox:
        container = started(cri, sandbox, "update", "sleep", "1000", resources={3: 512, 4: 64 << 20, 10: 64 << 20})
        cri.update(container, {3: 256, 4: 96 << 20, 10: 96 << 20})
        script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max; echo x > /dev/null"
        assert cri.exec(container, "sh", "-c", script)[1] == f"{96 << 20}\n"
