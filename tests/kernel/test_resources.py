"""Limits on the real kernel: read back from the files, and checked by their effect. Children of the test run in their own cgroups."""

import errno
import os
import select
import signal
import time

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import devices_bpf, devices_rules, fs, hierarchies, oom, stats, v2
from pyrunc.errors import StepFailure
from pyrunc.linux import constants
from pyrunc.parts import resources

pytestmark = pytest.mark.kernel
LAYOUT = hierarchies.layout()
MIB = 1 << 20


def needs(*controllers):
    """Skips if the kernel lacks these controllers, in either version."""
    have = hierarchies.controllers(LAYOUT.mounts["unified"][0]) if LAYOUT.version == 2 else set(LAYOUT.mounts)
    missing = [c for c in controllers if {"blkio": "io", "cpuacct": "cpu"}.get(c, c) not in have and c not in have]
    return pytest.mark.skipif(bool(missing), reason="this machine has no cgroup controller %s" % ", ".join(missing))


only_v1 = pytest.mark.skipif(LAYOUT.version == 2, reason="this machine has no cgroup v1")


@pytest.fixture
def group():
    with tools.live_groups() as make:
        yield make


def file_of(one, controller, name):
    key = "unified" if LAYOUT.version == 2 else controller
    with open("%s/%s" % (one.paths[key], name)) as f:
        return f.read().strip()


