"""podman as root with this runtime: with its default cgroup manager, systemd, and with cgroupfs."""

import json
import re

import pytest

import guest
from guest import IMAGE, Podman, read


@pytest.fixture(params=["systemd", "cgroupfs"])
def podman(runtime, request):
    made = Podman(runtime, request.param)
    yield made
    made.clean()


def test_hello(podman):
    result = podman.once(command=["sh", "-c", "echo hello; cat /proc/self/cgroup; exit 3"])
    assert (result.code, result.out) == (3, "hello\n0::/\n"), result


@pytest.mark.vm_short("systemd")
def test_limits_and_exec(podman):
    id, _pid, group = podman.up("--memory=64m", "--pids-limit=50", "--cpus=0.5", "--cpu-shares=512", "--cpuset-cpus=1")
    place = "machine.slice/libpod-%s.scope" % id if podman.manager == "systemd" else "libpod_parent/libpod-%s" % id
    assert re.fullmatch(re.escape(place) + "(/container)?", str(group.relative_to(guest.CGROUP)))
    files = {"memory.max": "67108864", "pids.max": "50", "cpu.max": "50000 100000", "cpu.weight": "59", "cpuset.cpus": "1"}
    limited = guest.CGROUP / place
    assert {name: read(limited / name) for name in files} == files
    assert podman.ok("exec", id, "echo", "inside").out == "inside\n"
    assert podman.call("exec", id, "sh", "-c", "exit 9").code == 9
    podman.ok("rm", "--force", "--time=0", id)
    assert not limited.exists()


def test_update(podman):
    id, _pid, group = podman.up("--memory=64m")
    podman.ok("update", "--memory=128m", "--pids-limit=33", id)
    limited = next(p for p in (group, *group.parents) if id in p.name)
    assert [read(limited / n) for n in ("memory.max", "pids.max")] == ["134217728", "33"]


def test_pause_and_stop(podman):
    id, _pid, group = podman.up(command=["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"])
    podman.ok("pause", id)
    assert podman.ok("inspect", "--format", "{{.State.Status}}", id).out == "paused\n"
    podman.ok("unpause", id)
    podman.ok("stop", "--time=30", id)
    assert podman.ok("inspect", "--format", "{{.State.ExitCode}}", id).out in ("5\n", "143\n")


def test_out_of_memory(podman):
    result = podman.call(
        "run", "--network=none", "--name=oom", "--memory=32m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"
    )
    assert result.code == 137, result
    assert json.loads(podman.ok("inspect", "oom").out)[0]["State"]["OOMKilled"] is True
    podman.ok("rm", "oom")


def test_stats_and_top(podman):
    id, _pid, _group = podman.up()
    assert "PIDS" in podman.ok("stats", "--no-stream", id).out
    assert "sleep" in podman.ok("top", id, "args").out


def test_devices(podman):
    script = ["sh", "-c", "true </dev/fuse && echo read; true >>/dev/fuse && echo wrote; true"]
    result = podman.once("--device=/dev/fuse:/dev/fuse:r", command=script)
    assert result.out == "read\n", result
    assert podman.once("--privileged", command=script).out == "read\nwrote\n"


def test_apparmor_is_asked_for(podman):
    """podman loads its own profile if AppArmor is enabled."""
    result = podman.once(command=["cat", "/proc/self/attr/current"])
    assert re.fullmatch(r"containers-default-[0-9.]+ \(enforce\)\n", result.out), result


def test_user_namespace(podman):
    result = podman.once("--uidmap=0:100000:65536", command=["sh", "-c", "cat /proc/self/uid_map; cat /proc/self/cgroup"])
    assert result.out.split() == ["0", "100000", "65536", "0::/"], result


def test_volumes_and_networks(podman, tmp_path):
    (tmp_path / "in").write_text("from outside\n")
    result = podman.call("run", "--rm", "--volume=%s:/data:ro" % tmp_path, IMAGE, "sh", "-c", "cat /data/in; ls /sys/class/net")
    assert result.out.split() == ["from", "outside", "eth0", "lo"], result


def test_split_cgroups(podman):
    """conmon and the container share the cgroup of the caller: --cgroups=split, which systemd units use."""
    if podman.manager != "systemd":
        pytest.skip("podman only splits cgroups with systemd")
    argv = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--property=Delegate=yes", *podman.argv]
    out = guest.told(*argv, "run", "--rm", "--network=none", "--cgroups=split", "--cgroupns=host", IMAGE, "cat", "/proc/self/cgroup")
    assert re.search(r"system.slice/run-.*\.service/libpod-payload-", out), out


def test_systemd_mode(podman):
    """An init system in the container needs a cgroup that belongs to it."""
    script = ["sh", "-c", "mkdir /sys/fs/cgroup/init.scope && echo $$ > /sys/fs/cgroup/init.scope/cgroup.procs && cat /proc/self/cgroup"]
    assert podman.once("--systemd=always", command=script).out == "0::/init.scope\n"


def test_no_cgroups(runtime, tmp_path):
    """podman passes --cgroups=disabled to runtimes that are listed as supporting it (it reads the key without the s in its manual)."""
    able = '[engine]\nevents_logger = "file"\nruntime_supports_nocgroup = ["%s"]\n[engine.runtimes]\n"%s" = ["%s"]\n'
    conf = tmp_path / "containers.conf"
    conf.write_text(able % (runtime.name, runtime.name, runtime.path))
    podman = ["env", "CONTAINERS_CONF=%s" % conf, "podman", "--runtime", runtime.name]
    guest.told(*podman, "run", "--rm", "--network=none", "--cgroups=disabled", IMAGE, "true")
