"""The objects in /linux/resources: checks, and conversion to a neutral form.

runtime-spec, config-linux.md#control-groups. Invariant: a reader gets the whole resources object and returns plain data for its key, or
nothing; refusals point to the value.
"""

from __future__ import annotations

from pyrunc.cgroup import devices_rules
from pyrunc.errors import Refusal, Unsupported, escape_pointer, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final, TypedDict

    from pyrunc.cgroup.devices_rules import Rule
    from pyrunc.cgroup.shapes import Blkio, Cpu, Memory, Network, Pids, Row
    from pyrunc.parts.devices.plan import Given as Device
    from pyrunc.parts.sides import Context, Json

    class GivenRule(TypedDict, total=False):
        allow: bool
        type: str
        major: int
        minor: int
        access: str

    class GivenMemory(TypedDict, total=False):
        limit: int
        reservation: int
        swap: int
        kernel: int
        kernelTCP: int
        swappiness: int
        disableOOMKiller: bool
        useHierarchy: bool
        checkBeforeUpdate: bool

    Resources = dict[str, Json]  # /linux/resources, as in the schema


POINTER: Final = "/linux/resources"
SECTION = "config-linux.md#control-groups"
UNSET_SWAPPINESS = (1 << 64) - 1  # moby's -1, in an unsigned field
INT64 = 1 << 63


def refuse(words: str, pointer: str, hint: str | None = None) -> Refusal:
    return Refusal("bad-limit", words, POINTER + pointer, hint, SECTION)


def _no_v2(what: str, pointer: str) -> Unsupported:
    return Unsupported("no-control", "cgroup v2 has no control for %s" % what, POINTER + pointer, "cgroup v1")


# --- memory


def _memory(resources: Resources, version: int, ctx: Context) -> Memory:
    """{"limit", "reservation", "swap" (all without 0), "swappiness", "oom_off", "hierarchy", "check"}"""
    node: GivenMemory = resources.get("memory") or {}
    out: Memory = {}
    for name, value in (("limit", node.get("limit", 0)), ("reservation", node.get("reservation", 0)), ("swap", node.get("swap", 0))):
        if value < -1:
            raise refuse("invalid memory value: %d (-1 is unlimited)" % value, "/memory/" + name)
        if value:
            out[name] = value  # type: ignore[literal-required]  # one of the three above
    if ctx.options.get("command") != "update":  # for update, the stored values matter too
        check_memory(out, version)
    for name in ("kernel", "kernelTCP"):
        if node.get(name):
            ctx.warn("%s/memory/%s" % (POINTER, name), "kernel memory limits no longer exist; ignored")
    _memory_flags(node, version, ctx, out)
    return out


def check_memory(mem: Memory, version: int) -> None:
    """Checks that limit, memory+swap and reservation are consistent."""
    limit, swap, reservation = mem.get("limit", 0), mem.get("swap", 0), mem.get("reservation", 0)
    if swap > 0 and limit == 0 and version == 2:
        raise refuse("unable to set swap limit without memory limit", "/memory/swap")
    if 0 < swap < limit:
        raise refuse("memory+swap limit should be >= memory limit (%d < %d)" % (swap, limit), "/memory/swap")
    if limit > 0 and reservation > limit:
        raise refuse("memory reservation %d is above the limit %d" % (reservation, limit), "/memory/reservation")


def _memory_flags(node: GivenMemory, version: int, ctx: Context, out: Memory) -> None:
    swappiness = node.get("swappiness")
    if swappiness is not None and swappiness != UNSET_SWAPPINESS:
        if swappiness > 100:
            raise refuse("invalid memory swappiness value: %d (valid range is 0-100)" % swappiness, "/memory/swappiness")
        if version == 2:
            raise _no_v2("swappiness", "/memory/swappiness")
        out["swappiness"] = swappiness
    if node.get("disableOOMKiller"):
        if version == 2:
            raise _no_v2("disableOOMKiller", "/memory/disableOOMKiller")
        out["oom_off"] = True
    if node.get("useHierarchy"):
        if version == 2:
            ctx.warn(POINTER + "/memory/useHierarchy", "cgroup v2 always accounts hierarchically")
        else:
            out["hierarchy"] = True
    if node.get("checkBeforeUpdate") and out:
        out["check"] = True


