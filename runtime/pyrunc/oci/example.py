"""The config.json that `spec` writes: a shell with few privileges on a read-only root. It also works with runc.

Rootless (`spec --rootless`): a user namespace with the caller as its root, no new network namespace, no limits, and /sys as a bind mount,
because mounting sysfs requires owning the network namespace.
"""

from __future__ import annotations

from pyrunc.oci.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.jsonio import Json

CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def config(rootless: bool = False, uid: int = 0, gid: int = 0, cgroup_namespace: bool = False) -> dict[str, Json]:
    """-> the document. uid and gid: the caller's, for the rootless maps; cgroup_namespace: for hosts with cgroup v2."""
    linux: dict[str, Json] = {} if rootless else {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    kinds = ["pid"] + ([] if rootless else ["network"]) + ["ipc", "uts", "mount"]
    kinds += (["user"] if rootless else []) + (["cgroup"] if cgroup_namespace else [])
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    linux["maskedPaths"] = list(MASKED)
    linux["readonlyPaths"] = list(READONLY)
    return {
        "ociVersion": VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pyrunc",
        "mounts": _mounts(rootless),
        "linux": linux,
    }


def _process() -> dict[str, Json]:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mounts(rootless: bool) -> list[dict[str, Json]]:
    tty = [] if rootless else ["gid=5"]  # group tty is not mapped
    safe = ["nosuid", "noexec", "nodev"]
    sys = _mount("/sys", "sysfs", "sysfs", *safe, "ro")
    if rootless:
        sys = _mount("/sys", "none", "/sys", "rbind", *safe, "ro")
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *tty),
        _mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *safe),
        sys,
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *safe, "relatime", "ro"),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Json]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
