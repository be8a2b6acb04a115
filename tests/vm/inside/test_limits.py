"""/linux/resources on cgroup v2, with both drivers: the resulting contents of the files, and the effect of the limits."""

import json
import select
import subprocess

import pytest

import guest
import harness
import hoststate
from guest import read

MIB = 1 << 20
KINDS = {
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 42},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
    "unified": {"memory.high": str(48 * MIB), "cgroup.max.depth": "3", "memory.oom.group": "1"},
}
FILES = {
    "memory.max": str(64 * MIB), "memory.low": str(32 * MIB), "memory.swap.max": str(32 * MIB), "memory.high": str(48 * MIB),
    "memory.oom.group": "1", "cgroup.max.depth": "3", "pids.max": "42", "cpu.weight": "59", "cpu.max": "50000 100000",
    "cpu.max.burst": "1000", "cpuset.cpus": "0", "cpuset.mems": "0", "hugetlb.2MB.max": str(4 * MIB), "hugetlb.2MB.rsvd.max": str(4 * MIB),
}  # fmt: skip


@pytest.fixture
def huge_pages():
    """Four of them. systemd does not know their controller and does not delegate it."""
    with guest.file_holds("/proc/sys/vm/nr_hugepages", "4"):
        assert read("/proc/sys/vm/nr_hugepages") == "4", "the memory of the guest is too fragmented"
        yield


@pytest.mark.vm_short
def test_every_kind_of_limit_is_in_the_files(started, disk, huge_pages):
    place = {"major": disk[0], "minor": disk[1]}
    block = {"weight": 500, "throttleReadBpsDevice": [{**place, "rate": MIB}], "throttleWriteIOPSDevice": [{**place, "rate": 100}]}
    _id, _pid, group = started({"/linux/resources": {**KINDS, "blockIO": block}})
    assert {name: read(group / name) for name in FILES} == FILES
    assert read(group / "io.max") == "%d:%d rbps=%d wbps=max riops=max wiops=100" % (*disk, MIB)
    assert read(group / "io.weight") == "default 4950"


