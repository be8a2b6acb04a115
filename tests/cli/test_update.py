"""update: each option compared with runc's, sizes, documents, rejected values; it always applies all values or none."""

import json
import os

import pytest

import harness
import hoststate

RUNC = "/usr/sbin/runc"
FILES = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"),
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.rt_runtime_us", "cpu.rt_period_us"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "pids": ("pids.max",),
    "blkio": ("blkio.weight", "blkio.bfq.weight"),
    "devices": ("devices.list",),
    "unified": ("memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "cpu.idle", "cpuset.cpus", "pids.max", "io.weight"),
}
START = {
    "/linux/resources": {
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 50},
        "devices": [{"allow": False, "access": "rwm"}],
    }
}
pytestmark = pytest.mark.kernel


def files(runtime, bundle):
    """{file: text} of the files that exist in the container's cgroup."""
    below = bundle.config["linux"]["cgroupsPath"].lstrip("/")
    found = {}
    for key, names in FILES.items():
        for base in (hoststate.CGROUP / key, hoststate.CGROUP):
            for name in names:
                if (base / below / name).exists():
                    found[name] = (base / below / name).read_text().strip()
    return found


@pytest.fixture
def pair(runtime, scratch, cgroup, make_bundle):
    """[(runtime, bundle, id)] of pyrunc and of runc, with the same limits."""
    if not os.path.exists(RUNC):
        pytest.skip("this machine has no runc to compare with")
    runc = harness.Runtime(RUNC, scratch / ("runc" + os.path.basename(runtime.root)), runtime.token + "r", cgroup)
    made = []
    try:
        for each in (runtime, runc):
            bundle = make_bundle(START, args=harness.WAIT_FOR_TERM)
            made.append((each, bundle, each.started(bundle)))
        yield made
    finally:
        runc.clean()


# Both accept them, and afterwards the files are the same; one after the other on the same container.
ALIKE = [
    "--memory 32M --memory-swap 64M", "--memory -1", "--memory 64m --memory-swap 64m", "--memory 1g --memory-swap -1", "--memory 67108864",
    "--memory 64mb", "--memory 48MiB", "--memory 0.5g", "--memory 1.25GiB", "--memory 98304k", "--memory-reservation 16m",
    "--memory-reservation -1", "--memory 64m --memory-swap 80m", "--kernel-memory 10m", "--kernel-memory-tcp 1.5g", "--cpu-share 1000",
    "--cpu-share 0", "--cpu-quota 20000", "--cpu-period 50000", "--cpu-quota 25000 --cpu-period 50000", "--cpu-quota 0",
    "--cpu-quota -1", "--cpu-period 0", "--cpu-rt-period 0", "--cpu-rt-runtime 0", "--cpuset-cpus 0", "--cpuset-mems 0", "--pids-limit 33",
    "--pids-limit -1", "--blkio-weight 500", "", "--pids-limit 44 --cpu-share 512 --memory 128m --memory-swap 128m --cpuset-cpus 0",
]  # fmt: skip
DOCUMENTS = [
    {"memory": {"limit": 33554432}, "cpu": {"quota": 40000, "period": 100000}},
    {"pids": {"limit": 33}},
    {"pids": {}},
    {},
    {"devices": [{"allow": False, "access": "rwm"}], "memory": {"limit": 99614720, "swap": -1}},
    {"cpu": {"shares": 300}},
    {"cpu": {"cpus": "0", "mems": "0"}},
    {"blockIO": {"weight": 300}},
    {"nosuch": 1},
    {"cpu": {"quota": 0, "period": 0}},
]


def test_options_work_as_in_runc(pair):
    for words in ALIKE:
        for each, _bundle, id in pair:
            result = each.ok("update", *words.split(), id)
            assert result.out == ""
        ours, theirs = (files(each, bundle) for each, bundle, _id in pair)
        assert ours == theirs and ours, words
    each, _bundle, id = pair[0]
    assert each.ok("update", "--memory", "64 m", "--memory-swap", "64 M", id).code == 0  # as the options of runc accept it


def test_documents_work_as_in_runc(pair):
    for document in DOCUMENTS:
        for each, _bundle, id in pair:
            each.ok("update", "--resources", "-", "--pids-limit", "7", id, text=json.dumps(document))
        ours, theirs = (files(each, bundle) for each, bundle, _id in pair)
        assert ours == theirs and ours, document


