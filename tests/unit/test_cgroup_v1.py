"""cgroup/v1.py: neutral resources become control files, as tables; a dictionary takes the place of the directory."""

import errno

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import v1
from pyrunc.errors import StepFailure

LIMIT, SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


@pytest.mark.parametrize(
    "mem, files, written",
    [
        ({"limit": 100}, {LIMIT: "999"}, [LIMIT + "=100"]),
        ({"limit": -1}, {LIMIT: "9", SWAP: "9"}, [SWAP + "=-1", LIMIT + "=-1"]),
        ({"limit": -1}, {LIMIT: "9"}, [LIMIT + "=-1"]),  # a kernel without swap accounting
        ({"limit": 100, "swap": 200}, {LIMIT: "50"}, [SWAP + "=200", LIMIT + "=100"]),  # growing
        ({"limit": 100, "swap": 200}, {LIMIT: "500"}, [LIMIT + "=100", SWAP + "=200"]),  # shrinking
        ({"limit": 100, "swap": -1}, {LIMIT: "500"}, [SWAP + "=-1", LIMIT + "=100"]),
        ({"swap": 200}, {}, [SWAP + "=200"]),
        ({"reservation": 50}, {}, ["memory.soft_limit_in_bytes=50"]),
        ({"swappiness": 0}, {}, ["memory.swappiness=0"]),
        ({"oom_off": True}, {}, ["memory.oom_control=1"]),
        ({"hierarchy": True}, {}, ["memory.use_hierarchy=1"]),
        ({}, {}, []),
    ],
)
def test_memory(mem, files, written):
    group = tools.Files(files)
    v1.memory(group, mem)
    assert group.written == written


def test_memory_limit_below_usage_names_it():
    group = tools.Files({LIMIT: "9", "memory.usage_in_bytes": "700\n", "memory.max_usage_in_bytes": "800\n"}, {LIMIT: errno.EBUSY})
    with pytest.raises(StepFailure) as e:
        v1.memory(group, {"limit": 500})
    assert e.value.words == "unable to set memory limit to 500 (current usage: 700, peak usage: 800)"
    assert e.value.pointer == "/linux/resources/memory/limit"


BURST = {"cpu.cfs_burst_us": "0"}


@pytest.mark.parametrize(
    "cpu, files, refuse, written",
    [
        ({"shares": 512}, {}, {}, ["cpu.shares=512"]),
        ({"quota": 5000, "period": 10000}, {}, {}, ["cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000"]),
        ({"quota": 5000, "period": 10000}, {}, {"cpu.cfs_period_us": errno.EINVAL}, ["cpu.cfs_quota_us=5000", "cpu.cfs_period_us=10000"]),
        ({"quota": -1}, {}, {}, ["cpu.cfs_quota_us=-1"]),
        ({"burst": 100}, BURST, {}, ["cpu.cfs_burst_us=100"]),
        ({"burst": 100}, {}, {}, []),  # before kernel 5.14
        ({"burst": 100, "quota": 5000}, BURST, {"cpu.cfs_burst_us": errno.EINVAL}, ["cpu.cfs_quota_us=5000", "cpu.cfs_burst_us=100"]),
        ({"idle": 1}, {}, {}, ["cpu.idle=1"]),
        ({"rt_runtime": 10, "rt_period": 20}, {}, {}, ["cpu.rt_period_us=20", "cpu.rt_runtime_us=10"]),
        ({"rt_runtime": 10, "rt_period": 20}, {}, {"cpu.rt_period_us": errno.EINVAL}, ["cpu.rt_runtime_us=10", "cpu.rt_period_us=20"]),
    ],
)
def test_cpu(cpu, files, refuse, written):
    group = tools.Files(files, refuse, "cpu")
    v1.cpu(group, cpu)
    assert group.written == written


def test_a_refused_period_without_quota_is_an_error():
    with pytest.raises(StepFailure) as e:
        v1.cpu(tools.Files({}, {"cpu.cfs_period_us": errno.EINVAL}, "cpu"), {"period": 1000})
    assert e.value.pointer == "/linux/resources/cpu/period"
    assert 'failed to write "1000" to /sys/fs/cgroup/cpu/cpu.cfs_period_us: invalid argument' == e.value.words


@pytest.mark.parametrize(
    "cpu, refuse, pointer",
    [
        ({"rt_period": 20}, {"cpu.rt_period_us": errno.EINVAL}, "/linux/resources/cpu/realtimePeriod"),
        ({"rt_runtime": 10, "rt_period": 20}, {"cpu.rt_period_us": errno.EPERM}, "/linux/resources/cpu/realtimePeriod"),
        (
            {"rt_runtime": 10, "rt_period": 20}, {"cpu.rt_period_us": errno.EINVAL, "cpu.rt_runtime_us": errno.EINVAL},
            "/linux/resources/cpu/realtimeRuntime",
        ),
    ],
)  # fmt: skip
def test_refused_realtime_limits_are_errors(cpu, refuse, pointer):
    with pytest.raises(StepFailure) as e:
        v1.cpu(tools.Files({}, refuse, "cpu"), cpu)
    assert e.value.pointer == pointer


