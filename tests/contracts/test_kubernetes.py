"""Kubernetes through containerd's CRI: pods, containers in them, probes (exec), limits, the order of calls at shutdown.

The requests of a kubelet for each property of a pod are written as messages of the CRI (cri.py).
"""

import os

import pytest

import cri as api
from callers import gone
from cri_tools import finished, pod, started
from sandbox import BASE, wait_until


def memory(megabytes):
    """Limits as a kubelet sets them: the limit for memory and swap is that for memory."""
    return {"memory_limit_in_bytes": megabytes << 20, "memory_swap_limit_in_bytes": megabytes << 20}


MEMORY = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"


def test_hello(cri):
    with pod(cri, "hello") as sandbox:
        assert finished(cri, sandbox, "hello", "echo hello; hostname") == (0, "hello\nhello\n")


def test_exit_status(cri):
    with pod(cri, "status") as sandbox:
        assert finished(cri, sandbox, "status", "exit 7")[0] == 7


def test_killed(cri):
    with pod(cri, "killed") as sandbox:
        assert finished(cri, sandbox, "killed", "kill -9 $$; sleep 9")[0] == 137


def test_out_of_memory(cri):
    with pod(cri, "oom") as sandbox:
        container = started(cri, sandbox, "oom", "sh", "-c", "tail /dev/zero", resources=memory(16))
        wait_until("it has exited", lambda: cri.status(container)[0] == api.EXITED)
        status = cri.inspect(container)
        assert (status.exit_code, status.reason) == (137, "OOMKilled"), status
        cri.remove(container)


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
    """If the pod shares a process namespace, `kill --all ID 9` kills the remaining processes of a container that has ended."""
    with pod(cri, "processes", namespace_options={"pid": "POD"}) as sandbox:
        script = "sleep 4321 & echo started"
        security = {"namespace_options": {"pid": "POD"}}
        assert finished(cri, sandbox, "leaves-one", script, security=security)[1] == "started\n"
        wait_until("its process is gone", lambda: not [words for words in world.processes().values() if "sleep 4321" in words])


def test_process_namespace_of_a_container(cri):
    """As with kubectl debug: a container in the process namespace of another one."""
    with pod(cri, "target") as sandbox:
        target = started(cri, sandbox, "target", "sleep", "1234")
        security = {"namespace_options": {"pid": "TARGET", "target_id": target}}
        assert "sleep 1234" in finished(cri, sandbox, "debug", "ps", security=security)[1]


def test_user_namespace(cri, world):
    """hostUsers: false, as a kubelet sends it: the pod has a user namespace with its own ids, which its containers share."""
    ids = [{"host_id": 300000, "container_id": 0, "length": 65536}]
    spaces = {"userns_options": {"mode": "POD", "uids": ids, "gids": ids}}
    with pod(cri, "userns", namespace_options=spaces) as sandbox:
        script = "cat /proc/self/uid_map; readlink /proc/self/ns/user; touch /x && stat -c %u /x"
        code, out = finished(cri, sandbox, "userns", script, security={"namespace_options": {"pid": "CONTAINER", **spaces}})
        assert code == 0 and out.split()[:3] == ["0", "300000", "65536"] and out.split()[4] == "0", out
        assert out.split()[3] != world.run(["readlink", "/proc/self/ns/user"]).out.strip()


def test_network_host(cri, world):
    with pod(cri, "host", network="NODE") as sandbox:
        security = {"namespace_options": {"network": "NODE", "pid": "CONTAINER"}}
        code, out = finished(cri, sandbox, "host", "readlink /proc/self/ns/net", security=security)
        assert (code, out) == (0, world.run(["readlink", "/proc/self/ns/net"]).out)


def test_host_namespaces(cri):
    node = {"network": "NODE", "pid": "NODE", "ipc": "NODE"}
    with pod(cri, "pids", network="NODE", namespace_options=node) as sandbox:
        out = finished(cri, sandbox, "pids", "cat /proc/1/cmdline", security={"namespace_options": node})[1]
        assert "holder.py" in out


def test_user(cri):
    with pod(cri, "user") as sandbox:
        security = {"run_as_user": {"value": 1000}, "run_as_group": {"value": 1000}, "supplemental_groups": [2000, 3000]}
        assert finished(cri, sandbox, "user", "id -u; id -g; id -G", security=security)[1] == "1000\n1000\n1000 2000 3000\n"


def test_user_by_name(cri):
    with pod(cri, "name") as sandbox:
        assert finished(cri, sandbox, "name", "id -u; echo $HOME", security={"run_as_username": "app"})[1] == "1000\n/home/app\n"


def test_read_only(cri):
    with pod(cri, "ro") as sandbox:
        out = finished(cri, sandbox, "ro", "touch /x 2>&1", security={"readonly_rootfs": True})[1]
        assert out == "touch: /x: Read-only file system\n"