@pytest.mark.vm_short("systemd")
def test_memory_limit_kills(ran):
    result = ran({"/linux/resources": {"memory": {"limit": 32 * MIB}}}, ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"])
    assert result.code == 137, result


def test_memory_limit_too_low_for_init(ran):
    result = ran({"/linux/resources": {"memory": {"limit": 4096}}})
    assert result.code == 1 and "OOM-killed (memory limit too low?)" in result.said, result


def test_the_group_is_killed_as_one(ran):
    resources = {"memory": {"limit": 32 * MIB}, "unified": {"memory.oom.group": "1"}}
    script = "sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1'; echo went on; sleep 1000"
    result = ran({"/linux/resources": resources}, ["/bin/sh", "-c", script])
    assert result.code == 137 and result.out == "", result


def test_pids_limit_limits(ran):
    result = ran({"/linux/resources": {"pids": {"limit": 4}}}, ["/bin/sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1000 & done"])
    assert "can't fork" in result.err, result


@pytest.mark.parametrize(("limit", "text"), [(0, "max"), (-1, "max"), (1, "1")])
def test_special_pids_limits(started, limit, text):
    _id, _pid, group = started({"/linux/resources": {"pids": {"limit": limit}}}, ["/bin/sleep", "1000"])
    assert read(group / "pids.max") == text


def test_cpu_quota_throttles(started):
    _id, _pid, group = started({"/linux/resources": {"cpu": {"quota": 20000, "period": 100000}}}, ["/bin/sh", "-c", "while :; do :; done"])
    guest.until(lambda: guest.numbers(group / "cpu.stat")["nr_throttled"] > 0, "being throttled")


def test_cpuset_is_what_the_program_sees(ran):
    result = ran({"/linux/resources": {"cpu": {"cpus": "1"}}}, ["/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status; nproc"])
    assert result.out.split() == ["Cpus_allowed_list:", "1", "1"], result


def test_an_impossible_cpuset_is_named(ran):
    result = ran({"/linux/resources": {"cpu": {"cpus": "77"}}})
    assert result.code == 1 and "cpuset.cpus" in result.err and "/linux/resources/cpu/cpus" in result.err, result


def test_idle(started):
    _id, _pid, group = started({"/linux/resources": {"cpu": {"idle": 1}}})
    assert read(group / "cpu.idle") == "1"


def test_huge_pages_are_limited(ran, huge_pages):
    changes = {
        "/linux/resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]},
        "/mounts/-": {"destination": "/huge", "type": "hugetlbfs", "source": "none", "options": ["pagesize=2M"]},
    }
    result = ran(changes, ["/bin/sh", "-c", "fallocate -l 2097152 /huge/a && echo one; fallocate -l 2097152 /huge/b || echo refused"])
    assert result.out.split() == ["one", "refused"], result


def test_an_unknown_page_size_is_named(ran, huge_pages):
    result = ran({"/linux/resources": {"hugepageLimits": [{"pageSize": "3MB", "limit": MIB}]}})
    assert result.code == 1 and "no huge pages of 3MB (/linux/resources/hugepageLimits/0/pageSize)" in result.err, result


def test_unified_comes_last(started):
    _id, _pid, group = started({"/linux/resources": {"pids": {"limit": 42}, "unified": {"pids.max": "7"}}})
    assert read(group / "pids.max") == "7"


@pytest.mark.parametrize("name", ["nonsense.max", "rdma.none", "../x.y", "memory"])
def test_invalid_unified_names(ran, name):
    result = ran({"/linux/resources": {"unified": {name: "1"}}})
    assert result.code == 1 and "unified" in result.err, result


def test_unified_lines_are_written_one_by_one(started, disk):
    lines = "%d:%d rbps=%d\n%d:%d wiops=120" % (*disk, MIB, *disk)
    _id, _pid, group = started({"/linux/resources": {"unified": {"io.max": lines}}})
    assert read(group / "io.max") == "%d:%d rbps=%d wbps=max riops=max wiops=120" % (*disk, MIB)


@pytest.mark.parametrize("part", [{"memory": {"disableOOMKiller": True}}, {"cpu": {"realtimeRuntime": 5000}}, {"network": {"classID": 5}}])
def test_values_without_a_file_on_v2(ran, part):
    """They are ignored as in runc, or refused by name; never applied in part."""
    result = ran({"/linux/resources": part}, ["/bin/echo", "ran"])
    assert (result.code == 0 and result.out == "ran\n") or (result.code == 1 and "/linux/resources" in result.err), result


# ---- update


@pytest.mark.vm_short("cgroupfs")
def test_update(runtime, started):
    id, _pid, group = started({"/linux/resources": {"memory": {"limit": 64 * MIB}, "cpu": {"quota": 20000, "period": 50000}}})
    runtime.ok("update", "--memory", "96m", "--pids-limit", "33", "--cpu-share", "2048", "--cpu-quota", "30000", "--cpuset-cpus", "1", id)
    expected = {"memory.max": str(96 * MIB), "pids.max": "33", "cpu.weight": "174", "cpu.max": "30000 50000", "cpuset.cpus": "1"}
    assert {name: read(group / name) for name in expected} == expected


def test_update_leaves_the_rest(runtime, started):
    id, _pid, group = started({"/linux/resources": {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}})
    runtime.ok("update", "--resources", "-", id, text='{"devices": [{"allow": false, "access": "rwm"}], "cpu": {"shares": 2}}')
    assert [read(group / n) for n in ("memory.max", "pids.max", "cpu.weight")] == [str(64 * MIB), "20", "1"]


def test_update_below_what_is_used(runtime, started):
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; sleep 1000"
    changes = {"/linux/resources": {"memory": {"limit": 96 * MIB}}, "/mounts/3/options": ["size=64m"]}
    id, _pid, group = started(changes, ["/bin/sh", "-c", script])
    guest.until(lambda: int(read(group / "memory.current")) > 40 * MIB, "40 MiB in use")
    before = read(group / "pids.max")  # systemd has a different default
    text = '{"memory": {"limit": %d, "checkBeforeUpdate": true}, "pids": {"limit": 5}}' % (8 * MIB)
    result = runtime.call("update", "--resources", "-", id, text=text)
    assert result.code == 1 and "rejecting memory limit" in result.err, result
    assert [read(group / "memory.max"), read(group / "pids.max")] == [str(96 * MIB), before]
    assert runtime.status(id) == "running"


def test_statistics(runtime, started):
    id, _pid, group = started({"/linux/resources": {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}})
    data = json.loads(runtime.ok("events", "--stats", id).out)["data"]
    assert data["pids"]["limit"] == 20 and data["memory"]["usage"]["limit"] == 64 * MIB
    assert data["memory"]["usage"]["usage"] > 0 and data["cpu"]["usage"]["total"] > 0


# ---- compared with runc

# Since runc 1.3.2, weights use another formula; bursts and reservations of huge pages are newer than Debian's runc.
NEWER = ("cpu.weight", "cpu.weight.nice", "cpu.max.burst", "hugetlb.2MB.rsvd.max")
LISTS = ("cgroup.procs", "cgroup.threads")
MEASURED = (".peak", ".pressure")  # can be written to, for a reset or a trigger, but are not settings


def knobs(group):
    """{name: text} of all files in a cgroup that can be written and read, except those with measurements."""
    found = {}
    for path in group.iterdir():
        if path.name.endswith(MEASURED):
            continue
        if path.is_file() and path.stat().st_mode & 0o600 == 0o600 and path.name not in NEWER + LISTS:
            found[path.name] = read(path)
    return found


@pytest.mark.parametrize("resources", [{}, KINDS], ids=["none", "many"])
def test_files_are_the_same_as_with_runc(runtime, runc, make_bundle, driver, huge_pages, no_leaks, resources):
    bundle = make_bundle({"/linux/cgroupsPath": driver.path(), "/linux/resources": resources}, args=["/bin/true"])
    seen, properties = [], []
    names = "Delegate,Slice,DefaultDependencies,KillMode,CollectMode,MemoryMax,MemoryLow,MemorySwapMax,MemoryHigh,TasksMax,AllowedCPUs"
    names += ",AllowedMemoryNodes,CPUQuotaPerSecUSec,CPUQuotaPeriodUSec,DevicePolicy,MemoryAccounting,TasksAccounting,IOAccounting"
    for one in (runtime, runc):
        id = one.create(bundle, globals=driver.globals)
        group = guest.cgroup_of(one.state(id)["pid"])
        seen.append(knobs(group))
        if driver.name == "systemd":
            properties.append(guest.shown(group.name, names))
            lines = guest.systemctl("show", "--property=DeviceAllow", group.name).splitlines()
            properties[-1]["DeviceAllow"] = {line.replace("char-pts", "char-136") for line in lines}  # type: ignore[assignment]  # its name and its number
        one.delete(id, "--force")
    ours, theirs = seen
    assert ours == theirs
    if properties:
        mine, its = properties
        assert mine.pop("DeviceAllow") ^ its.pop("DeviceAllow") == set()  # type: ignore[operator]
        assert {name: (mine[name], its.get(name)) for name in mine if mine[name] != its.get(name)} == {}


def keys(value, path=""):
    """All keys of a record, except those that Go omits when they are 0, and pressure, which Debian's runc does not have yet."""
    found = set()
    for key, one in value.items() if isinstance(value, dict) else ():
        if key not in ("psi", "periods", "throttledPeriods", "throttledTime", "max", "cache", "usage") and not key.endswith("Recursive"):
            found |= {path + "/" + key, *keys(one, path + "/" + key)}
    return found


def test_a_record_of_events_is_the_same_as_with_runc(runtime, runc, make_bundle, token):
    bundle = make_bundle(
        {"/linux/cgroupsPath": "/%s-events" % token, "/linux/resources": {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}},
        args=harness.WAIT_FOR_TERM,
    )
    records = []
    for one in (runtime, runc):
        id = one.started(bundle)
        records.append(json.loads(one.ok("events", "--stats", id).out))
        one.delete(id, "--force")
    ours, theirs = records
    for record in records:
        record["data"]["hugetlb"] = {}  # runc 1.1 does not report them on version 2
    assert keys(ours) == keys(theirs)
    assert ours["data"]["memory"]["usage"]["limit"] == theirs["data"]["memory"]["usage"]["limit"] == 64 * MIB


def test_events_sleeps_until_something_happens(runtime, make_bundle, token):
    """memory.events wakes whoever polls it until it has been read through the same descriptor."""
    bundle = make_bundle(
        {"/linux/cgroupsPath": "/%s-idle" % token, "/linux/resources": {"memory": {"limit": 64 * MIB}}}, args=harness.WAIT_FOR_TERM
    )
    id = runtime.started(bundle)
    process = subprocess.Popen(runtime.argv("events", "--interval", "100h", id), stdout=subprocess.PIPE)
    with process:
        while hoststate.state_of(process.pid) != "S":
            select.select([], [], [], 0.002)
        states = []
        for _ in range(200):
            states.append(hoststate.state_of(process.pid))
            select.select([], [], [], 0.002)
        runtime.delete(id, "--force")
    assert states.count("S") > 190, states
