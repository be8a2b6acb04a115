"""From inside, a container looks the same as with runc: the same probe (probe.sh) with the same options finds no difference between the two.

Owns the list of intended differences, each with its reason. The tests compare ids, privileges, limits, environment, mounts with their options,
device nodes, cgroup settings, namespaces, descriptors, the session, and owners and modes of files that the runtime creates.
"""

import os
import re
import shutil

import pytest

from callers import IMAGE
from sandbox import BASE, SYSTEM_PATH

PROBE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.sh")

# Values that differ from run to run.
RANDOM = [
    (r"[0-9a-f]{64}", "ID"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"/[A-Z0-9]{26}\b", "/LAYER"),
    (r"(lowerdir|upperdir|workdir)=[^,]*", r"\1"),
    (r"(shared|master|propagate_from):\d+", r"\1"),
    (r"\b\d+:\d+ /", "/"),
    (r"(pipe|socket|cgroup|ipc|mnt|net|pid|time|user|uts):\[\d+\]", r"\1"),
    (r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "UUID"),
    (r"^(group session terminal foreground:) .*", lambda match: match[1]),
]
# Intended differences: (pattern, replacement on both sides, reason).
MEANT = [
    (
        r"^mount: (?:/null|/) (/proc/\S+|/sys/firmware|/sys/dev\S*|/sys/fs/cgroup/\S+/release_agent) \S+ .*- (?:dev)?tmpfs .*",
        r"mount: \1 masked",
        "what covers a masked path is also nosuid,nodev,noexec and read-only, and holds nothing",
    ),
    (r"^mount: / /sys/fs/cgroup r[ow],", "mount: / /sys/fs/cgroup ro,", "runc 1.1 forgets ro on the tmpfs that holds the v1 hierarchies"),
    (
        r"^mount: (/\w+) (/dev/\w+) \S+ .*- (devtmpfs|tmpfs) .*",
        r"mount: \1 \2 bound",
        "device nodes bound into a user namespace keep the flags nosuid,noexec and don't receive mounts",
    ),
    (
        r"^dev: /dev/mqueue directory 1777 0 (?:0|65534) ",
        "dev: /dev/mqueue directory 1777 0 0 ",
        "it belongs to who made the ipc namespace: here root of the user namespace by user and group, with runc by user alone",
    ),
    (r"^mount: / / rw,relatime shared ", "mount: / / rw,relatime ", "rootfsPropagation shared: runc leaves the root itself private"),
]
# What only some versions of runc do: replaced in what runc shows, not in what the runtime under test shows.
OF_OLDER_RUNC = [
    (
        r"^mount: / / (\S+) master ",
        r"mount: / / \1 ",
        "runc 1.1.5 leaves the root a slave of the host's mount, if that is shared; 1.1.15 does not",
    ),
]
BOUND = [
    (
        r"^mount: (\S+) (/sys/fs/cgroup/\S+) r[ow],(.*- cgroup cgroup )",
        r"mount: \1 \2 ro,\3",
        "runc 1.1 forgets ro on the v1 hierarchies if it has to bind them, in a user namespace",
    ),
]

OPTIONS = {
    "plain": [],
    "read-only": ["--read-only"],
    "user": ["--user=1000:1000", "--group-add=2000", "--cap-add=net_raw"],
    "capabilities": ["--cap-drop=all", "--cap-add=chown", "--security-opt=no-new-privileges"],
    "privileged": ["--privileged"],
    "limits": [
        "--memory=64m",
        "--memory-swap=96m",
        "--memory-reservation=32m",
        "--cpus=0.5",
        "--cpu-shares=300",
        "--pids-limit=40",
        "--cpuset-cpus=0",
        "--oom-score-adj=100",
    ],
    "tmpfs": ["--tmpfs=/scratch:size=3m,mode=0700", "--shm-size=2m"],
    "volumes": [f"--volume={BASE}/volume:/data:ro", f"--volume={BASE}/volume:/a/b/c", f"--volume={BASE}/volume/in:/etc/made/up"],
    "shared-volume": [f"--volume={BASE}/volume:/data:rshared"],
    "terminal": ["--tty"],
    "ulimit": ["--ulimit=nofile=512:600", "--ulimit=core=0:0", "--workdir=/tmp", "--hostname=inside"],
    "unconfined": ["--security-opt=seccomp=unconfined"],
    "device": ["--device=/dev/null:/dev/given:r", "--sysctl=kernel.shmmax=7654321"],
    "cgroup-namespace": ["--cgroupns=private"],
    "host-namespaces": ["--pid=host", "--uts=host", "--network=host"],
}
PODMAN = {
    "systemd": ["--systemd=always"],
    "umask": ["--umask=0027"],
    "unmasked": ["--security-opt=unmask=ALL"],
    "user-namespace": ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000", f"--volume={BASE}/volume:/a/b/c"],
    "user-namespace-user": ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000", "--user=1000:1000"],
}
DOCKER = {
    "host-ipc": ["--ipc=host"],
    "init": ["--init"],
}


