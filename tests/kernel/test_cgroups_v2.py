"""Features specific to cgroup v2: enabling controllers for children, creating init in its cgroup, delegation, threads."""

import os
import signal
import time

import pytest

import cgroup_tools as tools
import harness
from pyrunc.cgroup import freeze, hierarchies, kill
from pyrunc.errors import StepFailure
from pyrunc.linux import _syscalls
from pyrunc.parts import cgroups, resources

LAYOUT = hierarchies.layout()
pytestmark = [pytest.mark.kernel, pytest.mark.skipif(LAYOUT.version != 2, reason="this machine has the controllers of cgroup v1")]
MIB = 1 << 20


@pytest.fixture
def group():
    with tools.live_groups() as make:
        yield make


def read(one, name, below=""):
    with open("%s%s/%s" % (one.paths["unified"], below, name)) as f:
        return f.read().strip()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def test_all_controllers_reach_the_leaf(group):
    one = group("/%s/x/y" % tools.TOP).make()
    top = hierarchies.controllers(LAYOUT.mounts["unified"][0])
    assert set(read(one, "cgroup.controllers").split()) == top
    assert read(one, "cgroup.subtree_control") == ""


def test_every_kind_of_limit(group):
    node = {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB},
        "cpu": {"shares": 2048, "quota": 20000, "period": 50000, "burst": 1000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 9},
        "blockIO": {"weight": 500},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "unified": {"memory.high": str(32 * MIB), "cgroup.max.depth": "3", "memory.oom.group": "1"},
    }
    one = group(node=node).make()
    have = set(read(one, "cgroup.controllers").split())
    for controller, key in (("hugetlb", "hugetlb"), ("io", "blkio")):
        if controller not in have or (key == "blkio" and not os.path.exists(one.paths["unified"] + "/io.weight")):
            one.resources.pop(key)
    one.apply()
    assert read(one, "memory.max") == str(64 * MIB) and read(one, "memory.low") == str(16 * MIB)
    if os.path.exists(one.paths["unified"] + "/memory.swap.max"):
        assert read(one, "memory.swap.max") == str(32 * MIB)
    assert read(one, "cpu.weight") == "174" and read(one, "cpu.max") == "20000 50000" and read(one, "cpu.max.burst") == "1000"
    assert read(one, "cpuset.cpus") == "0" and read(one, "cpuset.mems") == "0" and read(one, "pids.max") == "9"
    assert read(one, "memory.high") == str(32 * MIB) and read(one, "cgroup.max.depth") == "3" and read(one, "memory.oom.group") == "1"
    if "hugetlb" in one.resources:
        assert read(one, "hugetlb.2MB.max") == read(one, "hugetlb.2MB.rsvd.max") == str(4 * MIB)
    if "blkio" in one.resources:
        assert read(one, "io.weight") == "default 4950"


def test_updating_the_quota_keeps_the_period(group):
    one = group(node={"cpu": {"quota": 20000, "period": 50000}}).make().apply()
    resources.apply({**one.resources, "cpu": {"period": 40000}}, one.paths, one.entry)
    assert read(one, "cpu.max") == "20000 40000"
    resources.apply({**one.resources, "cpu": {"quota": -1}}, one.paths, one.entry)
    assert read(one, "cpu.max") == "max 40000"


def test_init_can_be_created_in_its_cgroup(group):
    one = group().make()
    assert one.run.cgroup_fd >= 0
    pid, pidfd = _syscalls.clone3(0, 17, one.run.cgroup_fd)
    if pid == 0:
        signal.pause()
        os._exit(0)
    one.pids.append(pid)
    one.run.pid = pid
    assert read(one, "cgroup.procs") == str(pid)
    cgroups.host_place(one.entry, one.run)
    assert one.run.cgroup_fd == -1 and read(one, "cgroup.procs") == str(pid)
    os.close(pidfd)


def test_a_parent_with_processes_of_its_own_is_named(group):
    parent = group("/%s" % tools.TOP).make()
    parent.start()
    child = group("/%s/a" % tools.TOP, {"memory": {"limit": 64 * MIB}})
    with pytest.raises(StepFailure) as e:
        child.make()
    assert e.value.words == 'controller "memory" can\'t be enabled in %s/cgroup.subtree_control' % parent.paths["unified"]
    assert "has processes of its own" in e.value.hint
    assert read(parent, "cgroup.type") == "domain" and read(parent, "cgroup.subtree_control") == ""
    child.undo()