REFUSED = [
    "--memory banana", "--memory -2", "--memory -5m", "--memory 1.g", "--memory .5g", "--memory 1x", "--memory 10q", "--memory 1k1",
    "--memory-swap 1m", "--memory 0x10", "--memory 99999999999g", "--kernel-memory x", "--kernel-memory-tcp -3", "--cpu-share 1",
    "--cpu-share -1", "--cpu-share x", "--cpu-period 1", "--cpu-quota 1", "--cpu-idle 2", "--cpuset-cpus 999", "--cpuset-cpus x",
    "--cpuset-cpus 1-0", "--cpuset-mems 63", "--pids-limit x", "--pids-limit 99999999999999999999", "--blkio-weight 5",
    "--blkio-weight 1001", "--l3-cache-schema L3:0=f", "--mem-bw-schema MB:0=10", "--rlimit NOSUCH=1", "--rlimit NOFILE", "--device-add c",
    "--device-remove x 1:1 r",
]  # fmt: skip
BROKEN = [
    "garbage", "", "[]", "null x", '{"memory": {"limit": "1g"}}', '{"memory": {"limit": 1e30}}', '{"memory": {"limit": -2}}',
    '{"memory": {"limit": 33554432, "swap": 1}}', '{"memory": {"limit": 4096}}', '{"memory": {"limit": 1000000000000000000000}}',
    '{"unified": {"../x": "1"}}', '{"unified": {"cgroup.procs": "1"}}', '{"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}',
    '{"pids": {"limit": "5"}}', '{"pids": 5}', '{"Pids": {"limit": 5}}', '{"pids": {"limit": 5}, "pids": {"limit": 6}}',
    '{"cpu": {"shares": -1}}', '{"cpu": {"cpus": "banana"}}', '{"blockIO": {"weight": 5}}', "{" * 100000,
]  # fmt: skip


@pytest.fixture
def limited(pyrunc, make_bundle):
    bundle = make_bundle(START, args=harness.WAIT_FOR_TERM)
    return bundle, pyrunc.started(bundle)


def refused(pyrunc, bundle, result, before):
    assert result.code == 1 and result.out == "" and len(result.err.splitlines()) == 1, result
    assert result.err.startswith("update failed: ") and "Traceback" not in result.err
    assert files(pyrunc, bundle) == before


def test_options_that_are_refused(pyrunc, limited):
    """There is one line, and no file has changed, although a valid option precedes each invalid one."""
    bundle, id = limited
    before = files(pyrunc, bundle)
    for words in REFUSED:
        name, _, value = words.partition(" ")
        given = (name, value) if value else (name,)
        refused(pyrunc, bundle, pyrunc.call("update", "--pids-limit", "49", id, *given), before)


def test_documents_that_are_refused(pyrunc, limited, tmp_path):
    bundle, id = limited
    before = files(pyrunc, bundle)
    for text in BROKEN:
        refused(pyrunc, bundle, pyrunc.call("update", "--resources", "-", id, text=text), before)
        (tmp_path / "r.json").write_text(text)
        refused(pyrunc, bundle, pyrunc.call("update", "-r", "r.json", id, cwd=tmp_path), before)
    for path in ("/no/such/file", tmp_path, "/dev/zero"):
        refused(pyrunc, bundle, pyrunc.call("update", "--resources", path, id), before)
    with open("/dev/zero", "rb") as endless:
        refused(pyrunc, bundle, pyrunc.call("update", "--resources", "-", id, stdin=endless), before)


def test_in_each_state(runtime, make_bundle):
    bundle = make_bundle(START, args=harness.WAIT_FOR_TERM)
    id = runtime.create(bundle)
    runtime.ok("update", "--pids-limit", "21", id)
    runtime.start(id)
    assert files(runtime, bundle)["pids.max"] == "21"
    runtime.ok("pause", id)
    runtime.ok("update", "--pids-limit", "22", id)
    assert runtime.status(id) == "paused" and files(runtime, bundle)["pids.max"] == "22"
    runtime.ok("resume", id)
    runtime.stopped(id)
    result = runtime.call("update", "--pids-limit", "23", id)
    assert result.code == 1 and ("container not running" in result.said or not runtime.is_pyrunc)
    result = runtime.call("update", "--pids-limit", "23", "no-such-id")
    assert result.code == 1 and "container does not exist" in result.said


def test_a_single_value_is_completed_with_the_stored_ones(pyrunc, limited):
    """Only a quota, only a period; a limit below and above the stored swap limit; values are kept for later commands."""
    bundle, id = limited
    pyrunc.ok("update", "--cpu-period", "50000", id)
    pyrunc.ok("update", "--cpu-quota", "20000", id)
    if "cpu.max" in files(pyrunc, bundle):
        assert files(pyrunc, bundle)["cpu.max"] == "20000 50000"
    else:
        assert files(pyrunc, bundle)["cpu.cfs_quota_us"] == "20000" and files(pyrunc, bundle)["cpu.cfs_period_us"] == "50000"
    result = pyrunc.call("update", "--memory", "100m", id)
    assert result.code == 1 and "memory+swap limit should be >= memory limit" in result.err
    pyrunc.ok("update", "--memory", "32m", id)
    pyrunc.ok("update", "--memory", "100m", "--memory-swap", "200m", id)
    found = files(pyrunc, bundle)
    assert found.get("memory.limit_in_bytes", found.get("memory.max")) == str(100 << 20)
