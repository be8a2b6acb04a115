"""`list --engine`: containers where engines keep them, and commands that accept a name used by an engine or the beginning of an id."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import harness
from test_formats import check
from workshop import MakeBundle

pytestmark = pytest.mark.kernel

POD = "pod-" + secrets.token_hex(4)
CONTAINERD = pathlib.Path("/run/containerd/runc")
ANNOTATIONS = {
    "io.kubernetes.cri.container-name": "web", "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-name": POD,
    "io.kubernetes.cri.sandbox-namespace": "shop",
}  # fmt: skip


@pytest.fixture
def root() -> Iterator[pathlib.Path]:
    """The root of a runtime where containerd would have it."""
    path = CONTAINERD / ("pyrunc-test-%s" % secrets.token_hex(4))
    path.mkdir(parents=True, mode=0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def pod(pyrunc: harness.Runtime, waiting: harness.Bundle, root: pathlib.Path) -> Iterator[str]:
    """The id of a container that containerd's CRI plugin might have created."""
    id = secrets.token_hex(32)
    bundle = waiting.patch({"/annotations": ANNOTATIONS})
    made = pyrunc.call("--root", root, "run", "--detach", "--bundle", bundle, id, raw=True)
    assert made.code == 0, made
    yield id
    assert pyrunc.call("--root", root, "delete", "--force", id, raw=True).code == 0


def rows(pyrunc: harness.Runtime, root: pathlib.Path, engine: str) -> list[dict[str, object]]:
    found = pyrunc.call("list", "--engine", engine, "--format", "json", raw=True)
    assert found.code == 0, found
    return [row for row in json.loads(found.out) if row["root"] == str(root)]


def test_a_container_of_a_pod(pyrunc, root, pod):
    (row,) = rows(pyrunc, root, "containerd")
    assert (row["id"], row["name"], row["pod"], row["status"], row["runtime"]) == (pod, "web", "shop/" + POD, "running", "pyrunc")
    assert rows(pyrunc, root, "all") == [row] and rows(pyrunc, root, "docker") == []
    table = pyrunc.call("list", "--engine", "containerd", raw=True).out
    assert [line.split()[:4] for line in table.splitlines() if pod[:12] in line] == [["containerd", pod[:12], "web", "shop/" + POD]]
    assert pod in pyrunc.call("list", "--engine", "all", "-q", raw=True).out.split()


@pytest.mark.parametrize("words", [["state"], ["ps"], ["stats"], ["diff"]])
def test_commands_by_name_and_prefix(pyrunc, pod, words):
    for word in (pod[:10], "shop/%s/web" % POD):
        result = pyrunc.call(*words, word, raw=True)
        assert result.code == 0, result
        assert words != ["state"] or json.loads(result.out)["id"] == pod


def test_several_by_name_in_one_command(pyrunc, pod):
    """The first lookup does not change where the next one searches."""
    result = pyrunc.call("stats", "shop/%s/web" % POD, pod[:10], raw=True)
    assert result.code == 0 and result.out.count(pod) == 2, result


def test_metrics_of_all_engines(pyrunc, root, pod):
    """One file for Prometheus, with the names of the engine as labels."""
    lines = pyrunc.call("stats", "--engine", "all", "--format", "prometheus", raw=True).out.splitlines()
    labels = 'id="%s",root="%s",engine="containerd",name="web",pod="shop/%s"' % (pod, root, POD)
    assert [line.partition("{")[0] for line in lines if labels in line].count("pyrunc_pids") == 1
    (row,) = [row for row in statistics(pyrunc) if row["id"] == pod]
    assert row["data"]["pids"]["current"] >= 1
    assert {**row, "data": None} == {
        "engine": "containerd", "root": str(root), "id": pod, "name": "web", "pod": "shop/" + POD, "status": "running", "data": None,
    }  # fmt: skip
    assert pod not in pyrunc.call("stats", "--engine", "docker", raw=True).out
    refused = pyrunc.call("stats", "--engine", "all", pod, raw=True)
    assert refused.code == 1 and "leave out the ids" in refused.said


