"""--systemd-cgroup as root: names, properties, the end of the unit, and that systemd and the cgroup files agree."""

import json
import socket
import subprocess

import pytest

import guest
import harness
from guest import CGROUP, read, shown, systemctl

MIB = 1 << 20
SYSTEMD = ("--systemd-cgroup",)


@pytest.fixture
def made(runtime, make_bundle, no_leaks):
    """made(cgroupsPath, changes, args) -> (id, directory of the cgroup of init) of a running container; None: no cgroupsPath."""

    def make(path, changes=None, args=harness.WAIT_FOR_TERM):
        place = harness.ABSENT if path is None else path
        bundle = make_bundle({"/linux/cgroupsPath": "placeholder", **(changes or {})}, args=args)
        bundle.patch({"/linux/cgroupsPath": place})
        id = runtime.create(bundle, globals=SYSTEMD)
        group = guest.cgroup_of(runtime.state(id)["pid"])  # read before the program can exit
        runtime.start(id)
        return id, group

    yield make
    runtime.clean()


@pytest.fixture
def refused(runtime, make_bundle, no_leaks):
    """refused(cgroupsPath, changes, options) -> Result of a create that fails, after which nothing is left."""

    def make(path, changes=None, *options):
        bundle = make_bundle({"/linux/cgroupsPath": path, **(changes or {})})
        result = runtime.call("create", "--bundle", bundle, runtime.new_id(), globals=[*SYSTEMD, *options])
        assert result.code == 1, result
        return result

    return make


def is_known(unit):
    return shown(unit, "LoadState", "ActiveState") != {"LoadState": "not-found", "ActiveState": "inactive"}


# ---- names


@pytest.mark.vm_short
def test_slice_prefix_name(made, token, runtime):
    id, group = made("system.slice:vm:%s" % token)
    assert group == CGROUP / "system.slice" / ("vm-%s.scope" % token)
    unit = shown(group.name, "Delegate", "Slice", "ActiveState", "DefaultDependencies", "TasksAccounting", "Description")
    assert unit == {
        "Delegate": "yes",
        "Slice": "system.slice",
        "ActiveState": "active",
        "DefaultDependencies": "no",
        "TasksAccounting": "yes",
        "Description": "pyrunc container " + id,
    }
    runtime.delete(id, "--force")
    assert not is_known(group.name) and not group.exists()


def test_without_a_path(made):
    id, group = made(None)
    assert group == CGROUP / "system.slice" / ("pyrunc-%s.scope" % id)


def test_nested_slices(made, runtime, token):
    id, group = made("%s-a-b.slice:vm:x" % token)
    assert group == CGROUP / ("%s.slice/%s-a.slice/%s-a-b.slice/vm-x.scope" % (token, token, token))
    runtime.delete(id, "--force")
    systemctl("stop", "%s.slice" % token)  # slices stay, because nobody knows who uses them


@pytest.mark.parametrize(
    ("path", "place"),
    [(":vm:%s", "system.slice/vm-%s.scope"), ("system.slice::%s", "system.slice/%s.scope"), ("-.slice:vm:%s", "vm-%s.scope")],
)
def test_empty_parts(made, token, path, place):
    _id, group = made(path % token)
    assert group == CGROUP / (place % token)


def test_a_name_that_needs_escaping(made, token):
    _id, group = made("system.slice:vm:%s ä" % token)
    assert group.name == "vm-%s\\x20\\xc3\\xa4.scope" % token and shown(group.name, "ActiveState") == {"ActiveState": "active"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absolute/path", 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups'),
        ("a:b", "slice:prefix:name"),
        ("a:b:c:d", "slice:prefix:name"),
        ("nothing:vm:x", "invalid slice name"),
        ("a--b.slice:vm:x", "invalid slice name"),
        ("-a.slice:vm:x", "invalid slice name"),
        ("system.slice:vm:a/b", "slash"),
    ],
)
def test_invalid_paths(refused, path, words):
    assert words in refused(path).said


def test_a_slice_contains_no_process(refused, token):
    assert "slice" in refused("system.slice:vm:%s.slice" % token).said


# ---- properties


@pytest.mark.vm_short
def test_properties_by_annotation(made, token):
    annotations = {
        "org.systemd.property.TimeoutStopUSec": "uint64 123000000",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.After": "['network.target', 'time-sync.target']",
        "org.systemd.property.SendSIGHUP": "true",
        "org.systemd.property.RuntimeMaxSec": "900",
        "other.key": "uint64",
    }
    _id, group = made("system.slice:vm:%s" % token, {"/annotations": annotations})
    unit = shown(group.name, "TimeoutStopUSec", "CollectMode", "After", "SendSIGHUP", "RuntimeMaxUSec")
    assert {"network.target", "time-sync.target"} <= set(unit.pop("After").split())
    assert unit == {"TimeoutStopUSec": "2min 3s", "CollectMode": "inactive-or-failed", "SendSIGHUP": "yes", "RuntimeMaxUSec": "15min"}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("CollectMode", "inactive"),
        ("TimeoutStopUSec", "uint64 x"),
        ("X", "true"),
        ("Two.Words", "true"),
        ("NoSuchProperty", "true"),
        ("Slice", "uint64 5"),
    ],
)
def test_invalid_properties(refused, token, key, text):
    name = "org.systemd.property." + key
    result = refused("system.slice:vm:%s" % token, {"/annotations": {name: text}}, "--allow-annotation-paths")
    assert key in result.said, result


