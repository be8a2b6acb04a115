"""Finds the containers of engines: Docker, podman, containerd and CRI-O. Only reads, and tolerates unexpected data.

Where engines keep the state of a runtime's containers:
- Docker: --root /run/docker/runtime-NAME/moby; since Docker 23 one directory, runtime-runc, for every runtime that is called like runc.
  /run/docker is daemon.json's exec-root, or $XDG_RUNTIME_DIR/docker of a user; moby is the name of a containerd namespace.
- containerd, and so Kubernetes' CRI: --root /run/containerd/runc/NAMESPACE.
- podman and CRI-O: the runtime's own default, unless runtime_root is set. Their containers are recognised by their annotations.
Names are in annotations (CRI), or in the engine's own files (Docker, podman).
"""

from __future__ import annotations

import posix

from pyrunc import fileio, jsonio, store
from pyrunc.engine import status
from pyrunc.errors import PyruncError, StateError
from pyrunc.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypedDict

    from pyrunc.parts.sides import Json

    class Found(TypedDict):
        """A container of an engine."""

        engine: str
        runtime: str  # the runtime that created it: pyrunc, runc, crun or unknown
        root: str  # --root of the runtime
        id: str
        name: str | None  # in the engine
        pod: str | None  # NAMESPACE/NAME
        status: str
        pid: int
        bundle: str | None


ENGINES = ("docker", "podman", "containerd", "cri-o")
DOCKER, CONTAINERD = "/run/docker", "/run/containerd/runc"
DOCKER_CONFIG = "/etc/docker/daemon.json"
LIMIT = 16 << 20
CRI = "io.kubernetes.cri."  # containerd's annotations; CRI-O's are io.kubernetes.cri-o. and the kubelet's labels
# of containers/storage; the second file has those of `podman run --rm`
STORED = tuple(
    "%s-containers/%scontainers.json" % (driver, kind) for driver in ("overlay", "vfs", "btrfs", "zfs") for kind in ("", "volatile-")
)
FULL_ID = 64  # length of an engine's full id: never a name, and never a prefix


def places(engine: str) -> list[str]:
    """The directories that may contain the state of an engine's containers."""
    xdg = fileio.fsdecode(posix.environ.get(b"XDG_RUNTIME_DIR", b""))
    runs = ["/run", xdg] if xdg and posix.geteuid() != 0 else ["/run"]
    if engine == "docker":
        given = _read(DOCKER_CONFIG).get("exec-root")
        homes = dict.fromkeys([str(given or DOCKER), *(run + "/docker" for run in runs)])
        runtimes = ["%s/%s" % (home, name) for home in homes for name in _names(home) if name.startswith("runtime-")]
        return ["%s/%s" % (runtime, namespace) for runtime in runtimes for namespace in _names(runtime)]
    if engine == "containerd":
        return ["%s/%s" % (CONTAINERD, name) for name in _names(CONTAINERD)]
    return ["%s/%s" % (run, name) for run in runs for name in ("pyrunc", "crun", "runc")]


def containers(engine: str) -> list[Found]:
    """The containers of one engine ("all": of every engine), sorted by root and id."""
    if engine == "all":
        return [found for one in ENGINES for found in containers(one)]
    found = []
    for root in places(engine):
        try:
            ids = store.ids(root)
        except (PyruncError, OSError):
            continue  # not the caller's
        for id in ids:
            one = _examined(engine, root, id)
            if one is not None and one["engine"] == engine:
                found.append(one)
    return found


def matching(word: str) -> list[Found]:
    """The containers whose id begins with a word, or whose name is the word; for pods also POD/NAME. A full id only matches itself."""
    found = [one for one in containers("all") if word in (one["id"], one["name"], "%s/%s" % (one["pod"], one["name"]))]
    if found or len(word) >= FULL_ID:
        return found
    return [one for one in containers("all") if one["id"].startswith(word)]


def _examined(engine: str, root: str, id: str) -> Found | None:
    """None if the directory does not contain a container."""
    try:
        state_dir = store.open_state_dir(root, id)
    except StateError:
        return None
    try:
        state_dir.load()
        state = state_dir.state
        found: Found = {
            "engine": engine, "runtime": "pyrunc", "root": root, "id": id, "name": None, "pod": None, "status": status.of(state_dir),
            "pid": state["pid"], "bundle": state["bundle"],
        }  # fmt: skip
        annotations: dict[str, str] = state.get("annotations") or {}
        rootfs = str(state.get("rootfs") or "")
    except StateError:
        other = _foreign(engine, root, id)
        if other is None:
            return None
        found, annotations, rootfs = other
    finally:
        state_dir.close()
    if engine in ("podman", "cri-o"):
        found["engine"] = _manager(annotations)
    if found["status"] == "stopped":
        found["pid"] = 0
    _name(found, annotations, rootfs)
    return found


