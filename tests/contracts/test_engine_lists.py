"""`list --engine` with running engines: names, pods and runtimes as the engines know them, and commands that accept such a name or the
beginning of an id. The runtime is called on the host of the engines, as a person would, without --root.
"""

import json
import os

import pytest

from callers import IMAGE
from cri_tools import pod, started
from engine_tools import on
from test_containerd import running

pytestmark = [pytest.mark.needs_exec, pytest.mark.slow]


@pytest.fixture
def pyrunc(world, runtime):
    """The command line in the world of the engines."""

    def call(*words):
        return world.run([runtime, *words])

    return call


@pytest.fixture
def docker_at_home(world, docker):
    """The dockerd of the tests has another exec-root; an installed one uses /run/docker."""
    usual = world.outer("/run/docker/runtime-runc")
    os.makedirs(os.path.dirname(usual), exist_ok=True)
    os.symlink(docker.place + "-run/runtime-runc", usual)
    yield docker
    os.unlink(usual)


def rows(pyrunc, engine):
    return {row["id"]: row for row in json.loads(pyrunc("list", "--engine", engine, "--format", "json").ok().out) or ()}


def by_name_and_prefix(pyrunc, name, id):
    """The commands that people type, each one with the name and with the beginning of the id."""
    for word in (name, id[:12]):
        assert json.loads(pyrunc("state", word).ok().out)["id"] == id
        assert id in pyrunc("stats", word).ok().out
        assert len(pyrunc("ps", word).ok().out.splitlines()) >= 2
        assert id[:12] in pyrunc("top", "--count", "1", word).ok().out
        assert pyrunc("exec", word, "/bin/echo", "hello").ok().out == "hello\n"
        assert pyrunc("diff", word).status in (0, 1), "diff has compared the container, whatever it found"
    assert pyrunc("state", name[:-1] + "-not-there").status == 1


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "removed at the end"])
@on("podman")
def test_listed_by_name(engine, pyrunc, keep):
    """podman records containers that it removes at their end in a separate file."""
    id = engine.run("-d", *([] if keep else ["--rm"]), "--name", "web", IMAGE, "sleep", "1000").ok().out.strip()
    try:
        row = rows(pyrunc, "podman")[id]
        assert (row["engine"], row["name"], row["status"], row["runtime"]) == ("podman", "web", "running", "pyrunc")
        assert id in rows(pyrunc, "all") and id not in rows(pyrunc, "docker") and id not in rows(pyrunc, "containerd")
        by_name_and_prefix(pyrunc, "web", id)
    finally:
        engine.remove("web")


def test_listed_by_name_docker(docker_at_home, pyrunc):
    """In the same root there is a container of runc, which is shown as such and left alone."""
    docker = docker_at_home
    ours = docker.run("-d", "--name", "web", IMAGE, "sleep", "1000").ok().out.strip()
    theirs = docker.run("-d", "--name", "other", "--runtime", "reference", IMAGE, "sleep", "1000").ok().out.strip()
    try:
        found = rows(pyrunc, "docker")
        shown = [(found[id]["name"], found[id]["runtime"], found[id]["status"]) for id in (ours, theirs)]
        assert shown == [("web", "pyrunc", "running"), ("other", "runc", "running")]
        assert found[ours]["root"] == found[theirs]["root"], "dockerd keeps both in one root"
        table = pyrunc("list", "--engine", "all").ok().out
        assert [line.split()[:3] for line in table.splitlines() if "web" in line] == [["docker", ours[:12], "web"]]
        by_name_and_prefix(pyrunc, "web", ours)
        refused = pyrunc("exec", "other", "/bin/true")
        assert refused.status == 255 and "container other of docker was made by runc" in refused.err
        assert pyrunc("gc", "--engine", "docker").ok().out == "", "running containers are not garbage"
    finally:
        docker.remove("web")
        docker.remove("other")


def test_listed_by_name_containerd(containerd, pyrunc):
    """Containers of ctr have no name except their id."""
    with running(containerd, "lists-me"):
        row = rows(pyrunc, "containerd")["lists-me"]
        assert (row["root"].rpartition("/")[2], row["status"], row["runtime"]) == (containerd.namespace, "running", "pyrunc")
        assert pyrunc("exec", "lists-me", "/bin/echo", "hello").ok().out == "hello\n"


def test_listed_by_name_kubernetes(cri, pyrunc):
    """Pods, their sandboxes, and containers as POD/NAME or by name alone."""
    with pod(cri, "shop") as sandbox:
        id = started(cri, sandbox, "till", "sleep", "1000")
        found = rows(pyrunc, "containerd")
        assert (found[id]["name"], found[id]["status"], found[sandbox]["name"]) == ("till", "running", "(sandbox)")
        assert found[id]["pod"] == found[sandbox]["pod"] and found[id]["pod"].endswith("/shop")
        by_name_and_prefix(pyrunc, "till", id)
        assert json.loads(pyrunc("state", found[id]["pod"] + "/till").ok().out)["id"] == id
