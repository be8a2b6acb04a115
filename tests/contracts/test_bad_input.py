"""Failures: the engine shows the reason, the exit status is the one that its users expect, and nothing is left behind.

A wrong or missing binary, the state of another runtime below the same root, an engine killed during create, an image without a shell, a full
disk below the root of the runtime and below that of the engine.
"""

import json
import os

import pytest

from callers import IMAGE, REFERENCE
from sandbox import BASE, wait_until

# ---- without a runtime


def test_runtime_is_missing(podman):
    result = podman.run(IMAGE, "true", runtime="/no/such/runtime").exits(125)
    assert "no valid executable found for OCI runtime /no/such/runtime" in result.err


def test_runtime_is_no_program(podman, world):
    file = world.write(f"{BASE}/not-a-runtime", "neither ELF nor script", 0o755)
    result = podman.run(IMAGE, "true", runtime=file)
    assert result.status in (125, 126, 127) and result.err, result


def test_runtime_is_missing_for_ctr(containerd):
    words = ["run", "--rm", "--runtime=io.containerd.runc.v2", "--runc-binary=/no/such/runtime", f"--fifo-dir={BASE}/fifo"]
    result = containerd.ctr(*words, REFERENCE, "none", "true").exits(1)
    assert "/no/such/runtime" in result.err and "no such file or directory" in result.err
    containerd.ctr("containers", "rm", "none")


def test_runtime_is_not_configured(docker):
    result = docker.run("--runtime=nobody", IMAGE, "true").exits(125)
    assert "nobody" in result.err


# ---- images that lack something


@pytest.fixture
def bare(docker, world):
    """An image with one static program: no shell, no /etc/passwd, no directories."""
    world.write(f"{BASE}/bare/Dockerfile", "FROM scratch\nCOPY busybox /busybox\n")
    world.run(["cp", "/bin/busybox", f"{BASE}/bare/busybox"]).ok()
    docker("build", "--network=none", "--tag=bare", f"{BASE}/bare", env={"DOCKER_BUILDKIT": "0"}).ok()
    yield "bare"
    docker("rmi", "--force", "bare").ok()


def test_image_without_a_shell(docker, bare):
    result = docker.run(bare, "sh", "-c", "true").exits(127)
    assert 'exec: "sh": executable file not found in $PATH' in result.err
    result = docker.run(bare, "/bin/sh").exits(127)
    assert "no such file or directory" in result.err
    assert docker.run("--workdir=/made/here", "--user=4321", bare, "/busybox", "pwd").ok().out == "/made/here\n"
    with docker.running(image=bare, command=("/busybox", "sleep", "1000")) as name:
        result = docker("exec", name, "sh")
        assert result.status in (126, 127) and "executable file not found in $PATH" in result.text, result
        assert docker("exec", name, "/busybox", "id", "-u").ok().out == "0\n"
    result = docker.run("--user=nobody", bare, "/busybox", "true").exits(125)
    assert "no users found" in result.err or "unable to find user nobody" in result.err


# ---- other owners of a state directory


def test_state_of_runc_under_the_same_root(containerd, world):
    """containerd uses one --root in each namespace for all its runtimes: a container of runc runs, is used and is removed next to ours, and
    neither runtime removes the other's container."""
    words = ["run", "-d", "--runtime=io.containerd.runc.v2", f"--fifo-dir={BASE}/fifo"]
    containerd.ctr(*words, "--runc-binary=/usr/sbin/runc", REFERENCE, "of-runc", "sleep", "1000").ok()
    containerd.ctr(*words, f"--runc-binary={containerd.runtime}", REFERENCE, "ours", "sleep", "1000").ok()
    root = f"/run/containerd/runc/{containerd.namespace}"
    mine = [containerd.runtime, "--root", root]
    if os.path.basename(containerd.runtime) != "runc":
        for command in (["state", "of-runc"], ["kill", "of-runc", "KILL"], ["delete", "--force", "of-runc"]):
            result = world.run([*mine, *command])
            assert result.status == 1 and len(result.err.splitlines()) == 1 and "Traceback" not in result.err, result
        listed = world.run([*mine, "list", "-q"]).ok()
        assert listed.out.split() == ["ours"]
    assert "RUNNING" in containerd.ctr("tasks", "ls").ok().out.split("of-runc")[1].splitlines()[0]
    assert containerd.ctr("tasks", "exec", "--exec-id=x", "of-runc", "echo", "alive").ok().out == "alive\n"
    for name in ("of-runc", "ours"):
        containerd.ctr("tasks", "rm", "--force", name).ok()
        containerd.ctr("containers", "rm", name).ok()


# ---- an engine that is killed in the middle of create


def blocking_hook(world):
    """A hook that reports and then waits forever."""
    script = f"#!/bin/sh\ncat > /dev/null\necho here > {BASE}/hook-runs\nexec sleep 4444\n"
    return world.write(f"{BASE}/hook.sh", script, 0o755)


def descendants(world, words):
    return [pid for pid, line in world.processes().items() if words in line]


