"""The neutral resources of parts/resources -> control files of cgroup v1.

Documentation/admin-guide/cgroup-v1 of the kernel. Invariant: only requested values are written, in an order that the kernel accepts whether
limits are raised or lowered.
"""

from __future__ import annotations

import errno

from pyrunc.cgroup import fs
from pyrunc.cgroup.group import Group, not_joined
from pyrunc.errors import StepFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from pyrunc.cgroup.shapes import Blkio, Cpu, Keyed, Memory, Network, Pids, Row
    from pyrunc.cgroup.tree import Prepare

    Written: TypeAlias = Any  # a value of Limits; the function that is named with it declares its type
    Opener: TypeAlias = Callable[[str, str], Group]
    Late: TypeAlias = list[tuple[str, int, str]]  # [(file, value, member of the config)] to write after another value

POINTER = "/linux/resources"
# neutral key -> (controller, function name, pointer); in the order of application
ORDER = (
    ("cpu", "cpuset", "cpuset", "/cpu"),
    ("memory", "memory", "memory", "/memory"),
    ("cpu", "cpu", "cpu", "/cpu"),
    ("pids", "pids", "pids", "/pids"),
    ("blkio", "blkio", "blkio", "/blockIO"),
    ("hugetlb", "hugetlb", "hugetlb", "/hugepageLimits"),
    ("network", "net_cls", "net_cls", "/network/classID"),
    ("network", "net_prio", "net_prio", "/network/priorities"),
    ("rdma", "rdma", "rdma", "/rdma"),
)
# the members of a neutral object that require a controller; None: any
MEMBERS = {
    "cpuset": ("cpus", "mems"),
    "cpu": ("shares", "quota", "period", "burst", "idle", "rt_runtime", "rt_period"),
    "net_cls": ("class",),
    "net_prio": ("priorities",),
}


def needed(resources: Keyed) -> list[tuple[str, Written, str, str]]:
    """[(controller, neutral part, function name, pointer)] for everything to write, in order."""
    out = []
    for key, controller, function, pointer in ORDER:
        part = resources.get(key)
        if not part:
            continue
        members = MEMBERS.get(controller)
        if members is None or any(m in part for m in members):
            out.append((controller, part, function, POINTER + pointer))
    return out


def apply(paths: Mapping[str, str], resources: Keyed, open_group: Opener = Group) -> None:
    """Writes all limits except device rules. StepFailure with file, value and pointer. open_group(path, key): `update` passes one that
    records writes."""
    if resources.get("unified"):
        raise StepFailure("no-unified", "invalid configuration: cannot use unified on cgroup v1", pointer=POINTER + "/unified")
    for controller, part, function, pointer in needed(resources):
        path = paths.get(controller)
        if path is None:
            raise not_joined(controller, pointer)
        group = open_group(path, controller)
        try:
            WRITERS[function](group, part)
        finally:
            group.close()


def cpuset(group: Group, cpu: Cpu) -> None:
    for name in ("cpus", "mems"):
        if name in cpu:
            group.write("cpuset." + name, cpu[name], "%s/cpu/%s" % (POINTER, name))


# --- memory

LIMIT = "memory.limit_in_bytes"
SWAP = "memory.memsw.limit_in_bytes"


def memory(group: Group, mem: Memory) -> None:
    """memsw must never be below the limit: it is written first if it is raised or removed, else last."""
    limit = mem.get("limit", 0)
    swap = mem.get("swap", 0)
    if limit == -1 and swap == 0 and group.has(SWAP):
        swap = -1  # unlimited memory with the old limit on swap would be a surprise
    current = group.number(LIMIT) if limit and swap else None
    if current is not None and (swap == -1 or current < swap):
        _swap(group, swap)
        _limit(group, limit)
    else:
        _limit(group, limit)
        _swap(group, swap)
    if mem.get("reservation"):
        group.write("memory.soft_limit_in_bytes", "%d" % mem["reservation"], POINTER + "/memory/reservation")
    if mem.get("hierarchy"):
        group.write("memory.use_hierarchy", "1", POINTER + "/memory/useHierarchy")
    if mem.get("oom_off"):
        group.write("memory.oom_control", "1", POINTER + "/memory/disableOOMKiller")
    if "swappiness" in mem:
        group.write("memory.swappiness", "%d" % mem["swappiness"], POINTER + "/memory/swappiness")


