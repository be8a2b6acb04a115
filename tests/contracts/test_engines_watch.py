"""Engines that watch and access running containers: stats, top, attach; and that change their limits."""

import json

import pytest

from sandbox import wait_until
from test_containerd import running as containerd_running


def test_docker_stats(docker):
    with docker.running("--memory=64m", "--pids-limit=20") as name:
        found = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", name).ok().out)
        assert found["MemUsage"].endswith("/ 64MiB") and found["PIDs"] == "1", found


@pytest.mark.needs_update
def test_docker_stats_after_an_update(docker):
    with docker.running("--memory=64m") as name:
        docker("update", "--memory=80m", "--memory-swap=160m", name).ok()
        found = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", name).ok().out)
        assert found["MemUsage"].endswith("/ 80MiB"), found


def test_docker_attach(docker):
    with docker.running("-i", command=("sh", "-c", "read x; echo got $x; exit 4")) as name:
        docker("attach", name, stdin="typed\n")  # if stdin ends, it may exit before the output arrives
        assert docker("wait", name).ok().out == "4\n"
        assert docker("logs", name).ok().out == "got typed\n"


def test_podman_stats(podman):
    with podman.running("--memory=64m") as name:
        found = json.loads(podman("stats", "--no-stream", "--format", "json", name).ok().out)
        assert "/ 67.11MB" in found[0]["mem_usage"] and found[0]["pids"] == "1", found


def test_podman_attach(podman):
    with podman.running("-i", command=("sh", "-c", "read x; echo got $x; exit 4")) as name:
        assert podman("attach", name, stdin="typed\n").out.split() == ["got", "typed"]
        assert podman("wait", name).ok().out == "4\n"


@pytest.mark.needs_pause
def test_podman_pauses_all_and_keeps_their_state(podman):
    with podman.running() as one, podman.running() as other:
        podman("pause", one, other).ok()
        assert {podman.inspect(name, "{{.State.Status}}") for name in (one, other)} == {"paused"}
        assert podman("exec", one, "true").status != 0
        podman("unpause", one, other).ok()
        podman("exec", one, "true").ok()


def test_containerd_metrics(containerd):
    with containerd_running(containerd, "metrics", "--memory-limit=67108864"):
        wait_until("the process counts", lambda: "memory" in containerd.ctr("tasks", "metrics", "metrics").ok().out)
        text = containerd.ctr("tasks", "metrics", "--format", "json", "metrics").ok().out
        assert "67108864" in text, text