def _foreign(engine: str, root: str, id: str) -> tuple[Found, dict[str, str], str] | None:
    """A container of runc (state.json) or crun (status)."""
    found: Found = {
        "engine": engine, "runtime": "unknown", "root": root, "id": id, "name": None, "pod": None, "status": "unknown", "pid": 0, "bundle": None,
    }  # fmt: skip
    config: dict[str, Json] = {}
    state = _read("%s/%s/state.json" % (root, id))
    if "init_process_pid" in state:
        found["runtime"], found["pid"] = "runc", int(state["init_process_pid"])
        config = state.get("config") or {}
        labels = [str(label).partition("=") for label in config.get("labels") or ()]
        annotations = {key: value for key, _, value in labels}
        found["bundle"] = annotations.get("bundle")
        rootfs = str(config.get("rootfs") or "")
        alive = str(pidfd.start_time(found["pid"], living=True)) == str(state.get("init_process_start"))
    else:
        state = _read("%s/%s/status" % (root, id))
        if "pid" not in state:
            return None
        found["runtime"], found["pid"], found["bundle"] = "crun", int(state["pid"]), state.get("bundle")
        annotations = _read("%s/%s/config.json" % (root, id)).get("annotations") or {}
        rootfs = str(state.get("rootfs") or "")
        alive = pidfd.start_time(found["pid"], living=True) != 0
    found["status"] = "running" if alive else "stopped"
    return found, annotations, rootfs


def _manager(annotations: dict[str, str]) -> str:
    """The engine that created a container in the runtime's default root; "" for none of ENGINES."""
    manager = annotations.get("io.container.manager", "")
    if manager == "libpod" or any(key.startswith("io.podman.") for key in annotations):
        return "podman"
    return "cri-o" if manager == "cri-o" or any(key.startswith("io.kubernetes.cri-o.") for key in annotations) else ""


def _name(found: Found, annotations: dict[str, str], rootfs: str) -> None:
    """Fills in name and pod."""
    kubelet = annotations.get("io.kubernetes.pod.namespace"), annotations.get("io.kubernetes.pod.name")
    pod = (annotations.get(CRI + "sandbox-namespace", kubelet[0]), annotations.get(CRI + "sandbox-name", kubelet[1]))
    if pod[1]:
        found["pod"] = "%s/%s" % pod if pod[0] else pod[1]
    kind = annotations.get(CRI + "container-type", annotations.get("io.kubernetes.cri-o.ContainerType"))
    name = annotations.get(CRI + "container-name", annotations.get("io.kubernetes.container.name"))
    if name or kind == "sandbox":
        found["name"] = name if name and name != "POD" else "(sandbox)"
    elif found["engine"] == "docker":
        places = ("containers/%s/config.v2.json" % found["id"],)
        found["name"] = next((str(one["Name"]).lstrip("/") for one in _beside(rootfs, places, "/var/lib/docker") if "Name" in one), None)
    elif found["engine"] in ("podman", "cri-o"):
        for rows in _beside(rootfs, STORED, "/var/lib/containers/storage"):
            mine = [row for row in rows if type(row) is dict and row.get("id") == found["id"]]
            if mine:
                found["name"] = next(iter(mine[0].get("names") or ()), None)
                return


def _beside(path: str, places: tuple[str, ...], usual: str) -> Iterator[Json]:
    """The documents at `places` in the directories above a path, and in the usual one."""
    homes = [path]
    while homes[-1].count("/") > 1:
        homes.append(homes[-1].rpartition("/")[0])
    for home in dict.fromkeys((*homes[1:], usual)):
        for place in places:
            found = _read("%s/%s" % (home, place))
            if found:
                yield found


def _names(folder: str) -> list[str]:
    try:
        return sorted(posix.listdir(folder))
    except OSError:
        return []


def _read(path: str) -> Json:
    """A JSON document of another program; {} if it can't be read."""
    try:
        return jsonio.loads(fileio.read_file(path, LIMIT), "JSON")
    except (OSError, PyruncError):
        return {}