def test_they_are_ignored_without_systemd(runtime, make_bundle, no_leaks):
    bundle = make_bundle({"/annotations": {"org.systemd.property.X": "rubbish"}})
    assert runtime.run(bundle).code == 0


LIMITS = {
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
    "cpu": {"shares": 512, "quota": 50500, "period": 100000, "cpus": "1", "mems": "0"},
    "pids": {"limit": 42},
    "unified": {"memory.high": str(48 * MIB), "memory.min": str(8 * MIB)},
}
PROPERTIES = {
    "MemoryMax": str(64 * MIB), "MemoryLow": str(32 * MIB), "MemorySwapMax": str(32 * MIB), "MemoryHigh": str(48 * MIB),
    "MemoryMin": str(8 * MIB), "CPUWeight": "59", "CPUQuotaPerSecUSec": "510ms", "CPUQuotaPeriodUSec": "100ms", "AllowedCPUs": "1",
    "AllowedMemoryNodes": "0", "TasksMax": "42",
}  # fmt: skip
FILES = {
    "memory.max": str(64 * MIB), "memory.low": str(32 * MIB), "memory.swap.max": str(32 * MIB), "memory.high": str(48 * MIB),
    "memory.min": str(8 * MIB), "cpu.weight": "59", "cpu.max": "51000 100000", "cpuset.cpus": "1", "cpuset.mems": "0", "pids.max": "42",
}  # fmt: skip


@pytest.mark.vm_short
def test_limits_are_properties(made, token):
    _id, group = made("system.slice:vm:%s" % token, {"/linux/resources": LIMITS})
    assert shown(group.name, *PROPERTIES) == PROPERTIES
    assert {name: read(group / name) for name in FILES} == FILES
    systemctl("daemon-reload")
    assert {name: read(group / name) for name in FILES} == FILES


@pytest.mark.vm_short
def test_update_changes_both(made, runtime, token):
    id, group = made("system.slice:vm:%s" % token, {"/linux/resources": LIMITS})
    text = json.dumps({"memory": {"limit": 80 * MIB, "swap": 80 * MIB}, "cpu": {"quota": 20000}, "pids": {"limit": 50}})
    runtime.ok("update", "--resources", "-", id, text=text)
    properties = {"MemoryMax": str(80 * MIB), "MemorySwapMax": "0", "CPUQuotaPerSecUSec": "200ms", "TasksMax": "50"}
    files = {**FILES, "memory.max": str(80 * MIB), "memory.swap.max": "0", "cpu.max": "20000 100000", "pids.max": "50"}
    for _ in range(2):
        assert shown(group.name, *properties) == properties
        assert {name: read(group / name) for name in files} == files
        systemctl("daemon-reload")