V1 = LAYOUT.version != 2
BACK = [
    ("memory", {"memory": {"limit": 64 * MIB}}, "memory.limit_in_bytes", "memory.max", str(64 * MIB)),
    ("memory", {"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}}, "memory.soft_limit_in_bytes", "memory.low", str(32 * MIB)),
    ("pids", {"pids": {"limit": 7}}, "pids.max", "pids.max", "7"),
    ("pids", {"pids": {"limit": 0}}, "pids.max", "pids.max", "max"),
    ("pids", {"pids": {"limit": -1}}, "pids.max", "pids.max", "max"),
    ("cpuset", {"cpu": {"cpus": "0", "mems": "0"}}, "cpuset.cpus", "cpuset.cpus", "0"),
]


@pytest.mark.parametrize("controller, node, v1_name, v2_name, text", BACK)
def test_read_back(group, controller, node, v1_name, v2_name, text):
    if controller not in LAYOUT.mounts and V1:
        pytest.skip("this machine has no cgroup controller " + controller)
    one = group(node=node).make().apply()
    assert file_of(one, controller, v1_name if V1 else v2_name) == text


@needs("cpu")
def test_cpu_values(group):
    one = group(node={"cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000}}).make().apply()
    if V1:
        assert file_of(one, "cpu", "cpu.shares") == "512"
        assert file_of(one, "cpu", "cpu.cfs_quota_us") == "20000" and file_of(one, "cpu", "cpu.cfs_period_us") == "50000"
        assert file_of(one, "cpu", "cpu.cfs_burst_us") == "1000"
    else:
        assert file_of(one, "cpu", "cpu.weight") == "59" and file_of(one, "cpu", "cpu.max") == "20000 50000"


@only_v1
@needs("memory")
def test_memory_extras_of_v1(group):
    one = group(
        node={"memory": {"limit": 64 * MIB, "swap": 96 * MIB, "swappiness": 10, "disableOOMKiller": True, "useHierarchy": True}}
    ).make()
    if not os.path.exists(one.paths["memory"] + "/memory.memsw.limit_in_bytes"):
        pytest.skip("this machine's kernel does not account swap")
    one.apply()
    assert file_of(one, "memory", "memory.memsw.limit_in_bytes") == str(96 * MIB)
    assert file_of(one, "memory", "memory.swappiness") == "10"
    assert "oom_kill_disable 1" in file_of(one, "memory", "memory.oom_control")


@only_v1
@needs("cpu")
def test_shares_that_the_kernel_clamps(group):
    with pytest.raises(StepFailure, match="the minimum allowed cpu-shares is 2"):
        group(node={"cpu": {"shares": 1}}).make().apply()
    with pytest.raises(StepFailure, match="the maximum allowed cpu-shares is 262144"):
        group(node={"cpu": {"shares": 1000000}}).make().apply()


@needs("cpuset")
def test_processors_that_do_not_exist(group):
    one = group(node={"cpu": {"cpus": "9000"}}).make()
    with pytest.raises(StepFailure) as e:
        one.apply()
    assert e.value.pointer == "/linux/resources/cpu/cpus" and e.value.path.endswith("cpuset.cpus") and '"9000"' in e.value.words


@needs("blkio")
def test_throttling_a_device_that_does_not_exist(group):
    one = group(node={"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 7, "rate": 1000}]}}).make()
    with pytest.raises(StepFailure) as e:
        one.apply()
    assert e.value.errno == errno.ENODEV and "4000:7" in e.value.words
    assert e.value.pointer == "/linux/resources/blockIO/throttleReadBpsDevice/0"


# --- limits in effect


@needs("memory")
def test_too_much_memory_is_an_oom_kill(group):
    def eat():
        return len(b"x" * (200 * MIB))

    one = group(node={"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}).make().apply()
    watch = oom.Watch(one.paths)
    poll = select.poll()
    poll.register(watch.fd, watch.mask)
    try:
        assert watch.fired() is False
        one.start(eat, wait=False)
        pid = one.pids[-1]
        assert poll.poll(20000), "the OOM was not reported"
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        while not watch.fired():
            poll.poll(100)
        assert oom.killed(one.paths) >= 1
        one.undo()
        assert watch.fired() is None
    finally:
        watch.close()


@needs("pids")
def test_the_last_fork_fails(group):
    def fork():
        for count in range(50):
            try:
                if os.fork() == 0:
                    signal.pause()
            except OSError as e:
                return "%d %s" % (count, errno.errorcode[e.errno])
        return "none failed"

    one = group(node={"pids": {"limit": 5}}).make().apply()
    assert one.start(fork) == "4 EAGAIN"


@needs("cpu", "cpuacct")
def test_a_quota_throttles(group):
    def burn():
        end = time.process_time() + 0.03
        while time.process_time() < end:
            pass

    one = group(node={"cpu": {"quota": 1000, "period": 10000}}).make().apply()
    one.start(burn)
    data = stats.collect(one.paths)
    assert data["cpu"]["throttling"]["throttledPeriods"] >= 1 and data["cpu"]["throttling"]["throttledTime"] > 0
    assert data["cpu"]["usage"]["total"] >= 20_000_000


@needs("cpuset")
def test_a_cpuset_limits_the_affinity(group):
    one = group(node={"cpu": {"cpus": "0"}}).make().apply()
    assert one.start(lambda: sorted(os.sched_getaffinity(0))) == "[0]"


# --- devices


def opens(*devices):
    """Action: 'path:flags=result' for each, in order."""

    def action():
        out = []
        for path, flags in devices:
            try:
                os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
                out.append("ok")
            except OSError as e:
                out.append(errno.errorcode[e.errno])
        return " ".join(out)

    return action


FOUR = (("/dev/null", os.O_RDWR), ("/dev/zero", os.O_RDONLY), ("/dev/kmsg", os.O_RDONLY), ("/dev/kmsg", os.O_WRONLY))
DENY_ALL = {"allow": False, "access": "rwm"}
kmsg = pytest.mark.skipif(opens(("/dev/kmsg", os.O_RDWR))() != "ok", reason="this machine does not let root open /dev/kmsg")


@kmsg
@pytest.mark.parametrize(
    "rules, result",
    [
        (None, "ok ok EPERM EPERM"),
        ([], "ok ok EPERM EPERM"),
        ([DENY_ALL], "ok ok EPERM EPERM"),
        ([{"allow": True, "access": "rwm"}], "ok ok ok ok"),
        ([DENY_ALL, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}], "ok ok ok EPERM"),
        ([DENY_ALL, {"allow": True, "type": "c", "major": 1, "access": "rw"}], "ok ok ok ok"),
        ([{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"}], "ok ok ok EPERM"),
        ([{"allow": True, "type": "b", "access": "rwm"}], "ok ok EPERM EPERM"),
        ([{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}, {"allow": False, "access": "w"}], "ok ok ok EPERM"),
        (
            [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}, {"allow": False, "type": "c", "access": "rw"}],
            "ok ok EPERM EPERM",
        ),
    ],
)
def test_device_rules(group, rules, result):
    one = group(node=None if rules is None else {"devices": rules}).make().apply()
    assert one.start(opens(*FOUR)) == result


@only_v1
@kmsg
def test_the_list_never_allows_everything(group):
    one = group().make().apply()
    assert "a *:* rwm" not in file_of(one, "devices", "devices.list")


@only_v1
@needs("devices")
def test_a_device_that_the_parent_denies(group):
    parent = group("/%s" % tools.TOP).make()
    with open(parent.paths["devices"] + "/devices.deny", "w") as f:
        f.write("c 1:11 rwm")
    child = group(node={"devices": [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]}).make()
    with pytest.raises(StepFailure) as e:
        child.apply()
    assert e.value.pointer == "/linux/resources/devices" and "a parent cgroup denies" in e.value.hint


@kmsg
def test_live_rules_change_and_are_kept_in_the_entry(group):
    one = group().make().apply()
    item = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}
    changed = resources.change_devices([item], one.resources, one.run)
    assert changed["devices"][-1] == [True, "c", 1, 11, "r"] and one.start(opens(*FOUR)) == "ok ok ok EPERM"
    changed = resources.change_devices([{**item, "allow": False}], changed, one.run)
    assert one.start(opens(*FOUR)) == "ok ok EPERM EPERM"


@only_v1
@kmsg
def test_live_rules_change_without_a_gap(group):
    one = group().make().apply()
    old = one.resources["devices"]
    new = [[True, "c", 1, 11, "r"], *old]
    path = one.paths["devices"]
    assert devices_rules.change_v1(path, old, new) == 1
    assert devices_rules.change_v1(path, new, old) == 1
    assert devices_rules.change_v1(path, old, old) == 0


def bpf_works():
    try:
        path = LAYOUT.mounts["unified"][0]
        fd = fs.open_dir(path, "unified")
        try:
            devices_bpf._syscalls.bpf_prog_query(fd, constants.BPF_CGROUP_DEVICE, 0)
        finally:
            os.close(fd)
    except (OSError, KeyError):
        return False
    return True


bpf = pytest.mark.skipif(not bpf_works(), reason="this machine has no cgroup2 with eBPF programs")


@bpf
@kmsg
@pytest.mark.parametrize(
    "rules, result",
    [
        ([], "EPERM EPERM EPERM EPERM"),
        ([rule for _path, rule in devices_rules.DEFAULTS], "ok ok EPERM EPERM"),
        ([[True, "a", -1, -1, "rwm"]], "ok ok ok ok"),
        ([[True, "a", -1, -1, "rwm"], [False, "c", 1, 11, "w"]], "ok ok ok EPERM"),
        ([[True, "c", 1, -1, "rwm"], [False, "c", 1, 5, "r"], [False, "c", 1, 11, "w"]], "ok EPERM ok EPERM"),
        ([[True, "c", 1, 3, "r"], [True, "c", 1, 3, "w"]], "ok EPERM EPERM EPERM"),
    ],
)
def test_the_program_in_the_kernel(group, rules, result):
    """Also on a hybrid machine: programs need no controller."""
    one = group().make()
    devices_bpf.apply(one.paths["unified"], [[True, "a", -1, -1, "rwm"]], False)
    devices_bpf.apply(one.paths["unified"], rules, False)
    devices_bpf.apply(one.paths["unified"], rules, False)  # replaced, not added
    fd = fs.open_dir(one.paths["unified"], "unified")
    try:
        programs = devices_bpf._syscalls.bpf_prog_query(fd, constants.BPF_CGROUP_DEVICE, 0)
    finally:
        os.close(fd)
    assert len(programs) == (0 if devices_bpf.allows_everything(rules) else 1)
    planned, attached = devices_bpf.tags(one.paths["unified"], rules)
    assert attached == ([planned] if planned else []) and planned != devices_bpf.tags(one.paths["unified"], [[True, "c", 9, 9, "r"]])[0]
    assert one.start(opens(*FOUR)) == result


# --- update


def change(one, node):
    ctx = tools.make_ctx(command="update", plans={"cgroups": one.entry})
    new = resources.plan({resources.POINTER: node}, ctx)
    one.resources = resources.update(new, one.resources, one.run)
    return one.resources


@needs("memory", "pids", "cpu")
def test_update_writes_what_is_new_and_keeps_the_rest(group):
    one = group(node={"memory": {"limit": 64 * MIB}, "pids": {"limit": 5}, "cpu": {"quota": 20000, "period": 50000}}).make().apply()
    stored = change(one, {"devices": [DENY_ALL], "memory": {"limit": 128 * MIB, "swap": 256 * MIB}})
    assert stored["memory"] == {"limit": 128 * MIB, "swap": 256 * MIB} and stored["pids"] == {"limit": 5}
    assert file_of(one, "memory", "memory.limit_in_bytes" if V1 else "memory.max") == str(128 * MIB)
    assert file_of(one, "pids", "pids.max") == "5"
    change(one, {"cpu": {"quota": 30000}})
    assert file_of(one, "cpu", "cpu.cfs_period_us" if V1 else "cpu.max").split()[-1] == "50000"
    change(one, {"memory": {"limit": -1}})
    assert file_of(one, "memory", "memory.limit_in_bytes" if V1 else "memory.max") in ("max", "9223372036854771712")
    assert one.start(opens(*FOUR[:2])) == "ok ok"


@needs("memory", "cpuset", "pids")
def test_a_failed_update_changes_nothing(group):
    one = group(node={"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "pids": {"limit": 5}, "cpu": {"cpus": "0"}}).make().apply()
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] if V1 else ["memory.max", "memory.swap.max"]
    names = [n for n in names if os.path.exists("%s/%s" % (one.paths["memory" if V1 else "unified"], n))]
    before = [file_of(one, "memory", n) for n in names]
    with pytest.raises(StepFailure):
        change(
            one,
            {
                "memory": {"limit": 256 * MIB, "swap": 512 * MIB},
                "pids": {"limit": 9},
                "blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 5}]},
            },
        )
    assert [file_of(one, "memory", n) for n in names] == before
    assert file_of(one, "pids", "pids.max") == "5"


@only_v1
@needs("memory")
def test_a_limit_below_the_usage_names_both(group):
    one = group(node={"memory": {"limit": 64 * MIB}}).make().apply()
    held = []
    one.start(lambda: held.append(b"x" * (20 * MIB)) or signal.pause(), wait=False)
    while int(file_of(one, "memory", "memory.usage_in_bytes")) < 20 * MIB:
        select.select([], [], [], 0.001)
    with pytest.raises(StepFailure, match=r"unable to set memory limit to 4194304 \(current usage: \d+, peak usage: \d+\)"):
        change(one, {"memory": {"limit": 4 * MIB}})
    assert file_of(one, "memory", "memory.limit_in_bytes") == str(64 * MIB)


# --- what is missing


@pytest.mark.skipif("unified" not in LAYOUT.mounts, reason="this machine has no cgroup2")
def test_a_controller_that_v2_lacks_is_named(group):
    one = group().make()
    with pytest.raises(StepFailure) as e:
        v2.apply({"unified": one.paths["unified"]}, {"unified": [["nonesuch.max", "1"]]})
    assert 'controller "nonesuch" not available' in e.value.words and "/sys/fs/cgroup" in e.value.hint


def test_stats_of_a_live_group(group):
    one = group(node={"pids": {"limit": 9}} if "pids" in LAYOUT.mounts or LAYOUT.version == 2 else None).make().apply()
    one.start()
    data = stats.collect(one.paths)
    assert data["pids"] == {"current": 1, "limit": 9}
    assert data["memory"]["usage"]["limit"] > 0
    assert set(data) == {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"}


@needs("cpu")
def test_update_to_a_realtime_period_shorter_than_the_old_runtime(group):
    """Neither order of writing works in all cases: the kernel requires the runtime to fit into the period at each step."""
    if not V1 or not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        pytest.skip("this kernel has no realtime budgets of groups")
    one = group(node={"cpu": {"shares": 512}}).make().apply()
    with open(os.path.dirname(one.paths["cpu"]) + "/cpu.rt_runtime_us", "w") as parent:
        parent.write("500000")
    change(one, {"cpu": {"realtimePeriod": 1000000, "realtimeRuntime": 200000}})
    change(one, {"cpu": {"realtimePeriod": 100000, "realtimeRuntime": 50000}})
    assert (file_of(one, "cpu", "cpu.rt_period_us"), file_of(one, "cpu", "cpu.rt_runtime_us")) == ("100000", "50000")
    change(one, {"cpu": {"realtimePeriod": 1000000, "realtimeRuntime": 200000}})
    assert (file_of(one, "cpu", "cpu.rt_period_us"), file_of(one, "cpu", "cpu.rt_runtime_us")) == ("1000000", "200000")