def _swap(group: Group, swap: int) -> None:
    if swap:
        group.write(SWAP, "%d" % swap, POINTER + "/memory/swap")


def _limit(group: Group, limit: int) -> None:
    if not limit:
        return
    try:
        group.put(LIMIT, "%d" % limit)
    except OSError as e:
        if e.errno != errno.EBUSY:
            raise group.failure(e, LIMIT, "%d" % limit, POINTER + "/memory/limit") from None
        usage, peak = group.number("memory.usage_in_bytes"), group.number("memory.max_usage_in_bytes")
        raise StepFailure(
            "limit-below-usage", "unable to set memory limit to %d (current usage: %s, peak usage: %s)" % (limit, usage, peak),
            pointer=POINTER + "/memory/limit", call="write", errno=e.errno, path=group.path + "/" + LIMIT,
        ) from None  # fmt: skip


# --- cpu


def cpu(group: Group, cpu: Cpu) -> None:
    """The kernel may refuse the period because of the old quota, and a burst without a quota: then they are written after the quota."""
    quota = cpu.get("quota", 0)
    if cpu.get("shares"):
        _shares(group, cpu["shares"])
    late: Late = []
    if cpu.get("period"):
        _early(group, "cpu.cfs_period_us", cpu["period"], "period", quota, late)
    if "burst" in cpu and group.has("cpu.cfs_burst_us"):  # since Linux 5.14; older kernels have no bursts to limit
        _early(group, "cpu.cfs_burst_us", cpu["burst"], "burst", quota, late)
    if quota:
        group.write("cpu.cfs_quota_us", "%d" % quota, POINTER + "/cpu/quota")
    for name, value, member in late:
        group.write(name, "%d" % value, "%s/cpu/%s" % (POINTER, member))
    if "idle" in cpu:
        group.write("cpu.idle", "%d" % cpu["idle"], POINTER + "/cpu/idle")
    realtime(group, cpu)


def _shares(group: Group, shares: int) -> None:
    """The kernel clamps silently; a value that reads back differently is an error, as in runc."""
    group.write("cpu.shares", "%d" % shares, POINTER + "/cpu/shares")
    now = group.number("cpu.shares")
    if now is not None and now != shares:
        words = "the %s allowed cpu-shares is %d" % ("maximum" if shares > now else "minimum", now)
        raise StepFailure("shares-clamped", words, pointer=POINTER + "/cpu/shares", call="write", path=group.path + "/cpu.shares")


def _early(group: Group, name: str, value: int, member: str, quota: int, late: Late) -> None:
    try:
        group.put(name, "%d" % value)
    except OSError as e:
        if e.errno != errno.EINVAL or not quota:
            raise group.failure(e, name, "%d" % value, "%s/cpu/%s" % (POINTER, member)) from None
        late.append((name, value, member))


def realtime(group: Group, cpu: Cpu) -> None:
    """Writes the period first, because the runtime must fit into it, or the runtime first if the old one does not fit into the new period.
    Also called before init joins, because a task in a realtime class can't enter a cgroup without a runtime."""
    late = False
    if "rt_period" in cpu:
        late = not _period(group, "%d" % cpu["rt_period"], "rt_runtime" in cpu)
    if "rt_runtime" in cpu:
        group.write("cpu.rt_runtime_us", "%d" % cpu["rt_runtime"], POINTER + "/cpu/realtimeRuntime")
    if late:
        _period(group, "%d" % cpu["rt_period"], False)


def _period(group: Group, value: str, may_wait: bool) -> bool:
    """Writes the realtime period. False if the runtime must be changed first."""
    try:
        group.put("cpu.rt_period_us", value)
    except OSError as e:
        if e.errno == errno.EINVAL and may_wait:
            return False
        raise group.failure(e, "cpu.rt_period_us", value, POINTER + "/cpu/realtimePeriod") from None
    return True


# --- the others


def pids(group: Group, part: Pids) -> None:
    limit = part["limit"]
    group.write("pids.max", "max" if limit <= 0 else "%d" % limit, POINTER + "/pids/limit")


