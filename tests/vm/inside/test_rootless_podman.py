"""podman of uid 1000: the runtime is root of podman's user namespace, with the user's systemd or with delegated cgroups."""

import re

import pytest

import guest
from guest import IMAGE, Podman, read

pytestmark = pytest.mark.vm_user


@pytest.fixture(params=["systemd", "cgroupfs"])
def podman(runtime, request):
    made = Podman(runtime, request.param)
    yield made
    made.clean()


@pytest.mark.vm_short("systemd")
def test_hello(podman):
    result = podman.once(command=["sh", "-c", "echo hello; id -u; cat /proc/self/cgroup; exit 3"])
    assert (result.code, result.out) == (3, "hello\n0\n0::/\n"), result


def test_limits_and_exec(podman):
    id, _pid, group = podman.up("--memory=64m", "--pids-limit=50", "--cpus=0.5")
    limited = next(p for p in (group, *group.parents) if id in p.name)
    assert [read(limited / n) for n in ("memory.max", "pids.max", "cpu.max")] == ["67108864", "50", "50000 100000"]
    if podman.manager == "systemd":
        assert re.search("/user@1000.service/user.slice/libpod-%s.scope" % id, str(limited))
        assert guest.shown(limited.name, "MemoryMax", user=["--user"]) == {"MemoryMax": "67108864"}
    assert podman.ok("exec", id, "echo", "inside").out == "inside\n"
    assert podman.call("exec", id, "sh", "-c", "exit 9").code == 9
    podman.ok("rm", "--force", "--time=0", id)
    assert not limited.exists()


def test_update(podman):
    id, _pid, group = podman.up("--memory=64m")
    podman.ok("update", "--memory=128m", id)
    limited = next(p for p in (group, *group.parents) if id in p.name)
    assert read(limited / "memory.max") == "134217728"


def test_pause(podman):
    id, _pid, _group = podman.up()
    podman.ok("pause", id)
    assert podman.ok("inspect", "--format", "{{.State.Status}}", id).out == "paused\n"
    podman.ok("unpause", id)


def test_volume(podman, tmp_path):
    (tmp_path / "in").write_text("from outside\n")
    result = podman.once("--volume=%s:/data" % tmp_path, command=["sh", "-c", "cat /data/in; echo back >/data/out"])
    assert result.out == "from outside\n" and read(tmp_path / "out") == "back", result


@pytest.mark.parametrize("network", ["pasta", "slirp4netns", "host", "none"])
def test_networks(podman, network):
    result = podman.call("run", "--rm", "--network=" + network, IMAGE, "ls", "/sys/class/net")
    assert result.code == 0 and "lo" in result.out.split(), result
    assert (len(result.out.split()) > 1) == (network != "none"), result


def test_keep_id(podman):
    result = podman.once("--userns=keep-id", command=["sh", "-c", "id -u; cat /proc/self/uid_map | wc -l"])
    assert result.out.split() == ["1000", "3"], result


def test_systemd_mode(podman):
    script = ["sh", "-c", "mkdir /sys/fs/cgroup/init.scope && echo $$ > /sys/fs/cgroup/init.scope/cgroup.procs && cat /proc/self/cgroup"]
    assert podman.once("--systemd=always", command=script).out == "0::/init.scope\n"


def test_apparmor_and_seccomp(podman):
    result = podman.once(command=["grep", "Seccomp:", "/proc/self/status"])
    assert result.out.split() == ["Seccomp:", "2"], result


def test_pods(podman):
    podman.ok("pod", "create", "--name=p", "--network=none")
    try:
        assert podman.ok("run", "--rm", "--pod=p", IMAGE, "hostname").out == "p\n"
    finally:
        podman.ok("pod", "rm", "--force", "--time=0", "p")
