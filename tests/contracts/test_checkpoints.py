"""Checkpoints as podman and containerd use them: memory and logs continue; archives, networks of pods, limits."""

import os

import pytest

import cri as kubernetes
from callers import REFERENCE
from cri_tools import pod, started
from sandbox import BASE, wait_until

pytestmark = [pytest.mark.needs_checkpoint, pytest.mark.usefixtures("criu")]
COUNT = ("sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done")
# A reader never sees an empty file.
COUNT_IN_FILE = ("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/new; mv /dev/shm/new /dev/shm/n; sleep 0.05; done")


def lines(podman, name):
    return [int(line.split()[1]) for line in podman("logs", name).ok().out.splitlines()]


def goes_on(podman, name, last):
    """The log has numbers after `last`, none is missing and none is repeated: it is the same memory and the same pipe."""
    wait_until("it counts on", lambda: lines(podman, name)[-1] > last + 2)
    found = lines(podman, name)
    assert found == list(range(1, len(found) + 1))


@pytest.mark.parametrize("words", [(), ("--memory=64m", "--pids-limit=20"), ("--read-only",), ("--tty",)], ids=" ".join)
def test_podman_counts_on(podman, words):
    with podman.running(*words, command=COUNT) as name:
        wait_until("it counts", lambda: len(lines(podman, name)) > 2)
        podman("container", "checkpoint", name).ok()
        assert podman.inspect(name, "{{.State.Status}} {{.State.Checkpointed}}") == "exited true"
        last = lines(podman, name)[-1]
        podman("container", "restore", name).ok()
        assert podman.inspect(name, "{{.State.Status}} {{.State.Restored}}") == "running true"
        goes_on(podman, name, last)
        podman("exec", name, "true").ok()


def test_podman_leaves_it_running(podman):
    with podman.running(command=COUNT) as name:
        podman("container", "checkpoint", "--leave-running", name).ok()
        assert podman.inspect(name, "{{.State.Status}}") == "running"
        goes_on(podman, name, lines(podman, name)[-1])


def test_podman_moves_it_by_an_archive(podman):
    """Export, remove, import, on a root that has never been used."""
    archive = f"{BASE}/checkpoint.tar"
    with podman.running("--name=moved", command=("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /n; sleep 0.05; done")):
        wait_until("it counts", lambda: podman("exec", "moved", "cat", "/n").out.strip())
        podman("container", "checkpoint", "--compress=none", f"--export={archive}", "moved").ok()
    for name in ("moved", "other"):
        try:
            podman("container", "restore", f"--import={archive}", *([] if name == "moved" else [f"--name={name}"])).ok()
            first = int(podman("exec", name, "cat", "/n").ok().out or 0)
            wait_until("it counts on", lambda name=name, first=first: int(podman("exec", name, "cat", "/n").out or 0) > first)  # type: ignore[misc]
        finally:
            podman("rm", "--force", "--time=0", name).ok()


def test_podman_shows_what_went_wrong(podman, world):
    """With a damaged image, podman's error contains ours, and the container does not change."""
    with podman.running(command=COUNT) as name:
        podman("container", "checkpoint", "--keep", name).ok()
        images = os.path.join(os.path.dirname(podman.inspect(name, "{{.OCIConfigPath}}")), "checkpoint")
        world.run(["truncate", "--size=5", os.path.join(images, "core-1.img")]).ok()
        result = podman("container", "restore", name)
        assert result.status != 0 and "criu failed: type RESTORE" in result.err, result
        assert podman.inspect(name, "{{.State.Status}}") == "exited"


def count_of(ctr, name):
    """ctr closes the pipes as soon as the process has exited, and may not have read its output yet: then it is asked again."""
    for number in range(20):
        out = ctr("tasks", "exec", "--exec-id=look%d" % number, name, "cat", "/dev/shm/n").ok().out
        if out:
            return int(out)
    raise AssertionError("ctr never passed on what cat has printed")


def test_containerd_restores_a_task(containerd):
    """The order that the shim uses: pause, checkpoint, resume; then a container from the image of the checkpoint."""
    ctr, ref = containerd.ctr, "contracts/checkpoint:1"
    containerd.run("--detach", REFERENCE, "first", *COUNT_IN_FILE).ok()
    try:
        ctr("tasks", "exec", "--exec-id=until", "first", "sh", "-c", "until [ -e /dev/shm/n ]; do sleep 0.05; done").ok()
        ctr("containers", "checkpoint", "--task", "--image", "--rw", "first", ref).ok()
        ctr("tasks", "exec", "--exec-id=look", "first", "cat", "/dev/shm/n").ok()  # it keeps running
    finally:
        ctr("tasks", "rm", "--force", "first")
        ctr("containers", "rm", "first")
    try:
        ctr("containers", "restore", "--live", "--rw", "second", ref).ok()
        first = count_of(ctr, "second")
        assert count_of(ctr, "second") >= first > 0
    finally:
        ctr("tasks", "rm", "--force", "second")
        ctr("containers", "rm", "second")
        ctr("images", "rm", ref)


def test_containerd_is_told_of_a_failure(containerd):
    """The shim reads our JSON log, and finds dump.log where it expects it."""
    containerd.run("--detach", REFERENCE, "refused", "sleep", "1000").ok()
    try:
        result = containerd.ctr("tasks", "checkpoint", "--image-path=/proc/none", f"--work-path={BASE}/refused-work", "refused")
        assert result.status != 0 and "cannot open the image directory /proc/none" in result.err, result
    finally:
        containerd.ctr("tasks", "rm", "--force", "refused")
        containerd.ctr("containers", "rm", "refused")


def test_cri_of_containerd_1(cri, containerd):
    """In its CRI, the call is only a stub: it never reaches the runtime, and the container keeps running."""
    if containerd.major > 1:
        pytest.skip("the CRI of this containerd supports checkpoints: test_cri tests it")
    with pod(cri, "checkpoint") as sandbox:
        container = started(cri, sandbox, "checkpoint", "sleep", "1000")
        with pytest.raises(kubernetes.Failed, match="UNIMPLEMENTED"):
            cri.call("CheckpointContainer", container_id=container, location=f"{BASE}/cri.tar")
        assert cri.status(container)[0] == kubernetes.RUNNING and not cri.world.exists(f"{BASE}/cri.tar")


def test_cri(cri, containerd, world):
    """The checkpoint API of the kubelet: an archive with CRIU's images of a container that keeps running."""
    if containerd.major == 1:
        pytest.skip("the CRI of containerd 1 has no checkpoints (2.1 does): make test-containerd2")
    with pod(cri, "checkpoint") as sandbox:
        container = started(cri, sandbox, "checkpoint", *COUNT_IN_FILE)
        wait_until("it counts", lambda: cri.exec(container, "cat", "/dev/shm/n")[1])
        cri.call("CheckpointContainer", container_id=container, location=f"{BASE}/cri.tar")
        names = world.run(["tar", "-tf", f"{BASE}/cri.tar"]).ok().out.split()
        assert "checkpoint/inventory.img" in names and "spec.dump" in names, names
        assert cri.status(container)[0] == kubernetes.RUNNING
        first = int(cri.exec(container, "cat", "/dev/shm/n")[1])
        wait_until("it counts on", lambda: int(cri.exec(container, "cat", "/dev/shm/n")[1] or 0) > first)
