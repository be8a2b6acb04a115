"""--systemd-cgroup as uid 1000: the scope belongs to the user's own manager, over the user bus."""

import pytest

import harness
from guest import CGROUP, cgroup_of, read, shown, systemctl
from users import mapped

pytestmark = pytest.mark.vm_user
MANAGER = CGROUP / "user.slice/user-1000.slice/user@1000.service"
SYSTEMD = ("--systemd-cgroup",)
MIB = 1 << 20


@pytest.fixture
def made(rootless, make_rootless):
    """made(cgroupsPath, changes) -> (id, directory of the cgroup of init)."""

    def make(path=None, changes=None):
        place = {} if path is None else {"/linux/cgroupsPath": path}
        bundle = make_rootless({**place, **(changes or {})}, args=harness.WAIT_FOR_TERM)
        id = rootless.create(bundle, globals=SYSTEMD)
        group = cgroup_of(rootless.state(id)["pid"])
        rootless.start(id)
        return id, group

    return make


@pytest.mark.vm_short
def test_a_scope_of_the_users_manager(made, rootless, token):
    id, group = made("user.slice:vm:%s" % token)
    assert group == MANAGER / "user.slice" / ("vm-%s.scope" % token)
    unit = shown(group.name, "Delegate", "Slice", "ActiveState", user=["--user"])
    assert unit == {"Delegate": "yes", "Slice": "user.slice", "ActiveState": "active"}
    assert rootless.ok("exec", id, "cat", "/proc/self/cgroup").out == "0::/\n"
    rootless.delete(id, "--force")
    assert shown(group.name, "LoadState", user=["--user"]) == {"LoadState": "not-found"} and not group.exists()


def test_without_a_path(made):
    id, group = made()
    assert group == MANAGER / "user.slice" / ("pyrunc-%s.scope" % id)


def test_another_slice(made, token):
    _id, group = made("app.slice:vm:%s" % token)
    assert group == MANAGER / "app.slice" / ("vm-%s.scope" % token)


@pytest.mark.vm_short
def test_limits_and_update(made, rootless, token):
    resources = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 42}, "cpu": {"quota": 50000, "period": 100000, "cpus": "1"}}
    id, group = made("user.slice:vm:%s" % token, {"/linux/resources": resources, **mapped()})
    files = {"memory.max": str(64 * MIB), "pids.max": "42", "cpu.max": "50000 100000", "cpuset.cpus": "1"}
    assert {name: read(group / name) for name in files} == files
    properties = {"MemoryMax": str(64 * MIB), "TasksMax": "42", "CPUQuotaPerSecUSec": "500ms", "AllowedCPUs": "1"}
    assert shown(group.name, *properties, user=["--user"]) == properties
    rootless.ok("update", "--memory", "96m", "--pids-limit", "50", id)
    systemctl("--user", "daemon-reload")
    assert [read(group / n) for n in ("memory.max", "pids.max")] == [str(96 * MIB), "50"]


def test_properties(made, token):
    annotations = {"org.systemd.property.TimeoutStopUSec": "uint64 123000000"}
    _id, group = made("user.slice:vm:%s" % token, {"/annotations": annotations})
    assert shown(group.name, "TimeoutStopUSec", user=["--user"]) == {"TimeoutStopUSec": "2min 3s"}


def test_the_bus_is_found_in_the_runtime_directory(rootless, make_rootless, token):
    """Without DBUS_SESSION_BUS_ADDRESS; and without XDG_RUNTIME_DIR, it is found by the uid."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        rootless.env.pop(name, None)
        result = rootless.run(make_rootless({"/linux/cgroupsPath": "user.slice:vm:%s" % token}), globals=SYSTEMD)
        assert result.code == 0, result


def test_no_bus(rootless, make_rootless, token, tmp_path):
    rootless.env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=%s/none" % tmp_path
    result = rootless.run(make_rootless({"/linux/cgroupsPath": "user.slice:vm:%s" % token}), globals=SYSTEMD)
    assert result.code == 1 and "the user's systemd" in result.said and "--cgroup-manager=cgroupfs" in result.said, result


def test_pause_and_kill(made, rootless, token):
    id, group = made("user.slice:vm:%s" % token)
    rootless.ok("pause", id)
    assert rootless.status(id) == "paused" and read(group / "cgroup.freeze") == "1"
    rootless.stopped(id)
    rootless.delete(id)
    assert not group.exists()
