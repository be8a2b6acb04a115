"""podman and conmon, the life cycle of a container: logs, signals, pods, hooks, exec, pause, update. podman itself calls start, kill and delete."""

import json
import os

import pytest

from callers import IMAGE, gone
from podman_tools import cgroup_value
from sandbox import BASE, wait_until


def test_second_failure_of_the_same_container(podman):
    """podman appends to one log for each container, so from the second failure on, it shows conmon's copy of stderr."""
    name = podman("create", *podman.create_options("none"), IMAGE, "/no/such/file").ok().out.strip()
    try:
        for _ in range(2):
            result = podman("start", name)
            assert result.status == 127 or result.status == 125, result
            assert "/no/such/file" in result.err, result
    finally:
        podman("rm", "--force", name).ok()


def test_created_container_is_removed(podman):
    name = podman("create", *podman.create_options("none"), IMAGE, "true").ok().out.strip()
    podman("init", name).ok()
    assert podman.inspect(name, "{{.State.Status}}") == "initialized"
    podman("rm", "--force", "--time=0", name).ok()


def test_created_container_stops_at_once(podman):
    """TERM ends the init of a created container although it is the first process of its namespace."""
    name = podman("create", *podman.create_options("none"), IMAGE, "true").ok().out.strip()
    try:
        podman("init", name).ok()
        assert podman("start", name).ok()
        assert podman("wait", name).ok().out == "0\n"
    finally:
        podman("rm", "--force", "--time=0", name).ok()


def test_inspect(podman, world):
    with podman.running() as name:
        state, pid = podman.inspect(name, "{{.State.Status}} {{.State.Pid}}").split()
        assert state == "running" and int(pid) in world.processes()
        assert world.read(f"/proc/{pid}/comm") == "sleep\n"


def test_pod(podman, world):
    pod = (
        podman(
            "pod",
            "create",
            "--network=none",
            f"--cgroup-parent=/{world.cgroup}",
            "--share=net,ipc,uts",
            "--infra-command=sleep 1000",
            f"--infra-image={IMAGE}",
        )
        .ok()
        .out.strip()
    )
    try:
        script = "for name in net ipc uts; do readlink /proc/self/ns/$name; done"
        first, second = (podman("run", "--rm", f"--pod={pod}", IMAGE, "sh", "-c", script).ok().out for _ in range(2))
        assert first == second and len(first.split()) == 3
    finally:
        podman("pod", "rm", "--force", "--time=0", pod).ok()
        remove_pod_cgroup(world, pod)


def remove_pod_cgroup(world, pod):
    """podman creates the cgroup of a pod in every v1 hierarchy but doesn't remove it from all of them. Fails if something is in it."""
    for hierarchy in world.hierarchies():
        if os.path.isdir(f"{hierarchy}/{world.cgroup}/{pod}"):
            os.rmdir(f"{hierarchy}/{world.cgroup}/{pod}")


def test_hooks(podman, world):
    """OCI hooks from a directory; they get the state on their standard input."""
    script = f'#!/bin/sh\ncat > {BASE}/hooks-seen/$1\necho "$PWD" >> {BASE}/hooks-seen/$1\n'
    world.write(f"{BASE}/hook", script, 0o755)
    world.write(f"{BASE}/hooks-seen/.keep", "")
    stages = ["prestart", "createRuntime", "poststart", "poststop"]
    for stage in stages:
        what = {"path": f"{BASE}/hook", "args": ["free text", stage]}
        hook = {"version": "1.0.0", "hook": what, "when": {"always": True}, "stages": [stage]}
        world.write(f"{BASE}/hooks.d/{stage}.json", json.dumps(hook))
    podman(f"--hooks-dir={BASE}/hooks.d", "run", "--rm", *podman.create_options("none"), "--name=hooked", IMAGE, "true").ok()
    gone(world)
    for stage in stages:
        text = world.read(f"{BASE}/hooks-seen/{stage}")
        state, _ = json.JSONDecoder().raw_decode(text)
        assert state["id"] and state["bundle"] and state["annotations"], text
        assert (state["status"] == "stopped") == (stage == "poststop"), text


