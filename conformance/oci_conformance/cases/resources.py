"""config-linux.md#configLinuxMemory, #configLinuxCPU, #configLinuxBlockIO, …: limits as shown by the kernel, and their effect.

Each row: the property, the requirement, the value, the controller, and the file and its contents for versions 1 and 2."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from oci_conformance import machine as machines
from oci_conformance import system
from oci_conformance.case import add, case

if TYPE_CHECKING:
    from oci_conformance.case import CaseFunction
    from oci_conformance.container import Container
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


MIB = 1 << 20
UNLIMITED = "9223372036854771712"


def weight(shares: int) -> tuple[str, str]:
    """The two formulas in use for converting cpu.shares to cpu.weight: the linear one, and the one that maps 1024 to 100."""
    import math

    linear = 1 + (shares - 2) * 9999 // 262142
    exponent = math.log2(shares)
    return (str(linear), str(math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))))


ROWS = (
    ("memory_limit", "memory.limit", {"memory/limit": 64 * MIB}, "memory", ("memory.limit_in_bytes", 64 * MIB), ("memory.max", 64 * MIB)),
    ("memory_unlimited", "memory.unlimited", {"memory/limit": -1}, "memory", ("memory.limit_in_bytes", UNLIMITED), ("memory.max", "max")),
    (
        *("memory_reservation", "memory.reservation", {"memory/reservation": 32 * MIB}, "memory"),
        *(("memory.soft_limit_in_bytes", 32 * MIB), ("memory.low", 32 * MIB)),
    ),
    (
        *("memory_swap", "memory.swap", {"memory/limit": 64 * MIB, "memory/swap": 96 * MIB}, "memory"),
        *(("memory.memsw.limit_in_bytes", 96 * MIB), ("memory.swap.max", 32 * MIB)),
    ),
    ("memory_swappiness", "memory.swappiness", {"memory/swappiness": 10}, "memory", ("memory.swappiness", 10), None),
    (
        "memory_oom_killer",
        "memory.oom-killer",
        {"memory/disableOOMKiller": True},
        "memory",
        ("memory.oom_control", "oom_kill_disable 1"),
        None,
    ),
    ("cpu_shares", "cpu.shares", {"cpu/shares": 512}, "cpu", ("cpu.shares", 512), ("cpu.weight", weight(512))),
    (
        *("cpu_quota", "cpu.quota", {"cpu/quota": 40000, "cpu/period": 80000}, "cpu"),
        *(("cpu.cfs_quota_us", 40000), ("cpu.max", "40000 80000")),
    ),
    ("cpu_period", "cpu.period", {"cpu/period": 50000}, "cpu", ("cpu.cfs_period_us", 50000), ("cpu.max", "max 50000")),
    (
        *("cpu_burst", "cpu.burst", {"cpu/quota": 40000, "cpu/period": 80000, "cpu/burst": 20000}, "cpu"),
        *(("cpu.cfs_burst_us", 20000), ("cpu.max.burst", 20000)),
    ),
    ("cpu_idle", "cpu.idle", {"cpu/idle": 1}, "cpu", ("cpu.idle", 1), ("cpu.idle", 1)),
    ("cpu_mems", "cpu.mems", {"cpu/mems": "0"}, "cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    ("pids_limit", "pids.limit", {"pids/limit": 123}, "pids", ("pids.max", 123), ("pids.max", 123)),
    ("pids_unlimited", "pids.unlimited", {"pids/limit": -1}, "pids", ("pids.max", "max"), ("pids.max", "max")),
    ("network_class", "network.class", {"network/classID": 1048577}, "net_cls", ("net_cls.classid", 1048577), None),
)
REALTIME = {"cpu/realtimeRuntime": 20000, "cpu/realtimePeriod": 500000}


def file_of(t: Trial, made: Container, controller: str, rows: Json) -> tuple[str, Json]:
    """(path, expected contents) of the file that shows the setting."""
    name, wanted = rows[0] if controller in t.machine.controllers else rows[1]
    return os.path.join(t.machine.directory(controller, "/" + made.id), name), wanted


def limits(values: dict[str, Json]) -> dict[str, int]:
    return {"/linux/resources/" + name: value for name, value in values.items()}


def row_case(requirement: str, values: dict[str, Json], controller: str, *rows: Json) -> CaseFunction:
    def run(t: Trial) -> None:
        made = t.created(limits(values))
        path, wanted = file_of(t, made, controller, rows)
        text = system.read(path) or ""
        t.need(os.path.exists(path), "there is a file %s" % path.rpartition("/")[2])
        alternatives = wanted if isinstance(wanted, tuple) else (str(wanted),)
        seen = next((word for word in alternatives if word in text.splitlines() or word == text.strip()), text.strip())
        t.check(seen in alternatives, path.rpartition("/")[2], (), " or ".join(alternatives), seen)

    run.__doc__ = "%s is in the file of the %s controller." % (", ".join(sorted(values)), controller)
    return run


for name, requirement, values, controller, *rows in ROWS:
    function = row_case(requirement, values, controller, *rows)
    need = "controller:" if rows[1] else "v1:"  # version 2 has no such setting
    add("resources." + name, function, requirement.split(), "linux", need + controller)


@case("cpu.realtime", needs=("controller:cpu", "realtime-cgroup"))
def cpu_realtime(t: Trial) -> None:
    """realtimeRuntime and realtimePeriod are in the files of the cpu controller."""
    made = t.created(limits(REALTIME))
    for name, value in (("cpu.rt_runtime_us", 20000), ("cpu.rt_period_us", 500000)):
        seen = system.read(os.path.join(t.machine.directory("cpu", "/" + made.id), name))
        t.equal((seen or "").strip(), str(value), name)


@case("cpu.cpus", needs=("controller:cpuset", "two-cpus", "probe"))
def cpu_cpus(t: Trial) -> None:
    """The program can only run on the processors in cpus."""
    one = t.machine.cpus[-1]
    t.equal(t.observe(limits({"cpu/cpus": str(one)})).get("cpus"), [one], "processors of the program")


@case("pids.limit", needs=("controller:pids", "probe"), level="core")
def pids_effect(t: Trial) -> None:
    """The program can have no more processes than the limit."""
    seen = t.observe(limits({"pids/limit": 9}), "forks 30")
    t.equal((seen.get("made"), seen.get("errno")), (8, errno.EAGAIN), "children that could be made, and the error of the next")


@case("pids.zero", needs="controller:pids")
def pids_zero(t: Trial) -> None:
    """A limit of zero is applied."""
    made = t.created(limits({"pids/limit": 0}))
    seen = system.read(t.machine.directory("pids", "/" + made.id) + "/pids.max")
    t.check((seen or "").strip() in ("0", "1"), "pids.max", (), "0", seen)


THROTTLES = {
    "read-bps": ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    "write-bps": ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    "read-iops": ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    "write-iops": ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
}


@case(*("block-io." + name for name in THROTTLES), needs="block-device")
def throttles(t: Trial) -> None:
    """The four kinds of throttling are applied to a disk."""
    version_1 = "blkio" in t.machine.controllers
    if not version_1 and not t.machine.version_2("io"):
        t.skip("neither blkio nor io is mounted")
    disk = machines.block_device()
    assert disk, "the case needs block-device"
    major, minor = disk
    entries = {row[0]: [{"major": major, "minor": minor, "rate": 1_000_000 + i}] for i, row in enumerate(THROTTLES.values())}
    made = t.created({"/linux/resources/blockIO": entries})
    for i, (name, (_, file, word)) in enumerate(THROTTLES.items()):
        if version_1:
            seen = system.read(t.machine.controllers["blkio"] + "/" + made.id + "/" + file) or ""
            wanted = "%d:%d %d" % (major, minor, 1_000_000 + i)
            t.has(wanted, seen.splitlines(), file, "block-io." + name)
        else:
            seen = system.read(t.machine.directory("unified", "/" + made.id) + "/io.max") or ""
            line = next((line.split() for line in seen.splitlines() if line.startswith("%d:%d " % (major, minor))), [])
            t.has("%s=%d" % (word, 1_000_000 + i), line, "io.max", "block-io." + name)


def weight_texts(t: Trial, made: Container) -> dict[str, str]:
    top = t.machine.controllers.get("blkio") or t.machine.directory("unified", "")
    files = ("blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight", "blkio.bfq.weight_device", "blkio.weight_device")
    return {name: system.read(os.path.join(top, made.id, name)) or "" for name in files}


@case("block-io.weight", needs="io-weight")
def io_weight(t: Trial) -> None:
    """blockIO.weight is applied, unchanged or scaled to the range of version 2."""
    made = t.created({"/linux/resources/blockIO": {"weight": 200}})
    texts = weight_texts(t, made)
    wanted = {"200", str(1 + (200 - 10) * 9999 // 990)}
    words = {word for text in texts.values() for word in text.split()}
    t.check(words & wanted, "the weight is in one of the files", (), sorted(wanted), texts)


@case("block-io.weight-device", needs="weighted-disk")
def io_weight_device(t: Trial) -> None:
    """blockIO.weightDevice is applied to a disk."""
    numbers = machines.block_device("[bfq]")
    assert numbers, "the case needs weighted-disk"
    made = t.created({"/linux/resources/blockIO": {"weightDevice": [{"major": numbers[0], "minor": numbers[1], "weight": 300}]}})
    texts = weight_texts(t, made)
    line = "%d:%d 300" % numbers
    t.check(any(line in text for text in texts.values()), "the weight of the disk", (), line, texts)


@case("huge-pages.limit", needs=("controller:hugetlb", "huge-pages"))
def huge_pages(t: Trial) -> None:
    """The limit is applied for its page size, and to reservations if the kernel counts them."""
    size = machines.huge_pages()[0]
    limit = 4 << 30
    made = t.created({"/linux/resources/hugepageLimits": [{"pageSize": size, "limit": limit}]})
    directory = t.machine.directory("hugetlb", "/" + made.id)
    last = "limit_in_bytes" if "hugetlb" in t.machine.controllers else "max"
    reserved, used = ("hugetlb.%s.%s%s" % (size, middle, last) for middle in ("rsvd.", ""))
    name = reserved if os.path.exists(os.path.join(directory, reserved)) else used
    t.equal((system.read(os.path.join(directory, name)) or "").strip(), str(limit), name)


@case("huge-pages.size", needs="controller:hugetlb")
def huge_pages_unknown(t: Trial) -> None:
    """A page size that the machine does not have gives an error."""
    t.refused({"/linux/resources/hugepageLimits": [{"pageSize": "3MB", "limit": 0}]})


@case("network.priorities", needs="controller:net_prio")
def network_priorities(t: Trial) -> None:
    """The priority of an interface is applied."""
    made = t.created({"/linux/resources/network/priorities": [{"name": "lo", "priority": 5}]})
    seen = system.read(t.machine.controllers["net_prio"] + "/" + made.id + "/net_prio.ifpriomap") or ""
    t.has("lo 5", seen.splitlines(), "net_prio.ifpriomap")


@case("op.create.cannot-apply", "values.range", level="core")
def impossible(t: Trial) -> None:
    """Limits that the kernel does not accept give an error."""
    t.refused(limits({"cpu/quota": 10, "cpu/period": 80000}), "op.create.cannot-apply", what="a quota of 10 µs gives an error")
    t.refused(limits({"cpu/cpus": "4000-4001"}), "op.create.cannot-apply", what="processors that do not exist give an error")


@case("memory.limit", needs="controller:memory", level="core")
def usage_counted(t: Trial) -> None:
    """The memory of the program is charged to the cgroup that has the limit."""
    made = t.running(limits({"memory/limit": 64 * MIB}))
    directory = t.machine.directory("memory", "/" + made.id)
    procs = (system.read(directory + "/cgroup.procs") or "").split()
    t.has(str(made.pid), procs, "processes of the cgroup")