# --- cpu


def _cpu(resources: Resources, version: int, ctx: Context) -> Cpu:
    """{"shares", "quota", "period" (without 0), "burst", "idle", "rt_runtime", "rt_period", "cpus", "mems"}"""
    node = resources.get("cpu") or {}
    out: Cpu = {}
    for name in ("shares", "quota", "period"):
        if node.get(name):
            out[name] = node[name]
    for name in ("burst", "idle"):
        if name in node:
            out[name] = node[name]  # type: ignore[literal-required]  # the names above
    for name in ("cpus", "mems"):
        if node.get(name):
            check_list(node[name], "/cpu/" + name)
            out[name] = node[name].strip()  # type: ignore[literal-required]  # the names above
    for name, key in (("realtimeRuntime", "rt_runtime"), ("realtimePeriod", "rt_period")):
        if node.get(name):
            if version == 2:
                raise _no_v2("realtime budgets", "/cpu/" + name)
            out[key] = node[name]  # type: ignore[literal-required]  # the names above
    _check_cpu(out, ctx)
    return out


def _check_cpu(cpu: Cpu, ctx: Context) -> None:
    """Checks the kernel's bounds: period 1 ms to 1 s, quota at least 1 ms, burst not above the quota."""
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    if period and not 1000 <= period <= 1000000:
        raise refuse("cpu period %d is not within 1000 to 1000000 microseconds" % period, "/cpu/period")
    if 0 < quota < 1000:
        raise refuse("cpu quota %d is below 1000 microseconds" % quota, "/cpu/quota", "write -1 for no quota")
    if quota > 0 and cpu.get("burst", 0) > quota:
        raise refuse("cpu burst %d is above the quota %d" % (cpu["burst"], quota), "/cpu/burst")
    if cpu.get("idle", 0) not in (0, 1):
        raise refuse("cpu idle must be 0 or 1, not %d" % cpu["idle"], "/cpu/idle")
    if cpu.get("idle") == 1 and cpu.pop("shares", 0):
        ctx.warn(POINTER + "/cpu/shares", "an idle cgroup has no weight; shares are ignored")
    if cpu.get("rt_runtime", 0) < -1 or cpu.get("rt_runtime", 0) > cpu.get("rt_period", INT64):
        raise refuse("cpu realtimeRuntime %d does not fit into the period" % cpu["rt_runtime"], "/cpu/realtimeRuntime")


def check_list(text: str, pointer: str) -> None:
    """Checks a list of CPUs or memory nodes: '0-3,7', also with strides as in the kernel: '0-31:2/4'."""
    for item in text.strip().split(","):
        span, colon, stride = item.strip().partition(":")
        ends = span.split("-")
        numbers = ends + (stride.split("/") if colon else [])
        good = (
            len(ends) <= 2 and (not colon or stride.count("/") == 1) and all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers)
        )
        if not good or int(ends[0]) > int(ends[-1]):
            raise refuse("%s is not a list such as 0-3,7" % quote(text), pointer)


# --- the others


def _pids(resources: Resources, version: int, ctx: Context) -> Pids | None:
    """{"limit"}: -1 means unlimited, and so does 0: podman sends 0, and runc and crun treat it that way."""
    node = resources.get("pids") or {}
    if "limit" not in node:
        return None
    return {"limit": node["limit"] if node["limit"] > 0 else -1}


def _blkio(resources: Resources, version: int, ctx: Context) -> Blkio:
    """{"weight", "leaf_weight", "devices": [[major, minor, weight, leaf weight]], "throttle": [[rbps|wbps|riops|wiops, major, minor,
    rate, pointer]]}"""
    node = resources.get("blockIO") or {}
    out: Blkio = {}
    for name, key in (("weight", "weight"), ("leafWeight", "leaf_weight")):
        weight = _weight(node, name, "/blockIO/" + name, version)
        if weight is not None:
            out[key] = weight  # type: ignore[literal-required]  # the names above
    devices: list[list[int | None]] = []
    for number, item in enumerate(node.get("weightDevice", ())):
        at = "/blockIO/weightDevice/%d" % number
        weights = [_weight(item, name, "%s/%s" % (at, name), version) for name in ("weight", "leafWeight")]
        devices.append([*_numbers(item, at), *weights])
    throttle = []
    for name, kind in (("ReadBps", "rbps"), ("WriteBps", "wbps"), ("ReadIOPS", "riops"), ("WriteIOPS", "wiops")):
        for number, item in enumerate(node.get("throttle%sDevice" % name, ())):
            at = "/blockIO/throttle%sDevice/%d" % (name, number)
            if "rate" not in item:
                raise refuse("the rate is missing", at + "/rate")
            throttle.append([kind] + _numbers(item, at) + [item["rate"], POINTER + at])
    if devices:
        out["devices"] = devices
    if throttle:
        out["throttle"] = throttle
    return out