def test_update_to_no_limit(made, runtime, token):
    id, group = made("system.slice:vm:%s" % token, {"/linux/resources": LIMITS})
    runtime.ok("update", "--memory", "-1", "--memory-swap", "-1", "--cpu-quota", "-1", "--pids-limit", "-1", id)
    for _ in range(2):
        assert [read(group / n) for n in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")] == ["max", "max", "max 100000", "max"]
        systemctl("daemon-reload")


def test_a_device_list_is_a_property(made, token):
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    _id, group = made("system.slice:vm:%s" % token, {"/linux/resources": {"devices": rules}})
    lines = systemctl("show", "--property=DevicePolicy,DeviceAllow", group.name).splitlines()
    assert {"DevicePolicy=strict", "DeviceAllow=/dev/char/10:229 rw", "DeviceAllow=/dev/char/1:3 rwm"} <= set(lines), lines


@pytest.mark.parametrize(("group", "policy"), [("1", "kill"), ("0", "continue")])
def test_oom_policy(made, token, group, policy):
    _id, folder = made("system.slice:vm:%s" % token, {"/linux/resources": {"unified": {"memory.oom.group": group}}})
    assert shown(folder.name, "OOMPolicy") == {"OOMPolicy": policy} and read(folder / "memory.oom.group") == group


# ---- the end of the unit


def test_the_unit_is_gone_after_the_program(made, runtime, token):
    id, group = made("system.slice:vm:%s" % token)
    runtime.stopped(id)
    runtime.delete(id)
    assert not is_known(group.name)


@pytest.mark.vm_short
def test_a_failed_unit_is_forgotten(runtime, made, token):
    """A scope whose process is killed for lack of memory fails, and systemd keeps failed units, so their names can't be used again."""
    for _ in range(2):
        memory = {"/linux/resources": {"memory": {"limit": 32 * MIB}}}
        script = ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M count=1; exit 0"]
        id, group = made("system.slice:vm:%s" % token, memory, script)
        runtime.stopped(id, None)
        unit = "vm-%s.scope" % token
        guest.until(lambda unit=unit: shown(unit, "ActiveState")["ActiveState"] in ("failed", "inactive"), "the scope's end")  # type: ignore[misc]
        runtime.delete(id)
        assert not is_known(unit)


def test_a_failed_unit_of_that_name(made, token):
    unit = "vm-%s.scope" % token
    leave_failed(unit)
    assert shown(unit, "ActiveState") == {"ActiveState": "failed"}
    _id, group = made("system.slice:vm:%s" % token)
    assert group.name == unit and shown(unit, "ActiveState") == {"ActiveState": "active"}


def leave_failed(unit):
    """A scope that did not end in time has failed."""
    argv = ["systemd-run", "--quiet", "--scope", "--unit=" + unit, "--property=RuntimeMaxSec=1", "--property=TimeoutStopSec=1"]
    guest.told(*argv, "sh", "-c", "trap '' TERM; sleep 1000", check=False)


def test_a_living_unit_of_that_name(refused, token):
    """It belongs to someone else: it is named and left alone."""
    unit = "vm-%s.scope" % token
    argv = ["systemd-run", "--quiet", "--scope", "--unit=" + unit, "sleep", "1000"]
    other = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        guest.until(lambda: shown(unit, "ActiveState")["ActiveState"] == "active", "the other's scope")
        result = refused("system.slice:vm:%s" % token)
        assert "not empty" in result.said or unit in result.said, result
        assert other.poll() is None and shown(unit, "ActiveState") == {"ActiveState": "active"}
    finally:
        other.kill()
        other.wait()


def test_stopped_by_systemd(made, runtime, token):
    id, group = made("system.slice:vm:%s" % token)
    pid = runtime.state(id)["pid"]
    with harness.Watched(pid) as init:
        systemctl("stop", group.name)
        init.wait()
    assert runtime.status(id) == "stopped"
    runtime.delete(id)
    assert not is_known(group.name)


def test_the_same_name_again_and_again(made, runtime, token):
    """The same name again and again: systemd may lag behind, but must not cause a failure."""
    for _ in range(10):
        id, group = made("system.slice:vm:%s" % token)
        runtime.delete(id, "--force")
        assert not is_known(group.name)


def test_commands_need_no_flag(made, runtime, token):
    """The driver is remembered: podman's kill and delete and containerd's delete do not name it."""
    id, group = made("system.slice:vm:%s" % token)
    runtime.ok("pause", id)
    assert read(group / "cgroup.freeze") == "1" and runtime.status(id) == "paused"
    runtime.ok("resume", id)
    assert runtime.ok("exec", id, "cat", "/proc/self/cgroup").out.strip().endswith(group.name)
    runtime.delete(id, "--force")
    assert not is_known(group.name)


def test_an_unreachable_manager(runtime, make_bundle, token, no_leaks):
    """Without a bus or a private socket, the error says so, and how to avoid it."""
    bundle = make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token})
    hidden = 'mount -t tmpfs none /run/dbus && mount -t tmpfs none /run/systemd && exec "$@"'
    argv = runtime.argv("run", "--bundle", bundle, runtime.new_id(), globals=SYSTEMD)
    done = subprocess.run(["unshare", "-m", "sh", "-c", hidden, "sh", *argv], capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.returncode == 1 and "systemd" in done.stderr and "--cgroup-manager=cgroupfs" in done.stderr, done


@pytest.mark.parametrize("text, shown", [("500ms", "0.5"), ("1s", "1")])
def test_a_manager_that_does_not_answer(runtime, make_bundle, token, no_leaks, tmp_path, text, shown):
    """The bus accepts the connection and does not answer: after the time in --systemd-timeout there is an error, which names the unit."""
    bundle = make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token})
    hidden = 'mount --bind "$1" /run/dbus/system_bus_socket && mount -t tmpfs none /run/systemd && shift && exec "$@"'
    argv = runtime.argv("run", "--bundle", bundle, runtime.new_id(), globals=[*SYSTEMD, "--systemd-timeout", text])
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "bus"))
        silent.listen()
        words = ["unshare", "-m", "sh", "-c", hidden, "sh", str(tmp_path / "bus"), *argv]
        done = subprocess.run(words, capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
    assert "systemd did not answer within %s s about the unit vm-%s.scope" % (shown, token) in done.stderr, done