@pytest.mark.parametrize(
    "asked, kept, words", [(1, "2", "the minimum allowed cpu-shares is 2"), (300000, "262144", "the maximum allowed cpu-shares is 262144")]
)
def test_clamped_shares_are_an_error(asked, kept, words):
    class Clamping(tools.Files):
        def put(self, name, value):
            self.files[name] = kept

    with pytest.raises(StepFailure) as e:
        v1.cpu(Clamping(), {"shares": asked})
    assert e.value.words == words


@pytest.mark.parametrize("limit, text", [(10, "10"), (-1, "max"), (0, "max"), (1, "1")])
def test_pids(limit, text):
    group = tools.Files()
    v1.pids(group, {"limit": limit})
    assert group.written == ["pids.max=" + text]


@pytest.mark.parametrize("prefix", ["", "bfq."])
def test_block_io(prefix):
    names = ["blkio.%sweight" % prefix, "blkio.%sweight_device" % prefix, "blkio.leaf_weight", "blkio.leaf_weight_device"]
    group = tools.Files(dict.fromkeys(names, ""))
    v1.blkio(
        group,
        {
            "weight": 500, "leaf_weight": 300, "devices": [[8, 0, 100, 50], [8, 16, None, 20]],
            "throttle": [["rbps", 8, 0, 1000, "p"], ["wiops", 8, 16, 0, "p"]],
        },
    )  # fmt: skip
    assert group.written == [
        names[0] + "=500", "blkio.leaf_weight=300", names[1] + "=8:0 100", "blkio.leaf_weight_device=8:0 50",
        "blkio.leaf_weight_device=8:16 20",
        "blkio.throttle.read_bps_device=8:0 1000", "blkio.throttle.write_iops_device=8:16 0",
    ]  # fmt: skip


def test_block_io_weight_without_a_scheduler_for_it():
    with pytest.raises(StepFailure) as e:
        v1.blkio(tools.Files(), {"weight": 500})
    assert e.value.pointer == "/linux/resources/blockIO/weight" and "weights are not available" in e.value.words


@pytest.mark.parametrize("rsvd", [True, False])
def test_huge_pages(rsvd):
    group = tools.Files({"hugetlb.2MB.rsvd.limit_in_bytes": "9"} if rsvd else {})
    v1.hugetlb(group, [["2MB", 0]])
    assert group.written == ["hugetlb.2MB.limit_in_bytes=0"] + ["hugetlb.2MB.rsvd.limit_in_bytes=0"] * rsvd


def test_network_and_rdma():
    group = tools.Files()
    v1.net_cls(group, {"class": 1048577})
    v1.net_prio(group, {"priorities": [["lo", 5], ["eth0", 7]]})
    v1.rdma(group, [["mlx5_1", 3, 10000], ["mlx4_0", None, 50], ["rxe3", 7, None]])
    assert group.written == [
        "net_cls.classid=1048577", "net_prio.ifpriomap=lo 5", "net_prio.ifpriomap=eth0 7", "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        "rdma.max=mlx4_0 hca_object=50", "rdma.max=rxe3 hca_handle=7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "resources, controllers",
    [
        ({"cpu": {"cpus": "0"}}, ["cpuset"]),
        ({"cpu": {"quota": 5000}}, ["cpu"]),
        ({"cpu": {"quota": 5000, "mems": "0"}, "pids": {"limit": 1}}, ["cpuset", "cpu", "pids"]),
        ({"network": {"class": 1}}, ["net_cls"]),
        ({"memory": {"limit": 1}, "devices": [], "asked": True}, ["memory"]),
        ({}, []),
    ],
)
def test_only_the_controllers_that_are_needed(resources, controllers):
    assert [row[0] for row in v1.needed(resources)] == controllers


def test_a_wanted_controller_without_a_cgroup_is_an_error():
    with pytest.raises(StepFailure) as e:
        v1.apply({"cpu": "/x"}, {"memory": {"limit": 1}})
    assert e.value.words == "cannot set memory limit: container could not join or create cgroup"


def test_errors_avoid_the_words_that_callers_take_for_a_missing_program():
    for number in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
        with pytest.raises(StepFailure) as e:
            v1.pids(tools.Files({}, {"pids.max": number}, "pids"), {"limit": 1})
        sentence = e.value.sentence().lower()
        assert not any(words in sentence for words in ("no such file", "permission denied", "not permitted", "not found"))
        assert errno.errorcode[number] in e.value.sentence()