def blkio(group: Group, io: Blkio) -> None:
    """The proportional weights are in CFQ's files (before Linux 5.0) or BFQ's."""
    at = POINTER + "/blockIO"
    bfq = "bfq." if group.has("blkio.bfq.weight") else ""
    if "weight" in io:
        _weight(group, "blkio.%sweight" % bfq, "%d" % io["weight"], at + "/weight")
    if "leaf_weight" in io:
        _weight(group, "blkio.leaf_weight", "%d" % io["leaf_weight"], at + "/leafWeight")
    for number, (major, minor, weight, leaf) in enumerate(io.get("devices", ())):
        pointer = "%s/weightDevice/%d" % (at, number)
        if weight is not None:
            _weight(group, "blkio.%sweight_device" % bfq, "%d:%d %d" % (major, minor, weight), pointer)
        if leaf is not None:
            _weight(group, "blkio.leaf_weight_device", "%d:%d %d" % (major, minor, leaf), pointer)
    for kind, major, minor, rate, pointer in io.get("throttle", ()):
        way, unit = THROTTLE[kind]
        group.write("blkio.throttle.%s_%s_device" % (way, unit), "%d:%d %d" % (major, minor, rate), pointer)


THROTTLE = {"rbps": ("read", "bps"), "wbps": ("write", "bps"), "riops": ("read", "iops"), "wiops": ("write", "iops")}


def _weight(group: Group, name: str, value: str, pointer: str) -> None:
    if not group.has(name):
        raise StepFailure(
            "no-io-weights", "block I/O weights are not available: %s has neither CFQ's nor BFQ's %s" % (group.path, name.rpartition(".")[2]),
            pointer=pointer, path=group.path + "/" + name, hint="the kernel needs the BFQ scheduler (CONFIG_BFQ_GROUP_IOSCHED)",
        )  # fmt: skip
    group.write(name, value, pointer)


def hugetlb(group: Group, limits: Sequence[Row]) -> None:
    for number, (size, limit) in enumerate(limits):
        pointer = "%s/hugepageLimits/%d" % (POINTER, number)
        group.write("hugetlb.%s.limit_in_bytes" % size, "%d" % limit, pointer)
        rsvd = "hugetlb.%s.rsvd.limit_in_bytes" % size  # since kernel 5.7
        if group.has(rsvd):
            group.write(rsvd, "%d" % limit, pointer)


def net_cls(group: Group, network: Network) -> None:
    group.write("net_cls.classid", "%d" % network["class"], POINTER + "/network/classID")


def net_prio(group: Group, network: Network) -> None:
    for number, (name, priority) in enumerate(network["priorities"]):
        group.write("net_prio.ifpriomap", "%s %d" % (name, priority), "%s/network/priorities/%d" % (POINTER, number))


def rdma(group: Group, devices: Sequence[Row]) -> None:
    for device, handles, objects in devices:
        group.write("rdma.max", rdma_line(device, handles, objects), "%s/rdma/%s" % (POINTER, device))


def rdma_line(device: str, handles: int | None, objects: int | None) -> str:
    line = device
    if handles is not None:
        line += " hca_handle=%d" % handles
    if objects is not None:
        line += " hca_object=%d" % objects
    return line


WRITERS: dict[str, Callable[[Group, Written], None]] = {
    "cpuset": cpuset, "memory": memory, "cpu": cpu, "pids": pids, "blkio": blkio, "hugetlb": hugetlb, "net_cls": net_cls,
    "net_prio": net_prio,
    "rdma": rdma,
}  # fmt: skip


# --- while a cgroup is created


def preparer(key: str, resources: Keyed) -> Prepare | None:
    """Returns what tree.make calls for each new level: it fills cpusets, because an empty one accepts no process, and sets a realtime
    budget before init joins."""
    if key == "cpuset":
        return _fill_cpuset
    part: Cpu = resources["cpu"] if resources.get("cpu") else {}
    if "rt_runtime" not in part and "rt_period" not in part:
        return None

    def budget(fd: int, parent_fd: int, path: str, last: bool) -> None:
        if last:
            realtime(_Open(fd, path), part)

    return budget


class _Open(Group):
    """A Group on a descriptor that it does not own."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.key = "cpu"
        self.notes = None


def _fill_cpuset(fd: int, parent_fd: int, path: str, last: bool) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if fs.read(fd, name, path).strip():
            continue
        value = fs.read(parent_fd, name, path.rpartition("/")[0]).strip()
        if value:
            fs.write(fd, name, value, path)
