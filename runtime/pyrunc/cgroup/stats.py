"""Resource usage of a container, in the format of runc's `events` (types/events.go; containerd's go-runc reads it).

Invariant: a value that the kernel does not provide is omitted or 0, as in runc, and never invented. `paths` is {controller: directory}; a
directory that does not exist contributes nothing.
"""

from __future__ import annotations

import posix

from pyrunc.cgroup import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    Data: TypeAlias = dict[str, Any]  # nested objects as in runc's types/events.go; docs/schemas/events.json has their keys
    Blkio: TypeAlias = dict[str, Any]  # its object `blkio`

TICK_NS = 10_000_000  # USER_HZ is 100 in all of the kernel's interfaces
UNLIMITED = (1 << 64) - 1


def collect(paths: Mapping[str, str], intel_rdt: Data | None = None) -> Data:
    """The object `data` of one event."""
    unified = paths.get("unified")
    reader = _v2 if unified is not None and len(paths) == 1 else _v1
    data: Data = {"cpu": {}, "cpuset": _cpuset({}), "memory": {}, "pids": {}, "blkio": {}, "hugetlb": {}, "intel_rdt": intel_rdt or {}}
    reader(paths, data)
    data["network_interfaces"] = None
    return data


def brief(paths: Mapping[str, str]) -> Data:
    """The subset that tables and metrics show, with the same keys: it reads about eight files instead of eighty, and there may be hundreds
    of containers."""
    data: Data = {"cpu": {}, "memory": {}, "pids": {}, "blkio": {}}
    if set(paths) == {"unified"}:
        with _Dir(paths, "unified") as here:
            data["cpu"]["usage"] = _some(total=here.table("cpu.stat").get("usage_usec", 0) * 1000)
            data["memory"]["usage"] = {"limit": here.number("memory.max"), **_some(usage=here.number("memory.current"))}
            data["pids"] = _some(current=here.number("pids.current"))
            data["blkio"] = {key: found for key, found in _v2_io(here).items() if key == BLKIO[0][0]}
        return data
    with _Dir(paths, "cpuacct") as here:
        data["cpu"]["usage"] = _some(total=here.number("cpuacct.usage"))
    with _Dir(paths, "memory") as here:
        data["memory"]["usage"] = {"limit": here.number("memory.limit_in_bytes"), **_some(usage=here.number("memory.usage_in_bytes"))}
    with _Dir(paths, "pids") as here:
        data["pids"] = _some(current=here.number("pids.current"))
    with _Dir(paths, "blkio") as here:
        data["blkio"] = _v1_blkio(here, BLKIO[:1])
    return data


class _Dir:
    """A cgroup directory that may not exist; then all values are empty."""

    def __init__(self, paths: Mapping[str, str], key: str) -> None:
        self.fd = -1
        if key in paths:
            try:
                self.fd = fs.open_dir(paths[key], key)
            except OSError as e:
                if e.errno not in fs.GONE:
                    raise

    def __enter__(self) -> _Dir:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.fd >= 0:
            posix.close(self.fd)

    def text(self, name: str) -> str:
        return (fs.look(self.fd, name) if self.fd >= 0 else None) or ""

    def number(self, name: str) -> int:
        """A file with one number; 'max' is the highest number, a missing file 0."""
        text = self.text(name).strip()
        return UNLIMITED if text == "max" else int(text) if text.lstrip("-").isdigit() else 0

    def table(self, name: str) -> dict[str, int]:
        """Lines 'key number' -> {key: number}."""
        out = {}
        for line in self.text(name).split("\n"):
            words = line.split()
            if len(words) == 2 and words[1].isdigit():
                out[words[0]] = int(words[1])
        return out

    def pressure(self, name: str) -> dict[str, dict[str, float]] | None:
        """Pressure stall information, or None."""
        out = {}
        for line in self.text(name).split("\n"):
            words = line.split()
            if len(words) == 5:
                values = dict(word.split("=") for word in words[1:])
                out[words[0]] = {k: int(v) if k == "total" else float(v) for k, v in values.items()}
        return out or None

    def names(self) -> list[str]:
        return posix.listdir(self.fd) if self.fd >= 0 else []


def _some(**pairs: object) -> Data:
    """Omits zero values, like Go's omitempty."""
    return {key: value for key, value in pairs.items() if value}


def _entry(limit: int, usage: int, peak: int, failed: int) -> Data:
    return {"limit": limit, **_some(usage=usage, max=peak), "failcnt": failed}