SHORT = {"plain", "limits", "privileged", "user-namespace"}  # the cases that `make test` runs for each kind of caller


def options(names):
    """The names as parameters; all except SHORT are marked long."""
    return [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.fixture(scope="module")
def reference(runtime):
    """The path of runc."""
    path = shutil.which("runc", path=SYSTEM_PATH)
    if path is None:
        pytest.skip("not installed: runc")
    if os.path.realpath(path) == os.path.realpath(runtime):
        pytest.skip("the runtime under test is runc itself")
    return path


@pytest.fixture(scope="module")
def probe(world):
    """The options that mount the probe."""
    with open(PROBE) as file:
        world.write(f"{BASE}/probe.sh", file.read())
    world.write(f"{BASE}/volume/in", "from outside\n")
    return [f"--volume={BASE}/probe.sh:/probe.sh:ro"]


def canonical(text, meant):
    """Sorted lines without random or intended differences."""
    lines = []
    for line in text.replace("\r", "").splitlines():
        for pattern, stands_for in RANDOM:
            line = re.sub(pattern, stands_for, line)  # type: ignore[call-overload]
        for pattern, stands_for, _reason in meant:
            line = re.sub(pattern, stands_for, line)
        lines.append(line)
    return sorted(lines)


def compare(theirs, ours, also=()):
    if "unable to apply caps: operation not permitted" in theirs.err:
        pytest.skip("runc does not start it: the engine passes capabilities that this machine does not give")
    theirs = canonical(theirs.ok().out, [*MEANT, *OF_OLDER_RUNC, *also])
    ours = canonical(ours.ok().out, [*MEANT, *also])
    assert len(theirs) > 60, theirs
    only = ["- " + line for line in theirs if line not in ours] + ["+ " + line for line in ours if line not in theirs]
    if only:
        pytest.fail("runc (-) and the runtime under test (+) differ:\n" + "\n".join(only[:30]), pytrace=False)


@pytest.mark.parametrize("name", options([*OPTIONS, *PODMAN]))
def test_podman(podman, reference, probe, name):
    words = [*{**OPTIONS, **PODMAN}[name], *probe, IMAGE, "sh", "/probe.sh"]
    network = None if "--network=host" in words else "none"
    compare(*(podman.run(*words, network=network, runtime=runtime) for runtime in (reference, None)))


EXEC = {
    "plain": [],
    "user": ["--user=1000:1000"],
    "terminal": ["--tty"],
    "privileged": ["--privileged"],
    "environment": ["--env=COLOUR=blue", "--workdir=/tmp"],
}


@pytest.mark.needs_exec
@pytest.mark.parametrize("name", options(EXEC))
@pytest.mark.parametrize("kind", options(["plain", "limits", "user", "capabilities"]))
def test_podman_exec(podman, reference, probe, kind, name):
    shown = []
    for runtime in (reference, podman.runtime):
        container = podman.run("-d", *OPTIONS[kind], *probe, IMAGE, "sleep", "1000", runtime=runtime).ok().out.strip()
        try:
            shown.append(podman("exec", *EXEC[name], container, "sh", "/probe.sh"))
        finally:
            podman("rm", "--force", "--time=0", container).ok()
    compare(*shown)


REMAPPED = ["plain", "read-only", "user", "capabilities", "limits", "tmpfs", "volumes", "terminal", "ulimit"]


@pytest.mark.parametrize("name", options(REMAPPED))
def test_docker_with_a_user_namespace(remapped, reference, probe, name):
    words = [*OPTIONS[name], *probe, IMAGE, "sh", "/probe.sh"]
    compare(*(remapped.run(f"--runtime={runtime}", *words) for runtime in ("reference", "contracts")), also=BOUND)  # type: ignore[misc]


@pytest.mark.parametrize("name", options([*OPTIONS, *DOCKER]))
def test_docker(docker, reference, probe, name):
    words = [*{**OPTIONS, **DOCKER}[name], *probe, IMAGE, "sh", "/probe.sh"]
    network = None if "--network=host" in words else "none"
    compare(*(docker.run(f"--runtime={runtime}", *words, network=network) for runtime in ("reference", "contracts")))