@pytest.fixture
def same_id(pyrunc: harness.Runtime, pod: str, root: pathlib.Path, make_bundle: MakeBundle) -> Iterator[pathlib.Path]:
    """The root of another container with the id of `pod`, with a pod and a cgroup that differ."""
    path = root.with_name(root.name + "-other")
    path.mkdir(mode=0o711)
    changes = {"/annotations": {**ANNOTATIONS, "io.kubernetes.cri.sandbox-name": POD + "-other"}, "/linux/cgroupsPath": "/%s-other" % pod}
    bundle = make_bundle(changes, args=harness.WAIT_FOR_TERM)
    made = pyrunc.call("--root", path, "run", "--detach", "--bundle", bundle, pod, raw=True)
    assert made.code == 0, made
    yield path
    assert pyrunc.call("--root", path, "delete", "--force", pod, raw=True).code == 0
    shutil.rmtree(path)


def statistics(pyrunc: harness.Runtime) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(pyrunc.call("stats", "--engine", "containerd", "--format", "json", raw=True).out)
    check("stats", found)
    return found


def test_metrics_of_equal_ids(pyrunc, root, pod, same_id):
    """Ids are unique below one root only: both containers are there, and each has a series of its own."""
    rows = [row for row in statistics(pyrunc) if row["id"] == pod]
    assert sorted(row["root"] for row in rows) == [str(root), str(same_id)]
    text = pyrunc.call("stats", "--engine", "containerd", "--format", "prometheus", raw=True).out
    series = [line.rpartition(" ")[0] for line in text.splitlines() if line.startswith("pyrunc_pids{") and pod in line]
    assert len(series) == len(set(series)) == 2, text
    names = ["shop/%s/web" % name for name in (POD, POD + "-other")]
    assert pyrunc.call("stats", *names, raw=True).out.count(pod) == 2
    refused = pyrunc.call("stats", "--format", "json", *names, raw=True)
    assert refused.code == 1 and "both have a container %s" % pod in refused.said, refused
    one = pyrunc.call("stats", "--format", "json", names[0], names[0], raw=True)
    assert list(json.loads(one.out)) == [pod], "one container by two names is no collision"


def test_exec_by_prefix(pyrunc, pod):
    result = pyrunc.call("exec", pod[:10], "/bin/echo", "hello", raw=True)
    assert (result.code, result.out) == (0, "hello\n"), result


def test_only_an_explicit_root_is_searched(pyrunc, pod):
    result = pyrunc.call("state", pod[:10])
    assert result.code == 1 and "container does not exist" in result.said


def test_unknown_everywhere(pyrunc):
    result = pyrunc.call("state", "nobody-has-this-name", raw=True)
    assert result.code == 1 and "container does not exist (nobody-has-this-name)" in result.said and "list --engine all" in result.said
    assert pyrunc.call("list", "--engine", "dokcer", raw=True).said.endswith(
        "did you mean docker? use docker, podman, containerd, cri-o or all"
    )


@pytest.mark.skipif(not os.path.exists("/usr/sbin/runc"), reason="no runc on this machine")
def test_a_container_of_runc_in_the_same_root(pyrunc, waiting, root, pod):
    """The list shows which runtime created it, and pyrunc leaves it alone."""
    id = secrets.token_hex(8)
    bundle = waiting.patch({"/linux/cgroupsPath": harness.ABSENT})
    made = subprocess.run(
        ["/usr/sbin/runc", "--root", root, "create", "--bundle", str(bundle), id], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    try:
        assert made.returncode == 0
        found = {row["id"]: row for row in rows(pyrunc, root, "containerd")}
        assert (found[id]["runtime"], found[id]["status"], found[pod]["runtime"]) == ("runc", "running", "pyrunc")
        refused = pyrunc.call("exec", id[:6], "/bin/true", raw=True)
        assert refused.code == 255 and "was made by runc" in refused.said, refused
    finally:
        subprocess.run(["/usr/sbin/runc", "--root", root, "delete", "--force", id], check=True, stdout=subprocess.DEVNULL)