def test_engine_is_killed_in_mid_create(podman, world):
    """podman and its monitor are killed while create waits for a hook. podman then forgets the container without calling the runtime, so a user
    has to call `delete --force`; pyrunc's `gc` also finds what is left."""
    hook = {"version": "1.0.0", "hook": {"path": blocking_hook(world)}, "when": {"always": True}, "stages": ["createRuntime"]}
    world.write(f"{BASE}/hooks/block.json", json.dumps(hook))
    argv = podman.argv(f"--hooks-dir={BASE}/hooks", "run", *podman.create_options("none"), "--name=half", IMAGE, "true")
    process = world.popen(argv, env=podman.env)
    wait_until("the hook runs", lambda: world.exists(f"{BASE}/hook-runs"))
    os.unlink(world.outer(f"{BASE}/hook-runs"))
    for words in ("podman --root", "conmon "):
        for pid in descendants(world, words):
            world.run(["kill", "-KILL", str(pid)])
    process.wait()
    podman("rm", "--force", "--time=0", "half").ok()
    for pid in descendants(world, "sleep 4444"):  # the hook belongs to the administrator; nothing else ends it
        world.run(["kill", "-KILL", str(pid)])
    world.run(["rm", f"{BASE}/hooks/block.json"]).ok()
    for path in world.state_directories():
        if os.path.basename(podman.runtime).startswith("pyrunc"):
            found = json.loads(world.run([podman.runtime, "gc", "--format=json"]).ok().out)
            assert [one["id"] for one in found] == [os.path.basename(path)] and "create" in found[0]["reason"], found
        world.run([podman.runtime, "delete", "--force", os.path.basename(path)]).ok()


def test_shim_is_killed_in_mid_create(containerd, world):
    """containerd notices that its shim is gone and makes the runtime delete the rest; the name is free immediately."""
    layer = f"{BASE}/blocked"
    spec = json.loads(world.run([containerd.runtime, "spec", "--file", "-"]).out or "{}") if "pyrunc" in containerd.runtime else None
    if spec is None:
        pytest.skip("`pyrunc spec --file -` writes the configuration")
    os.makedirs(world.outer(f"{layer}/rootfs"), exist_ok=True)
    world.run(["tar", "-xf", f"{BASE}/rootfs.tar", "-C", f"{layer}/rootfs"])
    spec["hooks"] = {"createRuntime": [{"path": blocking_hook(world)}]}
    spec["root"] = {"path": f"{layer}/rootfs"}
    spec["process"].update(terminal=False, args=["/bin/true"])
    spec["linux"]["cgroupsPath"] = f"/{world.cgroup}/blocked"
    world.write(f"{layer}/config.json", json.dumps(spec))
    words = containerd.run_words("-d", f"--config={layer}/config.json", "blocked")
    process = world.popen(containerd.argv("--namespace", containerd.namespace, *words))
    wait_until("the hook runs", lambda: world.exists(f"{BASE}/hook-runs"))
    os.unlink(world.outer(f"{BASE}/hook-runs"))
    for pid in descendants(world, "containerd-shim-runc-v2"):
        world.run(["kill", "-KILL", str(pid)])
    assert process.wait() != 0
    for pid in descendants(world, "sleep 4444"):
        world.run(["kill", "-KILL", str(pid)])
    containerd.ctr("containers", "rm", "blocked")
    assert containerd.run("--rm", REFERENCE, "blocked", "sh", "-c", "exit 7").status == 7


# ---- full disks


@pytest.fixture
def full(world):
    """full(path, bytes) mounts a tmpfs of that size at the path."""
    made = []

    def mount(path, size):
        os.makedirs(world.outer(path), exist_ok=True)
        world.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path]).ok()
        made.append(path)
        return path

    yield mount
    for path in made:
        world.run(["umount", path]).ok()


def test_full_disk_under_the_runtime(podman, world, full):
    """There is no space for the state: create fails with that reason, and leaves nothing behind."""
    place = full(f"{BASE}/small", "8k")
    world.run(["dd", "if=/dev/zero", f"of={place}/filler", "bs=4096", "count=8"])
    argv = [*podman.argv(f"--runtime-flag=root={place}"), "run", "--rm", *podman.create_options("none"), IMAGE, "true"]
    result = world.run(argv, env=podman.env)
    assert result.status in (125, 126, 127) and "no space left on device" in result.err, result
    assert world.listing(place) == [f"{place}/filler"]
    os.unlink(world.outer(f"{place}/filler"))


def test_full_disk_under_the_program(containerd, world, full):
    """The disk of the container is full: the program handles that, and its status is passed on."""
    place = full(f"{BASE}/small", "16k")
    words = ["--rm", f"--mount=type=bind,src={place},dst=/data,options=rbind:rw"]
    result = containerd.run(*words, REFERENCE, "fills", "dd", "if=/dev/zero", "of=/data/x", "bs=4096", "count=20").exits(1)
    assert "No space left on device" in result.text, result


def test_full_disk_under_the_engine(podman, world, full):
    """podman's run directory is full: podman or the runtime reports it; afterwards the same directory works."""
    place = full(f"{BASE}/small-run", "64k")
    argv = [word.replace(f"{BASE}/podman/runroot", place) for word in podman.argv()]
    argv = [
        word.replace(f"{BASE}/podman/root", f"{BASE}/podman/other-root").replace(f"{BASE}/podman/tmpdir", f"{place}/tmp") for word in argv
    ]
    world.run([*argv, "import", f"{BASE}/rootfs.tar", IMAGE], env=podman.env).ok()
    world.run(["dd", "if=/dev/zero", f"of={place}/filler", "bs=4096", "count=20"])
    run = [*argv, "run", "--rm", *podman.create_options("none"), IMAGE, "echo", "works"]
    result = world.run(run, env=podman.env)
    assert result.status in (125, 126, 127) and "no space left on device" in result.err, result
    os.unlink(world.outer(f"{place}/filler"))
    assert world.run(run, env=podman.env).ok().out == "works\n"
    world.run([*argv, "rm", "--all", "--force"], env=podman.env)
    world.run(["umount", f"{BASE}/podman/other-root/overlay"])
