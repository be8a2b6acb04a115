"""uid 1000 in its user manager, which delegates cgroups: `spec --rootless`, life cycle, ids, mounts, devices, limits."""

import json
import os
import pathlib
import stat

import pytest

import guest
import harness
from guest import read
from harness import ABSENT
from users import SUBORDINATE, mapped

pytestmark = pytest.mark.vm_user
MIB = 1 << 20


@pytest.mark.vm_short
def test_what_spec_writes_runs(rootless, make_rootless):
    result = rootless.run(
        make_rootless({"/process/args": ["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups /proc/self/cgroup"]})
    )
    assert result.out.split() == ["0", "0", "1000", "1", "deny", "0::/"], result


@pytest.mark.vm_short
def test_life(rootless, make_rootless):
    bundle = make_rootless(args=harness.WAIT_FOR_TERM)
    id = rootless.create(bundle)
    state = rootless.state(id)
    assert state["status"] == "created" and os.stat("/proc/%d" % state["pid"]).st_uid == 1000
    rootless.start(id)
    assert rootless.ok("exec", id, "sh", "-c", "id -u; cat /proc/self/cgroup").out == "0\n0::/\n"
    assert rootless.call("exec", id, "sh", "-c", "exit 9").code == 9
    assert "sleep" in rootless.ok("ps", id).out
    rootless.ok("pause", id)
    assert rootless.status(id) == "paused"
    rootless.ok("resume", id)
    rootless.stopped(id, "TERM")
    rootless.delete(id)
    assert rootless.call("state", id).code == 1


def test_the_default_state_root(rootless, make_rootless):
    """Below XDG_RUNTIME_DIR, with the sticky bit: otherwise systemd-tmpfiles would remove it."""
    id = rootless.new_id()
    made = harness.Runtime(rootless.path, "/run/user/1000/pyrunc", rootless.token, None)
    made.env = rootless.env
    assert made.call("create", "--bundle", make_rootless(), id, raw=True).code == 0
    info = os.stat("/run/user/1000/pyrunc")
    assert info.st_mode & 0o7777 == 0o1700 and id in os.listdir("/run/user/1000/pyrunc")
    assert made.call("delete", "--force", id, raw=True).code == 0
    result = made.call("state", id, raw=True, env={"PATH": "/usr/bin"})
    assert result.code == 1 and "XDG_RUNTIME_DIR" in result.err


# ---- ids


@pytest.mark.vm_short
def test_subordinate_ids(rootless, make_rootless):
    script = "touch /made; chown 5:7 /made; stat -c %u:%g /made; cat /proc/self/uid_map; cat /proc/self/setgroups"
    bundle = make_rootless({**mapped(), "/root/readonly": False}, args=["sh", "-c", script], caps=["CAP_CHOWN"])
    result = rootless.run(bundle)
    assert result.out.split() == ["5:7", "0", "1000", "1", "1", "100000", "65536", "allow"], result
    info = os.stat(bundle.rootfs / "made")
    assert (info.st_uid, info.st_gid) == (SUBORDINATE + 4, SUBORDINATE + 6)


def test_another_user_inside(rootless, make_rootless):
    result = rootless.run(make_rootless({**mapped(), "/process/user": {"uid": 33, "gid": 44}}, args=["sh", "-c", "id -u; id -g"]))
    assert result.out == "33\n44\n", result


def test_ids_that_do_not_belong_to_the_user(rootless, make_rootless):
    maps = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 500000, "size": 10}]
    result = rootless.run(make_rootless({"/linux/uidMappings": maps}))
    assert result.code == 1 and "/usr/bin/newuidmap" in result.said and "/etc/subuid" in result.said, result


def test_a_user_without_a_map(rootless, make_rootless):
    result = rootless.run(make_rootless({"/process/user": {"uid": 5, "gid": 0}}))
    assert result.code == 1 and "unmapped uid 5" in result.said


def test_additional_groups_are_refused(rootless, make_rootless):
    result = rootless.run(make_rootless({"/process/user/additionalGids": [0]}))
    assert result.code == 1 and "cannot set any additional groups in a rootless container" in result.said, result


def test_without_a_user_namespace(rootless, make_rootless):
    kinds = [{"type": t} for t in ("pid", "ipc", "uts", "mount")]
    changes = {"/linux/namespaces": kinds, "/linux/uidMappings": ABSENT, "/linux/gidMappings": ABSENT}
    result = rootless.run(make_rootless(changes))
    assert result.code == 1 and "rootless container requires user namespaces" in result.said


# ---- mounts and devices


def test_mounts(rootless, make_rootless, tmp_path):
    (tmp_path / "in").write_text("from outside\n")
    changes = {
        "/mounts/-": {"destination": "/data", "type": "bind", "source": str(tmp_path), "options": ["bind", "ro"]},
        "/linux/namespaces/-": {"type": "network"},
    }
    script = "cat /data/in; touch /data/x; grep -c ' /proc ' /proc/mounts; echo x >/dev/shm/y; cat /dev/shm/y"
    result = rootless.run(make_rootless(changes, args=["sh", "-c", script]))
    assert result.out.splitlines() == ["from outside", "1", "x"] and "Read-only file system" in result.err, result


def test_sysfs_with_a_new_network_namespace(rootless, make_rootless):
    changes = {"/linux/namespaces/-": {"type": "network"}}
    bundle = make_rootless(changes, args=["ls", "/sys/class/net"])
    for mount in bundle.config["mounts"]:
        if mount["destination"] == "/sys":
            mount.update(type="sysfs", source="sysfs", options=["nosuid", "noexec", "nodev", "ro"])
    bundle.write()
    assert rootless.run(bundle).out == "lo\n"