def _add(data: Data, key: str, value: object) -> None:
    if value:
        data[key] = value


# --- v1


def _v1(paths: Mapping[str, str], data: Data) -> None:
    with _Dir(paths, "cpuacct") as acct, _Dir(paths, "cpu") as cpu:
        data["cpu"] = {"usage": _v1_usage(acct), "throttling": _throttling(cpu.table("cpu.stat"), "throttled_time", 1)}
    with _Dir(paths, "memory") as here:
        data["memory"] = _v1_memory(here)
    with _Dir(paths, "pids") as here:
        limit = here.number("pids.max")
        data["pids"] = _some(current=here.number("pids.current"), limit=0 if limit == UNLIMITED else limit)
    with _Dir(paths, "blkio") as here:
        data["blkio"] = _v1_blkio(here)
    with _Dir(paths, "hugetlb") as here:
        data["hugetlb"] = _v1_hugetlb(here)
    with _Dir(paths, "cpuset") as here:
        data["cpuset"] = _cpuset({name: here.text("cpuset." + name).strip() for name in ("cpus", "mems") + CPUSET_FLAGS})


def _v1_usage(here: _Dir) -> Data:
    ticks = here.table("cpuacct.stat")
    each = [line.split() for line in here.text("cpuacct.usage_all").split("\n")[1:] if line.strip()]
    usage = _some(
        total=here.number("cpuacct.usage"), percpu=[int(word) for word in here.text("cpuacct.usage_percpu").split()],
        percpu_kernel=[int(words[2]) for words in each], percpu_user=[int(words[1]) for words in each],
    )  # fmt: skip
    return {**usage, "kernel": ticks.get("system", 0) * TICK_NS, "user": ticks.get("user", 0) * TICK_NS}


def _throttling(stat: Mapping[str, int], time_key: str, scale: int) -> Data:
    return _some(
        periods=stat.get("nr_periods", 0), throttledPeriods=stat.get("nr_throttled", 0), throttledTime=stat.get(time_key, 0) * scale
    )


def _v1_memory(here: _Dir) -> Data:
    raw = here.table("memory.stat")
    out = _some(cache=raw.get("cache", 0))
    for name, prefix in (("usage", "memory."), ("swap", "memory.memsw."), ("kernel", "memory.kmem."), ("kernelTCP", "memory.kmem.tcp.")):
        files = ("limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt")
        out[name] = _entry(*(here.number(prefix + file) for file in files))
    _add(out, "raw", raw)
    return out


BLKIO = (
    ("ioServiceBytesRecursive", ("bfq.io_service_bytes_recursive", "throttle.io_service_bytes_recursive", "io_service_bytes_recursive")),
    ("ioServicedRecursive", ("bfq.io_serviced_recursive", "throttle.io_serviced_recursive", "io_serviced_recursive")),
    ("ioQueueRecursive", ("bfq.io_queued_recursive", "io_queued_recursive")),
    ("ioServiceTimeRecursive", ("bfq.io_service_time_recursive", "io_service_time_recursive")),
    ("ioWaitTimeRecursive", ("bfq.io_wait_time_recursive", "io_wait_time_recursive")),
    ("ioMergedRecursive", ("bfq.io_merged_recursive", "io_merged_recursive")),
    ("ioTimeRecursive", ("bfq.time_recursive", "time_recursive")),
    ("sectorsRecursive", ("bfq.sectors_recursive", "sectors_recursive")),
)


def _v1_blkio(here: _Dir, wanted: Sequence[tuple[str, Sequence[str]]] = BLKIO) -> Blkio:
    """BFQ's numbers if they count anything, else those of throttling, which always do."""
    out: Blkio = {}
    for key, files in wanted:
        for file in files:
            entries = _v1_devices(here.text("blkio." + file))
            if entries:
                out[key] = entries
                break
    return out


def _v1_devices(text: str) -> list[Data]:
    """'8:0 Read 100' or '8:0 100' -> entries; the grand total has no device."""
    out = []
    for line in text.split("\n"):
        words = line.split()
        if len(words) < 2 or ":" not in words[0] or not words[-1].isdigit():
            continue
        major, _, minor = words[0].partition(":")
        out.append(_device(int(major), int(minor), words[1] if len(words) == 3 else "", int(words[-1])))
    return out


def _device(major: int, minor: int, op: str, value: int) -> Data:
    return _some(major=major, minor=minor, op=op, value=value)