def test_failing_hook(podman, world):
    world.write(f"{BASE}/bad-hook", "#!/bin/sh\necho what went wrong >&2\nexit 3\n", 0o755)
    hook = {"version": "1.0.0", "hook": {"path": f"{BASE}/bad-hook"}, "when": {"always": True}, "stages": ["createRuntime"]}
    world.write(f"{BASE}/bad-hooks.d/bad.json", json.dumps(hook))
    result = podman(f"--hooks-dir={BASE}/bad-hooks.d", "run", "--rm", *podman.create_options("none"), IMAGE, "true").exits(126)
    assert "hook" in result.err


def test_notify_socket(podman):
    """--sdnotify=container: podman passes a socket of systemd to the container, with an environment variable and a bind mount."""
    out = podman.run("--sdnotify=container", "--env=NOTIFY_SOCKET=/run/nothing", IMAGE, "sh", "-c", "echo ready").ok().out
    assert out == "ready\n"


def test_copy_and_commit(podman, world):
    with podman.running() as name:
        world.write(f"{BASE}/copied", "copied\n")
        podman("cp", f"{BASE}/copied", f"{name}:/copied").ok()
        podman("commit", "--pause=false", name, "committed").ok()
    assert podman.run("committed", "cat", "/copied").ok().out == "copied\n"
    podman("rmi", "--force", "committed").ok()


def test_build(podman, world):
    world.write(f"{BASE}/podman-build/Containerfile", f"FROM {IMAGE}\nRUN echo built > /built && id -u\n")
    limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
    podman("build", "--network=none", "--isolation=oci", *limits, "--tag=built", f"{BASE}/podman-build").ok()
    assert podman.run("built", "cat", "/built").ok().out == "built\n"
    podman("rmi", "--force", "built").ok()


@pytest.mark.needs_exec
def test_exec_keeps_the_limits_of_the_container(podman):
    with podman.running("--cap-drop=all", "--security-opt=no-new-privileges") as name:
        main = podman("exec", name, "cat", "/proc/1/status").ok().out
        other = podman("exec", name, "cat", "/proc/self/status").ok().out
        for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
            lines = [[line for line in text.splitlines() if line.startswith(key + ":")] for text in (main, other)]
            assert lines[0] == lines[1]
        assert podman("exec", name, "cat", "/proc/self/cgroup").out == podman("exec", name, "cat", "/proc/1/cgroup").out


@pytest.mark.needs_exec
def test_top(podman):
    with podman.running() as name:
        assert "sleep 1000" in podman("top", name, "args").ok().out


@pytest.mark.needs_exec
def test_health_check(podman):
    with podman.running("--health-cmd=test -e /tmp/well", "--health-interval=disable") as name:
        assert podman("healthcheck", "run", name).status == 1
        podman("exec", name, "touch", "/tmp/well").ok()
        podman("healthcheck", "run", name).ok()


@pytest.mark.needs_update
def test_update(podman, world):
    pids = ["--pids-limit=55"]
    can = podman.has("update", "--pids-limit")  # podman 4.3 cannot: there, the limit stays
    with podman.running("--memory=64m", *([] if can else pids)) as name:
        podman("update", "--memory=96m", *(pids if can else []), name).ok()
        assert cgroup_value(world, name, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
        assert cgroup_value(world, name, "pids", "pids.max", "pids.max") == "55"


@pytest.mark.needs_checkpoint
def test_checkpoint_and_restore(criu, podman):
    with podman.running(command=("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /tmp/n; sleep 0.05; done")) as name:
        wait_until("it counts", lambda: podman("cp", f"{name}:/tmp/n", "-").status == 0)
        podman("container", "checkpoint", name).ok()
        assert podman.inspect(name, "{{.State.Status}} {{.State.Checkpointed}}") == "exited true"
        podman("container", "restore", name).ok()
        assert podman.inspect(name, "{{.State.Status}}") == "running"