@pytest.mark.vm_short
def test_usual_devices_are_the_hosts(rootless, make_rootless):
    script = "echo x >/dev/null && head -c 2 /dev/zero | wc -c; for d in full random tty; do stat -c %t:%T /dev/$d; done"
    script += "; grep -c /dev/null /proc/mounts"
    result = rootless.run(make_rootless(args=["sh", "-c", script]))
    assert result.out.split() == ["2", "1:7", "1:8", "5:0", "1"], result


def test_further_devices(rootless, make_rootless):
    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    result = rootless.run(make_rootless({"/linux/devices": [fuse]}, args=["sh", "-c", "true </dev/fuse && stat -c %t:%T /dev/fuse"]))
    assert result.out == "a:e5\n", result
    result = rootless.run(make_rootless({"/linux/devices": [{**fuse, "path": "/dev/nothing", "minor": 77}]}))
    assert result.code == 1 and "/dev/nothing" in result.said, result


def test_a_terminal(rootless, make_rootless):
    import pty

    outer, inner = pty.openpty()
    bundle = make_rootless({"/process/terminal": True}, args=["sh", "-c", "tty; test -t 0 && echo terminal"])
    result = rootless.call("run", "--bundle", bundle, rootless.new_id(), stdin=inner)
    os.close(inner)
    os.close(outer)
    assert result.out.split() == ["/dev/pts/0", "terminal"], result


def test_hooks_are_the_users(rootless, make_rootless, tmp_path):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "id -u >> %s/told" % tmp_path]}
    inside = {"path": "/bin/sh", "args": ["sh", "-c", "id -u > /tmp/told"]}
    changes = {"/hooks": {"createRuntime": [hook], "poststop": [hook], "startContainer": [inside]}, "/root/readonly": False}
    result = rootless.run(make_rootless(changes, args=["cat", "/tmp/told"]))
    assert result.out == "0\n" and read(tmp_path / "told").split() == ["1000", "1000"], result


# ---- cgroups: the user manager has delegated them


@pytest.mark.vm_short
def test_limits(rootless, make_rootless):
    resources = {
        "memory": {"limit": 64 * MIB},
        "pids": {"limit": 42},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        "unified": {"memory.high": str(48 * MIB)},
    }
    id = rootless.started(make_rootless({"/linux/resources": resources}, args=harness.WAIT_FOR_TERM))
    group = guest.cgroup_of(rootless.state(id)["pid"])
    assert group == guest.cgroup_of(os.getpid()).parent / id
    files = {"memory.max": str(64 * MIB), "pids.max": "42", "cpu.weight": "59", "cpu.max": "50000 100000", "cpuset.cpus": "0"}
    assert {name: read(group / name) for name in files} == files and read(group / "memory.high") == str(48 * MIB)
    rootless.ok("update", "--memory", "96m", id)
    assert read(group / "memory.max") == str(96 * MIB)
    data = json.loads(rootless.ok("events", "--stats", id).out)["data"]
    assert data["pids"]["limit"] == 42
    rootless.delete(id, "--force")
    assert not group.exists()


def test_a_limit_in_effect(rootless, make_rootless):
    eat = ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]
    assert rootless.run(make_rootless({"/linux/resources": {"memory": {"limit": 32 * MIB}}}, args=eat)).code == 137


def test_a_controller_that_is_not_delegated(rootless, make_rootless):
    changes = {"/linux/resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]}}
    result = rootless.run(make_rootless(changes))
    assert result.code == 1 and 'controller "hugetlb" is not enabled' in result.said, result
    assert "have it enabled by its owner: echo +hugetlb > /sys/fs/cgroup/user.slice/cgroup.subtree_control" in result.said


@pytest.mark.vm_short
def test_a_path_that_is_not_delegated(rootless, make_rootless, token):
    for changes in ({"/linux/cgroupsPath": "/" + token}, {"/linux/cgroupsPath": "/system.slice/" + token}):
        result = rootless.run(make_rootless(changes))
        assert result.code == 1 and "rootless needs no limits + no cgrouppath" in result.said and "delegated" in result.said, result


def test_device_rules_are_beyond_us(rootless, make_rootless):
    """Callers always send `deny all`; loading the program needs privileges, and the devices are bound from the host one by one anyway."""
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]
    assert rootless.run(make_rootless({"/linux/resources": {"devices": rules}})).code == 0


def test_its_own_cgroup_may_be_given_to_it(rootless, make_rootless):
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}
    script = "mkdir /sys/fs/cgroup/mine && echo $$ > /sys/fs/cgroup/mine/cgroup.procs && cat /proc/self/cgroup"
    bundle = make_rootless(mapped(), args=["sh", "-c", script])
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] != "/sys/fs/cgroup"] + [mount]
    bundle.write()
    assert rootless.run(bundle).out == "0::/mine\n"


def test_frozen_and_forking_are_deleted(rootless, make_rootless):
    forks = ["/bin/sh", "-c", "f() { while :; do sh -c 'sleep 0.01; :' & sh -c : ; done; }; f & f & f"]
    id = rootless.started(make_rootless({"/linux/resources": {"pids": {"limit": 50}}}, args=forks))
    group = guest.cgroup_of(rootless.state(id)["pid"])
    guest.until(lambda: int(read(group / "pids.current")) > 3, "forking")
    rootless.ok("pause", id)
    rootless.delete(id, "--force")
    assert not group.exists()


def test_others_cannot_read_the_state(rootless, make_rootless):
    """Only the user can access the state."""
    id = rootless.started(make_rootless(args=harness.WAIT_FOR_TERM))
    folder = pathlib.Path(rootless.root) / id
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    rootless.delete(id, "--force")
