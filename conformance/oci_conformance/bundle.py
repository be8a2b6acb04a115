"""Bundles: a base configuration, changes by JSON pointer, and a root file system with a few files.

Rule: every runtime must be able to run the base configuration; a case only lists its changes.
"""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oci_conformance.probe import Tools
    from oci_conformance.shapes import Changes, Config, Json


ABSENT = object()  # as a value in changes: the property is removed
DIRECTORIES = ("bin", "dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var")
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST"
    " NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE"
    " SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND"
    " AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
PROC = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}
PTS = {
    "destination": "/dev/pts",
    "type": "devpts",
    "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
}
SHM = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}
SYS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}


def granted() -> list[str]:
    """The names of this process's capabilities: a container cannot get others."""
    with open("/proc/self/status") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith("CapPrm:"))
    return ["CAP_" + name for number, name in enumerate(CAPABILITIES) if mask >> number & 1]


def base() -> Config:
    names = granted()
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/probe"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
        },
        "mounts": copy.deepcopy([PROC, DEV, PTS, SHM, SYS]),
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


def patch(config: Config, changes: Changes) -> Config:
    """A copy of a configuration with {"/json/pointer": value} set. ABSENT removes; a last element `-`, or the list's length, appends;
    missing objects are created."""
    config = copy.deepcopy(config)
    for pointer, value in changes.items():
        keys = [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
        node = config
        for key, following in zip(keys[:-1], keys[1:], strict=True):
            if isinstance(node, list):
                node = node[int(key)]
            else:
                node = node.setdefault(key, [] if following == "-" else {})
        last = keys[-1]
        if value is ABSENT:
            node.pop(int(last) if isinstance(node, list) else last, None)
        elif isinstance(node, list):
            node.append(value) if last in ("-", str(len(node))) else node.__setitem__(int(last), value)
        else:
            node[last] = value
    return config


def difference(before: Json, after: Json, at: str = "") -> dict[str, Json]:
    """The changes with which `patch` turns `before` into `after`: {pointer: value}, ABSENT if something was removed."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [(key.replace("~", "~0").replace("/", "~1"), key) for key in [*before, *(key for key in after if key not in before)]]
        pairs = [("%s/%s" % (at, name), before.get(key, ABSENT), after.get(key, ABSENT)) for name, key in keys]
    elif isinstance(before, list) and isinstance(after, list) and len(before) <= len(after):
        pairs = [("%s/%d" % (at, n), before[n] if n < len(before) else ABSENT, value) for n, value in enumerate(after)]
    else:
        return {} if before == after else {at: after}
    found = {}
    for pointer, old, new in pairs:
        found.update(difference(old, new, pointer))
    return found


class Bundle:
    """A bundle directory: config.json and a root. `raw`: bytes for config.json, instead of the configuration."""

    def __init__(self, path: str, config: Config, tools: Tools, raw: bytes | None = None, owner: int = 0) -> None:
        self.path = path
        self.config = config
        self.raw = raw
        self.rootfs = os.path.join(path, "rootfs")
        os.makedirs(path)
        fill(self.rootfs, tools, owner)
        self.write()

    def write(self) -> None:
        with open(os.path.join(self.path, "config.json"), "wb") as file:
            file.write(self.raw if self.raw is not None else json.dumps(self.config).encode("utf-8", "surrogateescape"))

    def inside(self, path: str) -> str:
        """The path of a file in the root, on the host."""
        return os.path.join(self.rootfs, path.lstrip("/"))

    def text(self, path: str) -> str | None:
        """What a container has written to a file in its root, or None."""
        try:
            with open(self.inside(path), encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except OSError:
            return None


def fill(root: str, tools: Tools, owner: int = 0) -> None:
    """Creates a root: a few directories, /bin/probe, /bin/busybox if available, /etc/passwd. `owner`: the host id of its owner."""
    os.makedirs(root, mode=0o755, exist_ok=True)
    for name in DIRECTORIES:
        os.mkdir(os.path.join(root, name), 0o755)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    for name, source in (("probe", tools.probe), ("busybox", tools.busybox)):
        if source:
            os.link(source, os.path.join(root, "bin", name))
    with open(os.path.join(root, "etc", "passwd"), "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")
    with open(os.path.join(root, "etc", "group"), "w") as file:
        file.write("root:x:0:\ntty:x:5:\nuser:x:1000:\n")
    if owner:
        for top in ("", *DIRECTORIES, "etc/passwd", "etc/group"):
            os.chown(os.path.join(root, top), owner, owner)
