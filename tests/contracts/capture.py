"""Records what real callers send to a runtime, and stores it without traces of this machine: tests/fixtures/captured/.

    python tests/contracts/capture.py [runtime]        as root, with the callers' packages installed; default runc

Owns the wrapper that is installed as the runtime, and the rules that make recordings reproducible; the recorded cases are in
capture_cases.py.
    CALLER-CASE.json            config.json as it was at create, run or restore
    CALLER-CASE-by-hand.json    a recording with changes by hand, for cases that this setup can't make callers send (by_hand)
    processes/, resources/      process documents of exec, resources of update
    argv.txt                    the command lines, shell-quoted, each one once (with all ids replaced by the same one)
    calls.jsonl                 one object for each kind of call: caller, case, argv, names in the environment, cwd, descriptors
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import callers
import capture_cases as cases
import cri as api
import images
from sandbox import BASE, Sandbox

if TYPE_CHECKING:
    from harness import Json


HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(os.path.dirname(HERE), "fixtures", "captured")

WRAPPER = """\
#!/usr/bin/python3 -IS
import json, os, sys
fds = {}
for name in sorted(os.listdir("/proc/self/fd"), key=int):
    try:
        fds[name] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass
argv, files = sys.argv[1:], {}
def value(*options):
    for at, word in enumerate(argv):
        if word in options:
            return argv[at + 1]
        for option in options:
            if word.startswith(option + "="):
                return word[len(option) + 1:]
words = [word for word in argv if word in ("create", "run", "restore", "exec", "update")]
if words and words[0] in ("create", "run", "restore"):
    files["config"] = (value("--bundle", "-b") or ".") + "/config.json"
if words and words[0] == "exec":
    files["process"] = value("--process", "-p")
if words and words[0] == "update":
    files["resources"] = value("--resources", "-r")
with open("/proc/self/environ", "rb") as file:  # os.environ contains additions of Python's
    names = sorted(item.split(b"=")[0].decode() for item in file.read().split(b"\\0") if item)
record = {"argv": argv, "env": names, "cwd": os.getcwd(), "fds": fds, "files": {}}
for kind, path in files.items():
    if path == "-":
        body = sys.stdin.read()
        out, back = os.pipe()
        os.write(back, body.encode())
        os.close(back)
        os.dup2(out, 0)
        os.close(out)
    elif path:
        body = open(path).read()
    else:
        continue
    record["files"][kind] = json.loads(body)
