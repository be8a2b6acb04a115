"""`spec --profile`: a config.json for common purposes, with the reason for each of its properties.

Every profile starts from the example of `spec` and changes it. Invariant: it runs unchanged on a host that has what its reasons mention,
and `validate` reports nothing (tests run each one).
"""

from __future__ import annotations

from pyrunc.oci import example, filters_default

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeAlias

    from pyrunc.jsonio import Json

    Document: TypeAlias = dict[str, Json]  # a config.json

NAMES = ("minimal", "docker", "podman", "k8s", "rootless", "hardened")
ABOUT = {
    "minimal": "the minimum for running a program: what the specification requires, /proc and a /dev",
    "docker": "what docker gives a container: a writable root, its 14 capabilities, its filter",
    "podman": "what podman gives a container: 11 capabilities, a limit on processes, a cgroup namespace",
    "k8s": "the restricted pod security standard of Kubernetes: no root, no capabilities, limits",
    "rootless": "for an unprivileged user: a user namespace with the caller as its root",
    "hardened": "as restricted as possible: read-only, no network, no capabilities, separate ids, tight limits",
}
PODMAN = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID",
    "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip
DOCKER = (*PODMAN, "CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW")
MIB = 1 << 20


def config(name: str, uid: int = 0, gid: int = 0, cgroup_namespace: bool = False) -> tuple[Document, dict[str, str]]:
    """-> (the document, {pointer: reason})."""
    document = example.config(name == "rootless", uid, gid, cgroup_namespace)
    reasons = {
        "/process/terminal": "for an interactive shell; set it to false for a service, which then gets the caller's streams",
        "/process/args": "a shell; put the program here",
        "/root/path": "put the root file system here, next to config.json",
        "/hostname": "any name",
    }
    reasons.update(MAKERS[name](document) or {})
    return document, reasons


def _caps(document: Document, names: Iterable[str], *more: str) -> None:
    kinds = ("bounding", "effective", "permitted", *more)
    document["process"]["capabilities"] = {kind: sorted(names) for kind in kinds}


def _mount(document: Document, destination: str, kind: str, *options: str) -> None:
    document["mounts"].append({"destination": destination, "type": kind, "source": kind, "options": list(options)})


def _minimal(document: Document) -> dict[str, str]:
    process = document["process"]
    for key in ("rlimits", "noNewPrivileges"):
        del process[key]
    process["capabilities"] = {}
    document["root"].pop("readonly")
    document["mounts"] = [mount for mount in document["mounts"] if mount["destination"] in ("/proc", "/dev", "/dev/pts")]
    kept = [one for one in document["linux"]["namespaces"] if one["type"] in ("pid", "mount", "uts")]
    document["linux"] = {"namespaces": kept}
    return {
        "/process/capabilities": "none; leaving it out would mean the same, but cause a warning",
        "/linux/namespaces": "pid, so that its processes die with it; mount, which every mount needs; uts for the name; no new network",
        "/mounts": "/proc and /dev, which programs expect, and /dev/pts for the terminal",
    }


def _engine(document: Document) -> None:
    """What engines have in common: a writable root, their filter, unprivileged ping, and low ports for every user inside."""
    document["root"]["readonly"] = False
    document["process"]["rlimits"] = []
    document["process"]["noNewPrivileges"] = False
    document["linux"]["seccomp"] = filters_default.profile()
    document["linux"]["sysctl"] = {"net.ipv4.ping_group_range": "0 2147483647"}
    document["linux"]["rootfsPropagation"] = "private"


