"""The neutral resources of parts/resources -> properties of a systemd unit.

systemd.resource-control(5), org.freedesktop.systemd1(5). Invariant: a property has the same meaning as the files that are written after it;
where systemd's values are coarser (percents of a CPU) the files follow systemd. Properties are [name, D-Bus signature, value].
"""

from __future__ import annotations

from pyrunc.cgroup import v2
from pyrunc.cgroup.devices_rules import Rules
from pyrunc.fileio import fsdecode, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from pyrunc.cgroup.devices_rules import Rule
    from pyrunc.cgroup.shapes import Cpu, Keyed, Memory, Places, Run
    from pyrunc.cgroup.systemd_manager import Unit

    Property: TypeAlias = list[Any]  # [name, D-Bus signature, value]: as in the state: JSON has no tuples

INFINITY = (1 << 64) - 1
# Accounting properties decide which controllers systemd enables for the unit.
ACCOUNTING = {
    1: ("MemoryAccounting", "CPUAccounting", "BlockIOAccounting", "TasksAccounting"),
    2: ("MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"),
}


def of_scope(unit: Unit, entry: Places, run: Run, version: int) -> list[Property]:
    """For StartTransientUnit: the description of the unit, the config's properties, and those that must be set at its start."""
    resources = run.plans.get("resources") or {}
    is_slice = unit["name"].endswith(".slice")
    out: list[Property] = [["Description", "s", description(unit, run.id)]]
    if is_slice:
        out.append(["Wants", "as", [unit["slice"]]])  # the name of a slice determines its parent
    else:
        out += [["Slice", "s", unit["slice"]], ["Delegate", "b", True], ["PIDs", "au", [run.pid]]]
    out += [[name, "b", True] for name in ACCOUNTING[2 if entry["version"] == 2 else 1]]
    out.append(["DefaultDependencies", "b", False])
    group = dict(resources.get("unified") or ()).get("memory.oom.group")
    if group is not None and version >= 253 and not is_slice:
        out.append(["OOMPolicy", "s", "kill" if group.strip() == "1" else "continue"])
    return out + [list(p) for p in unit["properties"]]


def description(unit: Unit, id: str) -> str:
    """The Description of a container's unit, by which it is recognised: an annotation may set another one."""
    given: list[str] = [value for name, _kind, value in unit["properties"] if name == "Description"]
    return given[-1] if given else "pyrunc container " + id


def of_resources(resources: Keyed, cgroup_version: int | str | None, version: int) -> list[Property]:
    """For SetUnitProperties. cgroup_version: 1, "hybrid" or 2; version: systemd's."""
    out: list[Property] = []
    cpu: Cpu = resources["cpu"] if resources.get("cpu") else {}
    if "devices" in resources and not resources["in_userns"]:
        out += of_devices(resources["devices"], version)
    if cgroup_version == 2:
        memory: Memory = resources["memory"] if resources.get("memory") else {}
        out += _memory(memory)
        out += _cpu(cpu, version)
    else:
        out += _old(resources)
    out += _cpu_quota(cpu, version)
    out += _cpuset(cpu, version)
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        out.append(["TasksMax", "t", INFINITY if limit <= 0 else limit])
    for key, value in resources.get("unified") or ():
        out += _unified(key, value.strip(), version)
    return out


def _bytes(number: int) -> int:
    return INFINITY if number == -1 else number


def _memory(mem: Memory) -> list[Property]:
    out = []
    limit, swap = mem.get("limit", 0), mem.get("swap", 0)
    if limit:
        out.append(["MemoryMax", "t", _bytes(limit)])
    if mem.get("reservation"):
        out.append(["MemoryLow", "t", _bytes(mem["reservation"])])
    value = v2.swap_value(limit, swap)
    if value is not None:
        out.append(["MemorySwapMax", "t", INFINITY if value == "max" else int(value)])
    return out


def _cpu(cpu: Cpu, version: int) -> list[Property]:
    if cpu.get("idle") == 1:
        return [["CPUWeight", "t", 0]] if version >= 252 else []
    if cpu.get("shares"):
        return [["CPUWeight", "t", v2.weight_of(cpu["shares"])]]
    return []


def _old(resources: Keyed) -> list[Property]:
    """The names of the same properties for v1."""
    out = []
    limit = (resources.get("memory") or {}).get("limit", 0)
    if limit:
        out.append(["MemoryLimit", "t", _bytes(limit)])
    if (resources.get("cpu") or {}).get("shares"):
        out.append(["CPUShares", "t", resources["cpu"]["shares"]])
    if (resources.get("blkio") or {}).get("weight"):
        out.append(["BlockIOWeight", "t", resources["blkio"]["weight"]])
    return out


