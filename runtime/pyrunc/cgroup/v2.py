"""The neutral resources of parts/resources -> control files of cgroup v2, and the controllers that must be enabled for them.

Documentation/admin-guide/cgroup-v2.rst of the kernel. Invariant: `unified` is written last, so it overrides everything else. plan() has
refused what v2 has no file for.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.cgroup import fs, v1
from pyrunc.cgroup.group import Group
from pyrunc.cgroup.hierarchies import controllers
from pyrunc.errors import CallError, StepFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyrunc.cgroup.shapes import Blkio, Cpu, Keyed, Memory, Pids, Row
    from pyrunc.cgroup.tree import Prepare
    from pyrunc.cgroup.v1 import Opener

POINTER = "/linux/resources"
DOMAIN_ONLY = ("memory", "io", "hugetlb")  # controllers that a threaded cgroup can't have
PERIOD = 100000


def apply(paths: Mapping[str, str], resources: Keyed, open_group: Opener = Group) -> None:
    """Writes all limits except device rules. StepFailure with file, value and pointer. open_group(path, key): `update` passes one that
    records writes."""
    group = open_group(paths["unified"], "unified")
    try:
        for key, writer in WRITERS:
            if resources.get(key):
                writer(group, resources[key])
    finally:
        group.close()


def pids(group: Group, part: Pids) -> None:
    limit = part["limit"]
    group.write("pids.max", "max" if limit <= 0 else "%d" % limit, POINTER + "/pids/limit")


# --- memory


def swap_value(limit: int, swap: int) -> str | None:
    """The config's memory+swap -> the value for memory.swap.max, or None. plan() has checked the config's rules."""
    if limit == -1 and swap == 0:
        return "max"  # unlimited memory with the old limit on swap would be a surprise
    if swap == 0:
        return None
    if swap == -1:
        return "max"
    return "%d" % (swap if limit == -1 else swap - limit)


def memory(group: Group, mem: Memory) -> None:
    """Writes swap first: lowering the memory limit may swap pages out immediately."""
    limit = mem.get("limit", 0)
    if mem.get("check"):
        check_usage(group, mem)
    swap = swap_value(limit, mem.get("swap", 0))
    if swap is not None:
        try:
            group.put("memory.swap.max", swap)
        except OSError as e:
            if e.errno != errno.ENOENT or swap not in ("max", "0"):  # a kernel without swap: both are already the case
                raise group.failure(e, "memory.swap.max", swap, POINTER + "/memory/swap") from None
    if limit:
        group.write("memory.max", bytes_value(limit), POINTER + "/memory/limit")
    if mem.get("reservation"):
        group.write("memory.low", bytes_value(mem["reservation"]), POINTER + "/memory/reservation")


def bytes_value(number: int) -> str:
    return "max" if number == -1 else "%d" % number


def check_usage(group: Group, mem: Memory) -> None:
    """checkBeforeUpdate: refuses a limit below the current usage, which would make the kernel kill processes. Skipped if the usage can't be
    read."""
    usage = group.number("memory.current")
    if usage is None:
        return
    for value, what, member in ((mem.get("limit", 0), "memory limit", "limit"), (mem.get("swap", 0), "memory+swap limit", "swap")):
        if 0 < value <= usage:
            raise StepFailure(
                "limit-below-usage",
                "rejecting %s %d <= usage %d" % (what, value, usage),
                pointer="%s/memory/%s" % (POINTER, member),
                path=group.path,
            )


# --- cpu


def weight_of(shares: int) -> int:
    """cpu.shares of v1 (2..262144) -> cpu.weight (1..10000) such that 2, 1024 and 262144 become 1, 100 and 10000.

    weight = 10 ^ ((l^2 + 125 l) / 612 - 7/34) with l = log2(shares), rounded up: the formula that runc, crun and youki share
    since 2025. The old linear one gave the default of 1024 a weight of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = log2(shares)
    return -int(-(10 ** ((power * power + 125 * power) / 612 - 7 / 34)) // 1)


def log2(number: int) -> float:
    """Binary logarithm of a positive int, bit by bit: the module math is a separate file, which the hot path does not load."""
    power: float = number.bit_length() - 1
    rest = number / (1 << int(power))
    bit = 0.5
    while bit > 1e-15:
        rest *= rest
        if rest >= 2:
            rest /= 2
            power += bit
        bit /= 2
    return power


def cpu(group: Group, part: Cpu) -> None:
    """An idle group accepts no weight, so idle is cleared first. If only one of quota and period is given, the other is kept."""
    if "idle" in part:
        group.write("cpu.idle", "%d" % part["idle"], POINTER + "/cpu/idle")
    if part.get("shares") and part.get("idle") != 1:
        group.write("cpu.weight", "%d" % weight_of(part["shares"]), POINTER + "/cpu/shares")
    quota, period = part.get("quota", 0), part.get("period", 0)
    late = False
    if "burst" in part:
        late = not _burst(group, part["burst"], bool(quota))
    if quota or period:
        pointer = POINTER + ("/cpu/quota" if quota else "/cpu/period")
        group.write("cpu.max", cpu_max(quota, period, group.look("cpu.max") if not (quota and period) else None), pointer)
    if late:
        _burst(group, part["burst"], False)


def cpu_max(quota: int, period: int, now: str | None) -> str:
    """'QUOTA PERIOD' for cpu.max; a value of 0 is taken from `now`, the current content of the file."""
    words = (now or "").split()
    if len(words) != 2:
        words = ["max", "%d" % PERIOD]
    left = words[0] if quota == 0 else "max" if quota < 0 else "%d" % quota
    return "%s %s" % (left, period or words[1])


def _burst(group: Group, burst: int, may_fail: bool) -> bool:
    """False if the kernel refuses a burst before there is a quota."""
    try:
        group.put("cpu.max.burst", "%d" % burst)
    except OSError as e:
        if e.errno == errno.EINVAL and may_fail:
            return False
        raise group.failure(e, "cpu.max.burst", "%d" % burst, POINTER + "/cpu/burst") from None
    return True


def cpuset(group: Group, part: Cpu) -> None:
    for name in ("cpus", "mems"):
        if name in part:
            group.write("cpuset." + name, part[name], "%s/cpu/%s" % (POINTER, name))


# --- io and the others


def io_weight_of(weight: int) -> int:
    """blkio weight 10..1000 -> io.weight 1..10000."""
    return 1 + (weight - 10) * 9999 // 990


def io(group: Group, part: Blkio) -> None:
    """BFQ has a separate file with v1's range. io.max accepts one key at a time and merges."""
    at = POINTER + "/blockIO"
    bfq = group.has("io.bfq.weight")
    name = "io.bfq.weight" if bfq else "io.weight"
    if "weight" in part:
        group.write(name, "%d" % (part["weight"] if bfq else io_weight_of(part["weight"])), at + "/weight")
    for number, (major, minor, weight, _leaf) in enumerate(part.get("devices", ())):
        if weight is not None:
            value = weight if bfq else io_weight_of(weight)
            group.write(name, "%d:%d %d" % (major, minor, value), "%s/weightDevice/%d" % (at, number))
    for kind, major, minor, rate, pointer in part.get("throttle", ()):
        group.write("io.max", "%d:%d %s=%s" % (major, minor, kind, rate or "max"), pointer)


def hugetlb(group: Group, limits: Sequence[Row]) -> None:
    for number, (size, limit) in enumerate(limits):
        pointer = "%s/hugepageLimits/%d" % (POINTER, number)
        group.write("hugetlb.%s.max" % size, "%d" % limit, pointer)
        rsvd = "hugetlb.%s.rsvd.max" % size  # since kernel 5.7
        if group.has(rsvd):
            group.write(rsvd, "%d" % limit, pointer)


def unified(group: Group, pairs: Iterable[Sequence[str]]) -> None:
    """Writes one line at a time: files with several devices accept one line per write."""
    for key, value in pairs:
        pointer = "%s/unified/%s" % (POINTER, key)
        for line in value.split("\n") if value else ("",):
            if line or not value:
                _unified_line(group, key, line, pointer)


def _unified_line(group: Group, key: str, line: str, pointer: str) -> None:
    try:
        group.put(key, line)
    except OSError as e:
        controller = key.partition(".")[0]
        missing = e.errno in (errno.ENOENT, errno.EPERM, errno.EACCES) and controller not in ("cgroup",)
        if missing and controller not in controllers(group.path):
            failed = CallError.of(e)
            _reason, hint = explain_missing(group.path, key, failed.errno)
            words = 'unified resource "%s" can\'t be set: controller "%s" not available' % (key, controller)
            raise StepFailure("no-controller", words, None, None, pointer, failed.call, e.errno, group.path + "/" + key, hint) from None
        raise group.failure(e, key, line, pointer) from None


WRITERS = (
    ("pids", pids), ("memory", memory), ("blkio", io), ("cpu", cpu), ("cpu", cpuset), ("hugetlb", hugetlb), ("rdma", v1.rdma),
    ("unified", unified),
)  # fmt: skip


# --- controllers


def preparer(resources: Keyed) -> Prepare:
    """Returns what tree.make calls for each new level: it enables all of the parent's controllers, and makes a new level threaded if it is
    invalid because it is below a threaded cgroup, unless a wanted controller does not support that."""
    wanted = [c for c in DOMAIN_ONLY if _wants(resources, c)]

    def prepare(fd: int, parent_fd: int, path: str, last: bool) -> None:
        enable(parent_fd, wanted, path.rpartition("/")[0])
        kind = (fs.look(fd, "cgroup.type") or "domain").strip()
        if kind == "domain" or kind == "domain threaded":
            return
        if wanted:
            state = "an invalid state" if "invalid" in kind else kind + " mode"
            raise StepFailure(
                "threaded-cgroup", "cannot enter cgroupv2 %s with domain controllers -- it is in %s" % (path, state), pointer=POINTER, path=path,
                hint="%s can't be limited below a threaded cgroup" % ", ".join(wanted),
            )  # fmt: skip
        if kind == "domain invalid":
            fs.write(fd, "cgroup.type", "threaded", path)

    return prepare


def _wants(resources: Keyed, controller: str) -> bool:
    if any(key.partition(".")[0] == controller for key, _value in resources.get("unified") or ()):
        return True
    return bool(resources.get({"io": "blkio"}.get(controller, controller)))


def enable(fd: int, wanted: Sequence[str] = (), path: str = "") -> None:
    """Enables all controllers of a cgroup for its children: all at once, or one by one if that is refused. A controller that can't be
    enabled is not an error here; writing one of its limits will be, with the reason.

    In a cgroup that has processes, only threaded controllers can be enabled, which makes it the root of a threaded tree: this is done only
    if no other controller is wanted."""
    have = set((fs.look(fd, "cgroup.controllers") or "").split())
    missing = sorted(have - set((fs.look(fd, "cgroup.subtree_control") or "").split()))
    if not missing or _enable(fd, missing):
        return
    barred = [c for c in wanted if c in missing]
    if barred and (fs.look(fd, "cgroup.procs") or "").strip():
        raise StepFailure(
            "controller-barred", 'controller "%s" can\'t be enabled in %s/cgroup.subtree_control' % (barred[0], path), pointer=POINTER, call="write",
            errno=errno.EBUSY, path=path,
            hint="%s has processes of its own, which prevents controllers for its children: move them into a sub-cgroup" % path,
        )  # fmt: skip
    for controller in missing:
        _enable(fd, [controller])


def _enable(fd: int, names: Iterable[str]) -> bool:
    try:
        fs.write(fd, "cgroup.subtree_control", " ".join("+" + n for n in names))
    except OSError:
        return False  # see enable()
    return True


def explain_missing(path: str, name: str, number: int) -> tuple[str, str | None]:
    """(reason, hint) for a control file that does not exist or can't be opened: names the first cgroup that lacks the controller."""
    controller = name.partition(".")[0]
    if controller == "cgroup" or controller in controllers(path):
        if number == errno.ENOENT:
            return "this kernel has no such control file here", None
        return "the kernel does not allow it", "the cgroup may belong to another user"
    here = _top(path)
    if controller not in controllers(here):
        return 'controller "%s" is not available on this host' % controller, "see %s/cgroup.controllers; v1 may use it" % here
    for step in path[len(here) + 1 :].split("/"):
        below = here + "/" + step
        if controller not in controllers(below):
            break
        here = below
    hint = "have it enabled by its owner: echo +%s > %s/cgroup.subtree_control" % (controller, here)
    if "/user@" in here + "/":
        hint = "with systemd: systemctl edit user@.service, [Service] Delegate=cpu cpuset io memory pids; then log in again"
    elif _has_processes(here):
        hint = "%s has processes of its own, which prevents controllers for its children: move them into a sub-cgroup" % here
    return 'controller "%s" is not enabled in %s/cgroup.subtree_control' % (controller, here), hint


def _top(path: str) -> str:
    """The topmost cgroup above `path`: the mount point."""
    here = path
    while True:
        above = here.rpartition("/")[0]
        try:
            posix.close(fs.open_dir(above, "unified"))
        except OSError:
            return here
        here = above


def _has_processes(path: str) -> bool:
    try:
        fd = fs.open_dir(path, "unified")
    except OSError:
        return False
    try:
        return bool((fs.look(fd, "cgroup.procs") or "").strip())
    finally:
        posix.close(fd)