def test_capabilities(cri):
    with pod(cri, "caps") as sandbox:
        security = {"capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["CHOWN"]}}
        out = finished(cri, sandbox, "caps", "grep CapEff /proc/self/status", security=security)[1]
        assert int(out.split()[1], 16) == 1


def test_no_new_privileges(cri):
    with pod(cri, "nnp") as sandbox:
        script = "grep NoNewPrivs /proc/self/status"
        assert finished(cri, sandbox, "on", script, security={"no_new_privs": True})[1].split()[1] == "1"
        assert finished(cri, sandbox, "off", script)[1].split()[1] == "0"


def test_seccomp_default(cri):
    with pod(cri, "seccomp") as sandbox:
        script = "grep Seccomp: /proc/self/status"
        for kind, mode in (("RuntimeDefault", "2"), ("Unconfined", "0")):
            out = finished(cri, sandbox, kind.lower(), script, security={"seccomp": {"profile_type": kind}})[1]
            assert out.split()[1] == mode


def test_seccomp_profile(cri, world):
    profile = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    world.write(f"{BASE}/seccomp.json", profile)
    with pod(cri, "profile") as sandbox:
        security = {"seccomp": {"profile_type": "Localhost", "localhost_ref": f"{BASE}/seccomp.json"}}
        code, out = finished(cri, sandbox, "profile", "mkdir /tmp/x 2>&1", security=security)
        assert code == 1 and "Operation not permitted" in out


def test_masked_and_read_only_paths(cri):
    with pod(cri, "masked") as sandbox:
        security = {"masked_paths": ["/proc/version"], "readonly_paths": ["/proc/sys"]}
        script = "cat /proc/version | wc -c; echo x 2>&1 > /proc/sys/kernel/hostname"
        said = finished(cri, sandbox, "masked", script, security=security)[1].split("\n", 1)
        assert said[0] == "0" and "can't create /proc/sys/kernel/hostname: Read-only file system" in said[1]


def test_privileged(cri):
    with pod(cri, "privileged", privileged=True) as sandbox:
        script = "ls /dev | wc -l; grep CapEff /proc/self/status"
        out = finished(cri, sandbox, "privileged", script, security={"privileged": True})[1].split()
        assert int(out[0]) > 20 and int(out[2], 16) & 1 << 21


def test_sysctl(cri):
    with pod(cri, "sysctl", sysctls={"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "1"}) as sandbox:
        script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward"
        assert finished(cri, sandbox, "sysctl", script)[1] == "1\n1\n"


def test_device(cri):
    """A device that containers do not have by default, for reading only."""
    given = next((path for path in ("/dev/fuse", "/dev/kvm", "/dev/loop-control") if os.path.exists(path)), None)
    if given is None:
        pytest.skip("this machine has none of /dev/fuse, /dev/kvm, /dev/loop-control")
    with pod(cri, "device") as sandbox:
        devices = [{"container_path": "/dev/given", "host_path": given, "permissions": "r"}]
        script = "true < /dev/given && echo read; true 2>/dev/null >> /dev/given || echo denied"
        assert finished(cri, sandbox, "device", script, devices=devices)[1] == "read\ndenied\n"


def test_volume(cri, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    with pod(cri, "volume") as sandbox:
        mounts = [{"container_path": "/data", "host_path": f"{BASE}/volume", "readonly": True}]
        code, out = finished(cri, sandbox, "volume", "cat /data/in; touch /data/x 2>&1", mounts=mounts)
        assert code == 1 and out == "from outside\ntouch: /data/x: Read-only file system\n"


def test_volume_read_only_to_the_bottom(cri, world):
    """recursiveReadOnly: containerd looks for `rro` in `features`, and a mount below the volume is read-only too."""
    if not any(handler.features.recursive_read_only_mounts for handler in cri.call("Status").runtime_handlers):
        pytest.skip("this containerd has no recursively read-only mounts (2.0 does)")
    os.makedirs(world.outer(f"{BASE}/volume/below"), exist_ok=True)
    world.run(["mount", "-t", "tmpfs", "tmpfs", f"{BASE}/volume/below"]).ok()
    try:
        with pod(cri, "rro") as sandbox:
            mounts = [{"container_path": "/data", "host_path": f"{BASE}/volume", "readonly": True, "recursive_read_only": True}]
            out = finished(cri, sandbox, "rro", "touch /data/below/x 2>&1", mounts=mounts)[1]
            assert out == "touch: /data/below/x: Read-only file system\n"
    finally:
        world.run(["umount", f"{BASE}/volume/below"]).ok()


@pytest.mark.needs_exec
def test_volume_propagation(cri, world):
    """With HostToContainer, the container sees what the host mounts later; with Bidirectional also the reverse (for the pod of a CSI driver)."""
    world.write(f"{BASE}/volume/here", "")
    with pod(cri, "propagation", privileged=True) as sandbox:

        def with_volume(name, propagation):
            mounts = [{"container_path": "/data", "host_path": f"{BASE}/volume", "propagation": propagation}]
            return started(cri, sandbox, name, "sleep", "1000", mounts=mounts, security={"privileged": True})

        down = with_volume("down", "PROPAGATION_HOST_TO_CONTAINER")
        both = with_volume("both", "PROPAGATION_BIDIRECTIONAL")
        none = with_volume("none", "PROPAGATION_PRIVATE")
        script = "mkdir -p /data/m && mount -t tmpfs later /data/m"
        assert cri.exec(both, "sh", "-c", script)[0] == 0
        try:
            seen = {name: cri.exec(one, "grep", "-c", "later", "/proc/mounts")[1] for name, one in (("down", down), ("none", none))}
            assert seen == {"down": "1\n", "none": "0\n"}
            assert " /run/contracts/volume/m " in world.read("/proc/1/mountinfo")
        finally:
            world.run(["umount", f"{BASE}/volume/m"])


def test_limits(cri):
    with pod(cri, "limits") as sandbox:
        resources = {"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "oom_score_adj": 500, "cpuset_cpus": "0", **memory(64)}
        script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpuset/cpuset.cpus 2>/dev/null || cat memory.max cpuset.cpus"
        script += "; cat /proc/self/oom_score_adj"
        assert finished(cri, sandbox, "limits", script, resources=resources)[1].split() == [str(64 << 20), "0", "500"]


def test_tty(cri):
    with pod(cri, "tty") as sandbox:
        assert finished(cri, sandbox, "tty", "tty", tty=True)[1].strip() == "/dev/pts/0"


def test_stats(cri):
    """What kubelet and the metrics server read: the CPU time and memory that a container has used."""
    with pod(cri, "stats") as sandbox:
        container = started(cri, sandbox, "stats", "sh", "-c", "seq 1 100000 > /tmp/x; echo done; sleep 1000")
        wait_until("it has worked", lambda: "done" in cri.log(sandbox, "stats"))
        wait_until("its CPU time is counted", lambda: cri.stats(container).cpu.usage_core_nano_seconds.value > 0)
        assert cri.stats(container).memory.working_set_bytes.value > 0


def test_stop(cri):
    with pod(cri, "stop") as sandbox:
        container = started(cri, sandbox, "stop", "sh", "-c", "trap 'exit 3' TERM; echo set; while :; do sleep 0.05; done")
        wait_until("the trap is set", lambda: cri.log(sandbox, "stop"))
        cri.stop(container, timeout=20)
        assert cri.status(container) == (api.EXITED, 3)
        cri.remove(container)


def test_stop_by_force(cri):
    with pod(cri, "kill") as sandbox:
        container = started(cri, sandbox, "kill", "sleep", "1000")
        cri.stop(container, timeout=0)
        assert cri.status(container) == (api.EXITED, 137)
        cri.remove(container)


def test_restart(cri):
    """A kubelet restarts a container by creating a new one with the same name and a higher attempt number, here after a crash."""
    with pod(cri, "restart") as sandbox:
        assert finished(cri, sandbox, "crash", "exit 1")[0] == 1
        container = started(cri, sandbox, "crash", "sleep", "1000")
        assert cri.status(container)[0] == api.RUNNING


def test_pod_is_removed_with_a_running_container(cri, world):
    with pod(cri, "busy") as sandbox:
        started(cri, sandbox, "busy", "sleep", "1000")
    gone(world)


@pytest.mark.needs_exec
def test_exec(cri):
    with pod(cri, "exec") as sandbox:
        container = started(cri, sandbox, "exec", "sleep", "1000", security={"run_as_user": {"value": 1000}})
        assert cri.exec(container, "sh", "-c", "id -u; echo $FROM_POD; echo err >&2") == (0, "1000\nyes\n", "err\n")
        assert cri.exec(container, "sh", "-c", "exit 9")[0] == 9
        with pytest.raises(api.Failed, match="no such file or directory"):
            cri.exec(container, "/no/such/file")


@pytest.mark.needs_exec
def test_health_check(cri):
    """Probes: an exec that fails until the container is ready, and then succeeds every time."""
    with pod(cri, "probe") as sandbox:
        container = started(cri, sandbox, "probe", "sh", "-c", "sleep 0.5; touch /tmp/ready; sleep 1000")
        answers = []

        def probe():
            answers.append(cri.exec(container, "test", "-e", "/tmp/ready")[0])
            return answers[-1] == 0

        wait_until("it is ready", probe)
        assert answers[0] == 1 and [cri.exec(container, "test", "-e", "/tmp/ready")[0] for _ in range(5)] == [0] * 5


@pytest.mark.needs_exec
def test_exec_runs_out_of_time(cri):
    with pod(cri, "late") as sandbox:
        container = started(cri, sandbox, "late", "sleep", "1000")
        with pytest.raises(api.Failed, match="timeout"):
            cri.exec(container, "sleep", "600", timeout=1)
        assert cri.status(container)[0] == api.RUNNING


@pytest.mark.needs_update
@pytest.mark.needs_exec
def test_update(cri):
    with pod(cri, "update") as sandbox:
        container = started(cri, sandbox, "update", "sleep", "1000", resources={"cpu_shares": 512, **memory(64)})
        cri.update(container, cpu_shares=256, **memory(96))
        assert cri.exec(container, "sh", "-c", MEMORY + "; echo x > /dev/null")[1] == f"{96 << 20}\n"