log = os.open("LOG", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
os.write(log, (json.dumps(record) + "\\n").encode())
os.close(log)
os.execv("RUNTIME", ["RUNTIME", *argv])
"""

ONE_ID = hashlib.sha256(b"id").hexdigest()
# Replacements for the private directories of the callers: their paths on an ordinary host.
PLACES = [
    ("/podman/root", "/var/lib/containers/storage"),
    ("/podman/runroot", "/run/containers/storage"),
    ("/podman/tmpdir", "/run/libpod"),
    ("/buildah/root", "/var/lib/containers/storage"),
    ("/buildah/runroot", "/run/containers/storage"),
    ("/containerd-run", "/run/containerd"),
    ("/containerd", "/var/lib/containerd"),
    ("/docker-run", "/var/run/docker"),
    ("/docker", "/var/lib/docker"),
    ("/tmp", "/var/tmp"),
    ("/home", "/root"),
    ("", "/srv"),
]
PARENTS = {"podman": "libpod_parent", "docker": "docker", "containerd": "default", "kubernetes": "kubepods", "buildkit": "docker"}
PATTERNS = [
    (r"buildah-buildah\d+", "buildah-buildah1234567890"),
    (r"/buildah\d+", "/buildah1234567890"),
    (r"/proc/\d+/", "/proc/4242/"),
    (r"/pty\d+/", "/pty1234567890/"),
    (r"runc-process\d+", "runc-process1234567890"),
    (r"conmon-term\.\w+", "conmon-term.A1B2C3"),
    (r"/var/tmp/podman\d+", "/var/tmp/podman1234567890"),
    (r"/l/[A-Z0-9]{26}", "/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "01234567-89ab-cdef-0123-456789abcdef"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", "2025-01-01T00:00:00Z"),
    (r"(pipe|socket|net|mnt|pid|user|ipc|uts):\[\d+\]", r"\1:[1]"),
    (r"(libpod|buildah)/[0-9a-z]{20,26}", r"\1/0123456789abcdefghijklmno"),
    (r"buildkit/\w{25}", "buildkit/0123456789abcdefghijklmno"),
    (r"executor/\w{25}", "executor/0123456789abcdefghijklmno"),
    (r"\b[a-z0-9]{25}\b", "0123456789abcdefghijklmno"),
    (r"cni-[0-9a-f]+", "cni-1"),
    (r"exec-process-\d+", "exec-process-1234567890"),
]


class Neutral:
    """Replaces values that differ from run to run, always with the same placeholder."""

    def __init__(self, world: Sandbox) -> None:
        self.world = world
        self.ids: dict[str, str] = {}

    def name(self, found: str) -> str:
        """A placeholder of the same length for a hexadecimal id."""
        if found not in self.ids:
            self.ids[found] = hashlib.sha256(b"id %d" % len(self.ids)).hexdigest()[: len(found)]
        return self.ids[found]

    def text(self, text: str, caller: str) -> str:
        for place, replacement in PLACES:
            text = text.replace(BASE + place + "/", replacement + "/").replace(BASE + place + '"', replacement + '"')
        text = text.replace(BASE, "/srv").replace(self.world.cgroup, PARENTS.get(caller, "contracts"))
        text = re.sub(r"\b[0-9a-f]{64}\b", lambda match: self.name(match[0]), text)
        text = re.sub(r"\b(?:[0-9a-f]{32}|[0-9a-f]{12})\b", lambda match: self.part(match[0]), text)
        for pattern, replacement in PATTERNS:
            text = re.sub(pattern, replacement, text)
        return re.sub(rf'(HOSTNAME=|"hostname": "){re.escape(os.uname().nodename)}\b', r"\1host", text)

    def part(self, found: str) -> str:
        """A placeholder for a prefix of a known id (a host name, a machine id), or for an unrelated id."""
        for whole, name in list(self.ids.items()):
            if whole.startswith(found) or name.startswith(found):
                return name[: len(found)]
        return self.name(found)


class Recorder:
    """Turns the log of the wrapper into files, case by case."""

    def __init__(self, world: Sandbox, log: str) -> None:
        self.world, self.log, self.seen = world, log, 0
        self.calls: list[Json] = []
        self.neutral = Neutral(world)

    def case(self, caller: str, name: str) -> None:
        """Stores the recordings made since the last case as CALLER-NAME (then CALLER-NAME-2, …)."""
        callers.gone(self.world)
        lines = self.world.read(self.log).splitlines()
        fresh, self.seen = lines[self.seen :], len(lines)
        counts: dict[str, int] = {}
        for line in fresh:
            record = json.loads(self.neutral.text(line, caller))
            for kind, body in record.pop("files").items():
                counts[kind] = counts.get(kind, 0) + 1
                suffix = f"-{counts[kind]}" if counts[kind] > 1 else ""
                folder = {"config": "", "process": "processes/", "resources": "resources/"}[kind]
                save(f"{folder}{caller}-{name}{suffix}.json", body)
            self.calls.append({"caller": caller, "case": name, **record})
        print(f"{caller}-{name}: {len(fresh)} calls, {counts}")

    def finish(self) -> None:
        lines: dict[str, None] = {}  # ordered, without duplicates
        calls: dict[str, Json] = {}
        for call in self.calls:
            alike = {**call, "argv": [re.sub(r"[0-9a-f]{64}", ONE_ID, word) for word in call["argv"]], "cwd": ""}
            lines[shlex.join(alike["argv"])] = None
            calls.setdefault(json.dumps({**alike, "case": "", "argv": [re.sub(r"ctr-\w+", "", word) for word in alike["argv"]]}), call)
        with open(os.path.join(TARGET, "calls.jsonl"), "w") as file:
            file.writelines(json.dumps(call) + "\n" for call in calls.values())
        with open(os.path.join(TARGET, "argv.txt"), "w") as file:
            file.writelines(line + "\n" for line in lines)


def by_hand() -> None:
    """Recorded configs with values from the sources of the callers, for cases that need systemd, a kubelet, or a newer caller."""
    kubelet = "kubepods-besteffort-pod01234567_89ab.slice"

    def kubernetes_systemd(config: Json) -> None:
        config["linux"]["cgroupsPath"] = f"{kubelet}:cri-containerd:{ONE_ID}"
        config["annotations"]["org.systemd.property.TimeoutStopUSec"] = "uint64 10000000"
        config["annotations"]["org.systemd.property.CollectMode"] = "'inactive-or-failed'"
        config["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 0}]

    def kubernetes_userns(config: Json) -> None:
        mapping = [{"containerID": 0, "hostID": 65536, "size": 65536}]
        config["linux"]["namespaces"].append({"type": "user", "path": "/proc/4242/ns/user"})
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = mapping
        config["mounts"].append(
            {
                "destination": "/idmapped",
                "type": "bind",
                "source": "/srv/volume",
                "options": ["rbind", "rprivate", "rro"],
                "uidMappings": mapping,
                "gidMappings": mapping,
            }
        )

    def crio(config: Json) -> None:
        paths = {"network": "netns", "ipc": "ipcns", "uts": "utsns"}
        uuid = "01234567-89ab-cdef-0123-456789abcdef"
        config["linux"]["namespaces"] = [{"type": kind, "path": f"/var/run/{name}/{uuid}"} for kind, name in paths.items()] + [
            {"type": "pid"},
            {"type": "mount"},
        ]
        config["linux"]["cgroupsPath"] = f"{kubelet}:crio:{ONE_ID}"
        config["annotations"] = {
            "io.kubernetes.cri-o.Annotations": json.dumps({"checksum": "0" * 64, "restartCount": "0"}),
            "io.kubernetes.cri-o.Volumes": json.dumps([{"container_path": f"/data/{n}", "host_path": "/srv/volume"} for n in range(40)]),
            "io.kubernetes.cri-o.TTY": "false",
        }

    def docker_29(config: Json) -> None:
        config["linux"]["namespaces"] += [{"type": "time"}, {"type": "cgroup"}]
        config.pop("hooks", None)
        config["linux"]["maskedPaths"] += [f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(128)]

    def podman_systemd_cgroups(config: Json) -> None:
        config["linux"]["cgroupsPath"] = f"machine.slice:libpod:{ONE_ID}"
        config["annotations"]["org.systemd.property.KillSignal"] = "15"
        config["annotations"]["org.systemd.property.TimeoutStopUSec"] = "uint64 10000000"

    def podman_rootless(config: Json) -> None:
        config["linux"].pop("cgroupsPath", None)
        config["linux"]["resources"] = {}
        for mount in config["mounts"]:
            if mount["destination"] == "/dev/pts":
                mount["options"].remove("gid=5")
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] not in ("/sys", "/dev/mqueue")]
        config["mounts"].append(
            {
                "destination": "/sys",
                "type": "bind",
                "source": "/sys",
                "options": ["rprivate", "nosuid", "noexec", "nodev", "ro", "rbind"],
            }
        )

    for source, target, change in (
        ("kubernetes-pod-2", "kubernetes-systemd", kubernetes_systemd),
        ("kubernetes-pod-2", "kubernetes-userns", kubernetes_userns),
        ("kubernetes-pod-2", "crio-container", crio),
        ("docker-plain", "docker-newer", docker_29),
        ("podman-plain", "podman-systemd-cgroups", podman_systemd_cgroups),
        ("podman-plain", "podman-rootless", podman_rootless),
    ):
        with open(os.path.join(TARGET, f"{source}.json")) as file:
            config = json.load(file)
        change(config)
        save(f"{target}-by-hand.json", config)


def save(name: str, body: Json) -> None:
    path = os.path.join(TARGET, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(body, file, indent=1, ensure_ascii=False)
        file.write("\n")


def main() -> None:
    real = shutil.which(sys.argv[1] if len(sys.argv) > 1 else "runc") or sys.exit("capture: no such runtime")
    shutil.rmtree(TARGET, ignore_errors=True)
    world = Sandbox(keep=[os.path.dirname(os.path.dirname(HERE))])
    try:
        log, wrapper = f"{BASE}/calls", f"{BASE}/wrapper/runc"
        world.write(wrapper, WRAPPER.replace("LOG", log).replace("RUNTIME", real), 0o755)
        world.write(f"{BASE}/volume/in", "x\n")
        layer = images.rootfs_tar()
        recorder = Recorder(world, log)
        podman = callers.Podman(world, wrapper, layer)
        cases.podman_cases(podman, lambda name: recorder.case("podman", name))
        containerd = callers.Containerd(world, wrapper, layer)
        cases.containerd_cases(containerd, lambda name: recorder.case("containerd", name))
        cases.kubernetes_cases(api.Cri(containerd), lambda name: recorder.case("kubernetes", name))
        docker = callers.Docker(world, wrapper, layer)
        recorder.case("docker", "daemon-start")
        cases.docker_cases(docker, lambda name: recorder.case("docker", name))
        cases.buildkit_cases(docker, lambda name: recorder.case("buildkit", name))
        cases.buildah_cases(callers.Buildah(world, wrapper, layer), lambda name: recorder.case("buildah", name))
        recorder.finish()
        by_hand()
        for name in reversed(list(world.daemons)):
            world.stop_daemon(name)
    finally:
        world.close()


if __name__ == "__main__":
    main()