def _v1_hugetlb(here: _Dir) -> Data:
    out = {}
    for name in sorted(here.names()):
        words = name.split(".")
        if len(words) == 3 and words[0] == "hugetlb" and words[2] == "usage_in_bytes":
            prefix = "hugetlb.%s." % words[1]
            usage, peak = here.number(name), here.number(prefix + "max_usage_in_bytes")
            out[words[1]] = {**_some(usage=usage, max=peak), "failcnt": here.number(prefix + "failcnt")}
    return out


CPUSET_FLAGS = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab", "memory_pressure",
    "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip


def _cpuset(texts: Mapping[str, str]) -> Data:
    out: Data = {}
    _add(out, "cpus", expand_list(texts.get("cpus", "")))
    for name in CPUSET_FLAGS:
        if name == "mem_hardwall":
            _add(out, "mems", expand_list(texts.get("mems", "")))
        text = texts.get(name, "")
        out[name] = int(text) if text.lstrip("-").isdigit() else 0
    return out


def expand_list(text: str) -> list[int]:
    """'0-2,7' -> [0, 1, 2, 7]"""
    out: list[int] = []
    for item in text.split(","):
        low, _, high = item.partition("-")
        if low.strip().isdigit():
            out += range(int(low), int(high or low) + 1)
    return out


# --- v2


def _v2(paths: Mapping[str, str], data: Data) -> None:
    with _Dir(paths, "unified") as here:
        stat = here.table("cpu.stat")
        usage = _some(total=stat.get("usage_usec", 0) * 1000)
        usage.update(kernel=stat.get("system_usec", 0) * 1000, user=stat.get("user_usec", 0) * 1000)
        data["cpu"] = {"usage": usage, "throttling": _throttling(stat, "throttled_usec", 1000)}
        _add(data["cpu"], "psi", here.pressure("cpu.pressure"))
        data["memory"] = _v2_memory(here)
        limit = here.number("pids.max")
        data["pids"] = _some(current=here.number("pids.current"), limit=0 if limit == UNLIMITED else limit)
        data["blkio"] = _v2_io(here)
        data["hugetlb"] = _v2_hugetlb(here)


def _v2_memory(here: _Dir) -> Data:
    """`swap` is memory plus swap, as on v1, because readers expect that."""
    raw = here.table("memory.stat")
    out = _some(cache=raw.get("file", 0))
    limit, usage = here.number("memory.max"), here.number("memory.current")
    out["usage"] = _entry(limit, usage, here.number("memory.peak"), here.table("memory.events").get("max", 0))
    swap_limit, swap = here.number("memory.swap.max"), here.number("memory.swap.current")
    both = UNLIMITED if UNLIMITED in (limit, swap_limit) else limit + swap_limit
    out["swap"] = _entry(both, usage + swap, 0, here.table("memory.swap.events").get("max", 0))
    out["kernel"] = _entry(0, 0, 0, 0)
    out["kernelTCP"] = _entry(0, 0, 0, 0)
    _add(out, "raw", raw)
    _add(out, "psi", here.pressure("memory.pressure"))
    return out


IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"), "wbytes": ("ioServiceBytesRecursive", "Write"), "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
    # from the iocost controller, in microseconds (cgroup-v2.rst); only devices with a cost model have them
    "cost.usage": ("ioCostUsage", "Count"), "cost.wait": ("ioCostWait", "Count"), "cost.indebt": ("ioCostIndebt", "Count"),
    "cost.indelay": ("ioCostIndelay", "Count"),
}  # fmt: skip


def _v2_io(here: _Dir) -> Blkio:
    out: Blkio = {}
    for line in here.text("io.stat").split("\n"):
        words = line.split()
        if not words or ":" not in words[0]:
            continue
        major, _, minor = words[0].partition(":")
        for word in words[1:]:
            key, _, value = word.partition("=")
            if key in IO and value.isdigit():
                name, op = IO[key]
                out.setdefault(name, []).append(_device(int(major), int(minor), op, int(value)))
    _add(out, "psi", here.pressure("io.pressure"))
    return out


def _v2_hugetlb(here: _Dir) -> Data:
    out = {}
    for name in sorted(here.names()):
        words = name.split(".")
        if len(words) == 3 and words[0] == "hugetlb" and words[2] == "current":
            failed = here.table("hugetlb.%s.events" % words[1]).get("max", 0)
            out[words[1]] = {**_some(usage=here.number(name)), "failcnt": failed}
    return out