def _weight(node: Mapping[str, int], name: str, pointer: str, version: int) -> int | None:
    weight = node.get(name, 0)
    if weight == 0:
        return None
    if not 10 <= weight <= 1000:
        raise refuse("weight %d is not within 10 to 1000" % weight, pointer)
    if name == "leafWeight" and version == 2:
        raise _no_v2("leafWeight", pointer)
    return weight


def _numbers(item: Mapping[str, int], at: str) -> list[int]:
    """[major, minor] of one device; wildcards are not allowed here."""
    for name, bits in (("major", 12), ("minor", 20)):
        if not 0 <= item[name] < 1 << bits:
            raise refuse("device %s %d is out of range" % (name, item[name]), "%s/%s" % (at, name))
    return [item["major"], item["minor"]]


def _hugetlb(resources: Resources, version: int, ctx: Context) -> list[Row]:
    """[[page size as in the file name, limit]]. A size that the kernel does not support is refused."""
    from pyrunc.cgroup.hierarchies import exists

    out = []
    units = {"K": 1, "M": 1 << 10, "G": 1 << 20}
    for number, item in enumerate(resources.get("hugepageLimits", ())):
        size = item["pageSize"]
        digits = size[:-2]
        if (
            size[-1:] != "B"
            or size[-2:-1] not in units
            or not (digits.isascii() and digits.isdigit())
            or digits[0] == "0"
            or len(digits) > 9
        ):
            raise refuse("%s is not a page size such as 2MB" % quote(size), "/hugepageLimits/%d/pageSize" % number)
        if not exists("/sys/kernel/mm/hugepages/hugepages-%dkB" % (int(digits) * units[size[-2]])):
            raise refuse(
                "this kernel has no huge pages of %s" % size, "/hugepageLimits/%d/pageSize" % number, "see /sys/kernel/mm/hugepages"
            )
        out.append([size, item["limit"]])
    return out


def _network(resources: Resources, version: int, ctx: Context) -> Network:
    """{"class", "priorities": [[interface, priority]]}"""
    node = resources.get("network") or {}
    out: Network = {}
    if node.get("classID"):
        out["class"] = node["classID"]
    priorities = []
    for number, item in enumerate(node.get("priorities", ())):
        name = item["name"]
        if not 0 < len(name) < 16 or any(c in " \t\n/" or c < " " for c in name):
            raise refuse("%s is not the name of a network interface" % quote(name), "/network/priorities/%d/name" % number)
        priorities.append([name, item["priority"]])
    if priorities:
        out["priorities"] = priorities
    if out and version == 2:
        raise _no_v2("network classes and priorities", "/network")
    return out


def _rdma(resources: Resources, version: int, ctx: Context) -> list[Row]:
    """[[device, handles or None, objects or None]]"""
    out = []
    for device, item in sorted((resources.get("rdma") or {}).items()):
        if not device or any(c in " =\t\n" or c < " " for c in device):
            raise refuse("%s is not the name of an RDMA device" % quote(device), "/rdma")
        if "hcaHandles" not in item and "hcaObjects" not in item:
            raise refuse("one of hcaHandles and hcaObjects is needed", "/rdma/" + device)
        out.append([device, item.get("hcaHandles"), item.get("hcaObjects")])
    return out


NOT_UNIFIED = ("cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.freeze", "cgroup.kill", "cgroup.subtree_control")