def _docker(document: Document) -> dict[str, str]:
    _engine(document)
    _caps(document, DOCKER)
    document["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] = "0"
    return {
        "/root/readonly": "images are written to; docker run --read-only sets it",
        "/process/capabilities": "docker's default list; docker run --cap-drop removes from it",
        "/process/noNewPrivileges": "docker's default: set-user-ID programs work; --security-opt no-new-privileges sets it",
        "/process/rlimits": "none: the daemon's are inherited",
        "/linux/seccomp": "docker's default: no mounts, modules, new namespaces, clocks, keys",
        "/linux/sysctl": "low ports and ping for every user inside, because the network is private",
    }


def _podman(document: Document) -> dict[str, str]:
    _engine(document)
    _caps(document, PODMAN)
    document["linux"]["resources"]["pids"] = {"limit": 2048}
    document["process"]["user"]["umask"] = 0o22
    kinds = document["linux"]["namespaces"]
    if {"type": "cgroup"} not in kinds:
        kinds.append({"type": "cgroup"})
    _mount(document, "/run", "tmpfs", "rw", "nosuid", "nodev", "mode=755", "tmpcopyup")
    return {
        "/process/capabilities": "podman's default list: docker's without MKNOD, NET_RAW and AUDIT_WRITE",
        "/linux/resources/pids/limit": "podman's default: a fork bomb stops here",
        "/linux/namespaces": "with a cgroup namespace, so that the host's paths are not visible",
        "/linux/seccomp": "podman's default allows the same calls as docker's",
        "/linux/sysctl": "ping for every group inside",
        "/mounts": "/run as a tmpfs, which systemd and many services expect",
    }


def _k8s(document: Document) -> dict[str, str]:
    _engine(document)
    _caps(document, ())
    process = document["process"]
    process.update(terminal=False, noNewPrivileges=True, oomScoreAdj=984, user={"uid": 1000, "gid": 1000, "additionalGids": [1000]})
    process["args"] = ["sh", "-c", "id; sleep 5"]
    resources = document["linux"]["resources"]
    resources["cpu"] = {"shares": 102, "quota": 50000, "period": 100000}
    resources["memory"] = {"limit": 128 * MIB}
    resources["pids"] = {"limit": 1024}
    del document["linux"]["sysctl"]
    return {
        "/process/user": "runAsNonRoot",
        "/process/capabilities": "drop: ALL",
        "/process/noNewPrivileges": "allowPrivilegeEscalation: false",
        "/process/terminal": "tty: false, as for every service",
        "/process/oomScoreAdj": "as the kubelet sets it for a pod of this request on a host of 8 GiB (burstable)",
        "/linux/seccomp": "seccompProfile: RuntimeDefault",
        "/linux/resources/cpu": "requests.cpu: 100m and limits.cpu: 500m",
        "/linux/resources/memory/limit": "limits.memory: 128Mi",
        "/linux/resources/pids/limit": "podPidsLimit",
    }


def _rootless(document: Document) -> dict[str, str]:
    document["process"]["capabilities"] = {kind: sorted(PODMAN) for kind in ("bounding", "effective", "permitted")}
    document["linux"]["seccomp"] = filters_default.profile()
    return {
        "/linux/namespaces": "user, in which the caller is root; the network is the host's, because only root can connect a new one",
        "/linux/uidMappings": "one id, the caller's: more need a line in /etc/subuid, and newuidmap",
        "/linux/gidMappings": "one id, the caller's group: more need a line in /etc/subgid, and newgidmap",
        "/mounts": "/sys as a bind mount, because a new sysfs requires owning the network namespace",
        "/process/capabilities": "they only apply inside the user namespace",
    }


def _hardened(document: Document) -> dict[str, str]:
    process, linux = document["process"], document["linux"]
    _caps(document, ())
    process["user"] = {"uid": 65534, "gid": 65534, "umask": 0o77}
    process["oomScoreAdj"] = 500
    process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "hard": 256, "soft": 256},
        {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
        {"type": "RLIMIT_MEMLOCK", "hard": 0, "soft": 0},
    ]
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    linux["uidMappings"], linux["gidMappings"] = ids, [dict(ids[0])]
    linux["namespaces"] = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")]
    linux["resources"].update(memory={"limit": 256 * MIB}, pids={"limit": 64}, cpu={"quota": 50000, "period": 100000})
    linux["seccomp"] = filters_default.profile()
    linux["rootfsPropagation"] = "private"
    linux["maskedPaths"] = [*linux["maskedPaths"], "/proc/interrupts", "/sys/devices/virtual/powercap"]
    for mount in document["mounts"]:
        if mount["destination"] == "/proc":
            mount["options"] = ["nosuid", "noexec", "nodev", "hidepid=2"]
    _mount(document, "/tmp", "tmpfs", "nosuid", "nodev", "noexec", "mode=1777", "size=16m")
    return {
        "/root/readonly": "nothing of the image can be changed; /tmp is for files",
        "/process/user": "nobody, and new files that only nobody can read",
        "/process/capabilities": "none",
        "/process/noNewPrivileges": "set-user-ID programs in the image grant nothing",
        "/process/rlimits": "few descriptors, no core files, no locked memory",
        "/process/oomScoreAdj": "killed before more important processes",
        "/linux/namespaces": "all new; the network has only a loopback device",
        "/linux/uidMappings": "ids that no user on the host has, from 100000; they must be able to read the root file system",
        "/linux/gidMappings": "groups that nobody on the host is in",
        "/linux/resources": "a quarter of a GiB, 64 tasks, half a CPU",
        "/linux/seccomp": "the engines' default profile",
        "/linux/maskedPaths": "including interrupt and power data, which reveal the activity of others",
        "/mounts": "a /proc that shows only the user's own processes, and a noexec /tmp",
    }


MAKERS = {"minimal": _minimal, "docker": _docker, "podman": _podman, "k8s": _k8s, "rootless": _rootless, "hardened": _hardened}


def explain(document: Document, reasons: Mapping[str, str]) -> list[dict[str, Json]]:
    """[{"pointer", "value", "what", "why"}]: each property with a value, in document order."""
    from pyrunc.errors import escape_pointer
    from pyrunc.oci import glossary

    found = []
    pending = [("", document)]
    while pending:
        pointer, value = pending.pop()
        deeper = (
            isinstance(value, dict)
            and value
            and pointer.count("/") < (4 if pointer.startswith("/linux/resources") else 3)
            and not pointer.startswith(("/linux/seccomp", "/process/capabilities"))
        )
        if pointer and (not deeper or pointer in reasons):
            known = glossary.canonical(pointer)
            found.append(
                {"pointer": pointer, "value": value, "what": glossary.words(known[0])[0] if known else "", "why": reasons.get(pointer)}
            )
        if deeper:
            pending += [(pointer + "/" + escape_pointer(key), item) for key, item in reversed(value.items())]
    return found