def test_a_controller_that_is_not_delegated_is_named(group):
    parent = group("/%s" % tools.TOP).make()
    child = group("/%s/a" % tools.TOP, {"memory": {"limit": 64 * MIB}}).make()
    write(parent.paths["unified"] + "/cgroup.subtree_control", "-memory")
    with pytest.raises(StepFailure) as e:
        child.apply()
    assert 'controller "memory" is not enabled in %s/cgroup.subtree_control' % parent.paths["unified"] in e.value.words
    assert "echo +memory" in e.value.hint and e.value.pointer == "/linux/resources/memory/limit"


def test_a_threaded_parent_accepts_no_domain_controllers(group):
    parent = group("/%s" % tools.TOP).make()
    os.mkdir(parent.paths["unified"] + "/t")
    write(parent.paths["unified"] + "/t/cgroup.type", "threaded")
    with pytest.raises(StepFailure, match="cannot enter cgroupv2 .* with domain controllers"):
        group("/%s/t/a" % tools.TOP, {"memory": {"limit": 64 * MIB}}).make()
    one = group("/%s/t/b" % tools.TOP, {"pids": {"limit": 5}})
    one.make()
    assert read(one, "cgroup.type") == "threaded"
    one.undo()


def test_check_before_update(group):
    one = group(node={"memory": {"limit": 64 * MIB}}).make().apply()
    held = []
    one.start(lambda: held.append(b"x" * (20 * MIB)) or signal.pause(), wait=False)
    end = time.monotonic() + harness.WATCHDOG
    while int(read(one, "memory.current")) < 20 * MIB:
        assert time.monotonic() < end
        time.sleep(0.001)
    ctx = tools.make_ctx(command="update", plans={"cgroups": one.entry})
    new = resources.plan({resources.POINTER: {"memory": {"limit": 4 * MIB, "checkBeforeUpdate": True}, "pids": {"limit": 7}}}, ctx)
    with pytest.raises(StepFailure, match="rejecting memory limit 4194304 <= usage"):
        resources.update(new, one.resources, one.run)
    assert read(one, "memory.max") == str(64 * MIB) and read(one, "pids.max") == "max"
    assert len(kill.procs(one.paths)) == 1


def test_a_delegated_cgroup_belongs_to_the_containers_user(group):
    one = group().make()
    one.start()
    one.run.plans.update(
        namespaces={"new": ["cgroup"]},
        mounts={"list": [{"type": "cgroup", "destination": "/sys/fs/cgroup", "flags": 0}]},
        user={"uid": 1234},
    )
    cgroups.host_delegate(one.entry, one.run)
    path = one.paths["unified"]
    assert os.stat(path).st_uid == 1234
    with open("/sys/kernel/cgroup/delegate") as f:
        names = [n for n in f.read().split() if os.path.exists(path + "/" + n)]
    assert "cgroup.procs" in names and all(os.stat(path + "/" + n).st_uid == 1234 for n in names)
    assert os.stat(path + "/memory.max").st_uid == 0 and os.stat(path).st_gid == 0


def test_a_sub_cgroup_is_init_s_seat(group):
    one = group(node={"pids": {"limit": 9}}, plans={"meta": {"annotations": {"run.oci.delegate-cgroup": "work/inner"}}}).make().apply()
    pid = one.start()
    assert (
        read(one, "cgroup.procs", "/work/inner") == str(pid)
        and read(one, "pids.max") == "9"
        and read(one, "pids.max", "/work/inner") == "max"
    )
    assert kill.procs(one.paths) == [pid]
    one.end()
    assert not os.path.exists(one.paths["unified"])


def test_without_a_cgroup_namespace_nothing_is_delegated(group):
    one = group().make()
    one.start()
    mounts = {"list": [{"type": "cgroup", "destination": "/sys/fs/cgroup", "flags": 0}]}
    one.run.plans.update(namespaces={"new": ["pid"]}, mounts=mounts, user={"uid": 1234})
    cgroups.host_delegate(one.entry, one.run)
    assert os.stat(one.paths["unified"]).st_uid == 0


def test_waiting_is_woken_by_the_last_exit(group):
    one = group().make()
    pid = one.start()
    kill.kill_all(one.paths, 9)
    assert kill.wait_empty(one.paths, 20000) == []
    os.waitpid(pid, 0)


def test_frozen_by_a_parent_counts_as_frozen(group):
    parent = group("/%s" % tools.TOP).make()
    child = group("/%s/a" % tools.TOP).make()
    child.start()
    freeze.freeze(parent.paths)
    assert freeze.is_frozen(child.paths)
    freeze.thaw(parent.paths)
    assert not freeze.is_frozen(child.paths)