def _unified(resources: Resources, version: int, ctx: Context) -> list[list[str]]:
    """[[file, text]], sorted. Written unchanged, after everything else."""
    node = resources.get("unified") or {}
    if node and version == 1:
        raise Unsupported("no-unified", "invalid configuration: cannot use unified on cgroup v1", POINTER + "/unified", "cgroup v2")
    for key, value in node.items():
        pointer = "/unified/" + escape_pointer(key)
        if "/" in key or key in ("", ".", "..") or any(c <= " " for c in key):
            raise refuse("unified resource %s must be a file name (no slashes)" % quote(key), pointer)
        if "." not in key.strip("."):
            raise refuse("unified resource %s must be in the form CONTROLLER.PARAMETER" % quote(key), pointer)
        if key in NOT_UNIFIED:
            raise refuse("unified resource %s is managed by the runtime" % quote(key), pointer)
        if "\0" in value:
            raise refuse("unified resource %s has a NUL byte" % quote(key), pointer)
    return [[key, value] for key, value in sorted(node.items())]


READERS = (
    ("memory", _memory), ("cpu", _cpu), ("pids", _pids), ("blkio", _blkio), ("hugetlb", _hugetlb), ("network", _network), ("rdma", _rdma),
    ("unified", _unified),
)  # fmt: skip


# --- devices


def devices(resources: Resources, ctx: Context, version: int) -> list[Rule]:
    """The config's rules in order, with the built-in allow rules inserted after its last rule for all devices or all devices of a type. The
    config's rules for single devices come later, so its denials win. If /linux/devices replaces a default device with different numbers,
    the built-in rule for that device is left out.

    v1 cannot deny part of an allowed range. After "allow all", a denial that includes mknod removes the built-in permission to create any
    node of that type. After "deny all", which Docker sends, that permission is kept, as in runc: a node can then be created but not
    opened."""
    own = [rule(item, number) for number, item in enumerate(resources.get("devices", ()))]
    reset = max([number for number, one in enumerate(own) if one[2:4] == [-1, -1]], default=-1) + 1
    later = list(enumerate(own))[reset:]  # with their places in the config
    built_in = [list(one) for one in defaults((ctx.config.get("linux") or {}).get("devices", ())) if list(one) not in own[reset:]]
    denied = [one for _number, one in later if not one[0]]
    if version == 1 and denied and reset and own[reset - 1][0]:
        kinds = {one[1] for one in denied if "m" in one[4]}
        built_in = [one for one in built_in if not (one[1] in kinds and one[2:] == [-1, -1, "m"])]
    elif version == 1 and denied:
        built_in = [one for one in built_in if one[1:4] not in [other[1:4] for other in denied]]
        later = [(n, one if one[0] else [*one[:4], one[4].replace("m", "")]) for n, one in later if one[0] or one[4].strip("m")]
    rules = own[:reset] + built_in + [one for _number, one in later]
    if version == 1 and not ctx.in_userns:
        devices_rules.check_v1(rules, [*range(reset), *[-1] * len(built_in), *[number for number, _one in later]])
    return rules


def defaults(nodes: Sequence[Device]) -> list[Rule]:
    """The built-in rules, without those whose path is a different device in the config."""
    own = {n["path"]: (n["type"].replace("u", "c"), n.get("major", 0), n.get("minor", 0)) for n in nodes}
    return [rule for path, rule in devices_rules.DEFAULTS if path not in own or own[path] == (rule[1], rule[2], rule[3])]


def rule(item: GivenRule, number: int) -> Rule:
    at = "/devices/%d" % number
    kind = item.get("type") or "a"
    if kind not in ("a", "b", "c"):
        raise refuse("device type %s is none of a, b, c" % quote(kind), at + "/type")
    access = item.get("access") or ""
    if not access:
        raise refuse("device access at %d field cannot be empty" % number, at + "/access", "write rwm, or some of these letters")
    if set(access) - set("rwm"):
        raise refuse("device access %s has letters other than r, w, m" % quote(access), at + "/access")
    numbers = []
    for name, value in (("major", item.get("major", -1)), ("minor", item.get("minor", -1))):
        if not -1 <= value < 1 << 32:
            raise refuse("device %s %d is out of range" % (name, value), "%s/%s" % (at, name))
        numbers.append(value)
    return [item["allow"], kind, numbers[0], numbers[1], "".join(c for c in "rwm" if c in access)]