def _cpu_quota(cpu: Cpu, version: int) -> list[Property]:
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    out = []
    if period and version >= 242:
        out.append(["CPUQuotaPeriodUSec", "t", period])
    if quota or period:
        out.append(["CPUQuotaPerSecUSec", "t", per_second(quota, period or v2.PERIOD)])
    return out


def per_second(quota: int, period: int) -> int:
    """Microseconds per second. systemd keeps whole percents, so a fraction is rounded up."""
    if quota <= 0:
        return INFINITY
    return -(-(quota * 1000000 // period) // 10000) * 10000


def rounded_quota(quota: int, period: int) -> int:
    """The quota for the files, so that they agree with systemd."""
    return quota if quota <= 0 else per_second(quota, period or v2.PERIOD) * (period or v2.PERIOD) // 1000000


def _cpuset(cpu: Cpu, version: int) -> list[Property]:
    out: list[Property] = []
    for text, name in ((cpu.get("cpus"), "AllowedCPUs"), (cpu.get("mems"), "AllowedMemoryNodes")):
        mask = bits(text) if text and version >= 244 else None
        if mask is not None:
            out.append([name, "ay", mask])
    return out


def bits(text: str) -> list[int] | None:
    """'0-3,9' -> [15, 2]: a mask, lowest byte first. None for the kernel's strides, which can't be represented."""
    mask = 0
    for item in text.split(","):
        low, _, high = item.strip().partition("-")
        if not low.isdigit() or not (high or low).isdigit() or int(high or low) > 65535:
            return None
        mask |= ((1 << (int(high or low) - int(low) + 1)) - 1) << int(low)
    return list(mask.to_bytes((mask.bit_length() + 7) // 8, "little"))


# --- unified

NUMBERS = {
    "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin", "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "memory.zswap.max": "MemoryZSwapMax",
}  # fmt: skip


def _unified(key: str, value: str, version: int) -> list[Property]:
    """The properties for keys of `unified`, if systemd has one; the others are only written to the files."""
    if key in NUMBERS and (key != "memory.zswap.max" or version >= 253):
        number = INFINITY if value == "max" else _int(value)
        return [] if number is None else [[NUMBERS[key], "t", number]]
    if key == "pids.max":
        number = INFINITY if value == "max" else _int(value)
        return [] if number is None else [["TasksMax", "t", number or 1]]  # systemd refuses 0
    if key == "cpu.weight":
        return [["CPUWeight", "t", int(value)]] if value.isdigit() else []
    if key == "cpu.idle":
        return [["CPUWeight", "t", 0]] if value == "1" and version >= 252 else []
    if key == "cpu.max":
        words = value.split()
        quota = -1 if words[:1] == ["max"] else _int(words[0]) if words else None
        period = v2.PERIOD if len(words) < 2 else _int(words[1])
        return [] if not quota or not period else _cpu_quota({"quota": quota, "period": period}, version)
    if key == "cpuset.cpus":
        return _cpuset({"cpus": value}, version)
    return _cpuset({"mems": value}, version) if key == "cpuset.mems" else []


def _int(text: str) -> int | None:
    """Parses bytes and counts as the kernel does, with K, M, G, T."""
    scale = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:].upper(), 0)
    digits = text[:-1] if scale else text
    return int(digits) << scale if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


# --- devices


def of_devices(rules: Sequence[Rule], version: int) -> list[Property]:
    """An allow list as DeviceAllow. A list that starts with "everything" can't be expressed: systemd is then asked to allow all, and our
    own rules, which the kernel also checks, deny."""
    found = Rules(rules)
    if found.default:
        return [["DevicePolicy", "s", "auto"], ["DeviceAllow", "a(ss)", []]]
    allow = []
    for (kind, major, minor), access in sorted(found.exceptions.items()):
        path = _device_path(kind, major, minor, version)
        if path is not None:
            allow.append((path, "".join(c for c in "rwm" if c in access)))
    return [["DevicePolicy", "s", "strict"], ["DeviceAllow", "a(ss)", []], ["DeviceAllow", "a(ss)", allow]]


def _device_path(kind: str, major: int, minor: int, version: int) -> str | None:
    """None for one minor of every major: systemd has no syntax for it."""
    name = "char" if kind == "c" else "block"
    if major == -1:
        return name + "-*" if minor == -1 else None
    if minor != -1:
        return "/dev/%s/%d:%d" % (name, major, minor)
    if version >= 240:
        return "%s-%d" % (name, major)
    group = _group_name(name, major)
    return None if group is None else "%s-%s" % (name, group)


def _group_name(kind: str, major: int) -> str | None:
    """The driver that /proc/devices lists for a major number."""
    here = ""
    for line in fsdecode(read_file("/proc/devices", 1 << 20)).split("\n"):
        if line.endswith(":"):
            here = "char" if line.startswith("Char") else "block"
            continue
        words = line.split(None, 1)
        if here == kind and len(words) == 2 and words[0] == str(major):
            return words[1]
    return None
