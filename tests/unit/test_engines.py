"""engine/engines.py: names and engines, from annotations and from the files of the engines."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from pyrunc.engine import engines
from pyrunc.state_dir import PID_MAX


def named(engine: str, annotations: dict[str, str], rootfs: str = "", id: str = "abc") -> tuple[Any, Any]:
    found: Any = {"engine": engine, "id": id, "name": None, "pod": None}
    engines._name(found, annotations, rootfs)
    return found["name"], found["pod"]


def test_cri() -> None:
    cri = {"io.kubernetes.cri.sandbox-name": "p", "io.kubernetes.cri.sandbox-namespace": "n"}
    assert named("containerd", {**cri, "io.kubernetes.cri.container-name": "c"}) == ("c", "n/p")
    assert named("containerd", {**cri, "io.kubernetes.cri.container-type": "sandbox"}) == ("(sandbox)", "n/p")
    kubelet = {"io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "n", "io.kubernetes.container.name": "c"}
    assert named("cri-o", kubelet) == ("c", "n/p")
    assert named("cri-o", {**kubelet, "io.kubernetes.container.name": "POD"}) == ("(sandbox)", "n/p")


def test_docker(tmp_path: pathlib.Path) -> None:
    (tmp_path / "containers/abc").mkdir(parents=True)
    (tmp_path / "containers/abc/config.v2.json").write_text(json.dumps({"Name": "/happy", "ID": "abc"}))
    assert named("docker", {}, "%s/overlay2/x/merged" % tmp_path) == ("happy", None)
    assert named("docker", {}, "%s/rootfs/overlayfs/abc" % tmp_path) == ("happy", None)
    assert named("docker", {}, "/nowhere/overlay2/x") == (None, None)


def test_podman(tmp_path: pathlib.Path) -> None:
    (tmp_path / "overlay-containers").mkdir()
    (tmp_path / "overlay-containers/containers.json").write_text(
        json.dumps([{"id": "abc", "names": ["calm"]}, {"id": "d", "names": ["x"]}])
    )
    assert named("podman", {}, "%s/overlay/x/merged" % tmp_path) == ("calm", None)
    (tmp_path / "overlay-containers/volatile-containers.json").write_text(json.dumps([{"id": "v", "names": ["brief"]}]))
    assert named("podman", {}, "%s/overlay/x/merged" % tmp_path, "v") == ("brief", None), "a container of podman run --rm"


def test_docker_with_another_exec_root(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """exec-root in daemon.json, and another containerd namespace."""
    (tmp_path / "run/runtime-runc/remapped").mkdir(parents=True)
    (tmp_path / "daemon.json").write_text(json.dumps({"exec-root": str(tmp_path / "run")}))
    monkeypatch.setattr(engines, "DOCKER_CONFIG", str(tmp_path / "daemon.json"))
    assert str(tmp_path / "run/runtime-runc/remapped") in engines.places("docker")
    (tmp_path / "daemon.json").write_text("{")
    assert str(tmp_path / "run/runtime-runc/remapped") not in engines.places("docker")


@pytest.mark.parametrize(
    ("annotations", "engine"),
    [
        ({"io.container.manager": "libpod"}, "podman"),
        ({"io.podman.annotations.autoremove": "FALSE"}, "podman"),
        ({"io.container.manager": "cri-o"}, "cri-o"),
        ({"io.kubernetes.cri-o.ContainerType": "container"}, "cri-o"),
        ({}, ""),
    ],
)
def test_the_engine_of_a_container(annotations: dict[str, str], engine: str) -> None:
    assert engines._manager(annotations) == engine


def test_places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runtime-runc", "runtime-pyrunc", "netns"):
        (tmp_path / "docker" / name / "moby").mkdir(parents=True)
    (tmp_path / "containerd/k8s.io").mkdir(parents=True)
    monkeypatch.setattr(engines, "DOCKER", str(tmp_path / "docker"))
    monkeypatch.setattr(engines, "CONTAINERD", str(tmp_path / "containerd"))
    assert engines.places("docker") == [str(tmp_path / "docker" / name / "moby") for name in ("runtime-pyrunc", "runtime-runc")]
    assert engines.places("containerd") == [str(tmp_path / "containerd/k8s.io")]
    assert "/run/pyrunc" in engines.places("podman")


def test_what_cannot_be_read_is_skipped(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CONTAINERD", str(tmp_path))
    (tmp_path / "ns/one").mkdir(parents=True)
    (tmp_path / "ns/one/state.json").write_text("{")
    (tmp_path / "ns").chmod(0o700)
    tmp_path.chmod(0o700)
    assert engines.containers("containerd") == []


@pytest.mark.parametrize("ended", [False, True])
def test_a_container_of_crun(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    monkeypatch.setattr(engines, "CONTAINERD", str(tmp_path))
    tmp_path.chmod(0o700)
    folder = tmp_path / "ns/one"
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "ns").chmod(0o700)
    pid = PID_MAX if ended else os.getpid()  # no process has the pid PID_MAX
    (folder / "status").write_text(json.dumps({"pid": pid, "bundle": "/b", "rootfs": "/b/rootfs"}))
    found = engines._foreign("containerd", str(tmp_path / "ns"), "one")
    assert found is not None
    assert (found[0]["runtime"], found[0]["status"]) == ("crun", "stopped" if ended else "running")
