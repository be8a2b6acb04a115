"""Compares control files, device rules and the resctrl group of a container with the plan."""

from __future__ import annotations

import errno

from pyrunc import fileio
from pyrunc.engine import cgroup_preview, planner
from pyrunc.errors import errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.engine.diff import Drift
    from pyrunc.engine.shapes import ControlFile

PAGE = 4096


def cgroup(drift: Drift) -> None:
    """Compares the control files, and checks whether init is still in its cgroup."""
    plans = drift.plans
    if drift.cgroups is not None and planner.entry(plans, "cgroups"):
        plans = {
            **plans,
            "cgroups": {**plans["cgroups"], "paths": drift.cgroups},
        }  # the actual paths; with systemd they are only known after the start
    for row in _last(cgroup_preview.files(plans)):
        try:
            seen = fileio.fsdecode(fileio.read_file(row["file"], 1 << 16)).strip()
        except OSError as e:
            seen = None
            if e.errno not in (errno.ENOENT, errno.ENODEV):
                drift.miss("cgroup", "%s: %s" % (row["file"], errno_text(e.errno)))
                continue
        if seen is None or not same_value(row["file"].rpartition("/")[2], row["value"], seen):
            drift.differs("cgroup", row["file"], row["value"], seen, row["pointer"])
    _place(drift)


def _last(rows: list[ControlFile]) -> list[ControlFile]:
    """The last of several writes of the same line of a file."""
    found = {}
    for row in rows:
        first = row["value"].partition(" ")[0]
        found[row["file"], first if ":" in first else ""] = row
    return list(found.values())


def _place(drift: Drift) -> None:
    known = (planner.entry(drift.plans, "cgroups") or {}).get("paths") or {}
    for line in drift.proc("cgroup").split("\n"):
        _number, _colon, rest = line.partition(":")
        names, _colon, path = rest.partition(":")
        for key in names.split(",") if names else ["unified"]:
            if key in known and path and not known[key].endswith(path) and path not in ("/", ""):
                drift.differs("cgroup", key, known[key], path, "/linux/cgroupsPath")


def same_value(name: str, wanted: str, seen: str) -> bool:
    """Whether a control file shows what was written: the kernel rounds to pages, shows `max`, and keeps a line for each device."""
    first, _blank, rest = wanted.partition(" ")
    if ":" in first or name in ("rdma.max", "net_prio.ifpriomap"):
        lines = {line.partition(" ")[0]: line.partition(" ")[2].split() for line in seen.split("\n")}
        given = rest.split()
        if given in (["0"], ["max"]) or all(word.endswith("=max") for word in given):
            return True  # no limit: the kernel shows no line, or one with max
        return set(given) <= set(lines.get(first, ()))
    if name.startswith("cpuset."):
        return numbers(wanted) == numbers(seen)
    if name in ("cpu.max",):
        return wanted.split() == seen.split()
    if name == "memory.oom_control":
        return "oom_kill_disable %s" % wanted in seen
    if name in ("blkio.bfq.weight", "io.weight", "io.bfq.weight"):
        return wanted in seen.split()
    if not wanted.lstrip("-").isdigit():
        return wanted.split() == seen.split()
    number = int(wanted)
    if not seen.lstrip("-").isdigit():
        return seen == "max" and number < 0
    if number < 0:
        return int(seen) < 0 or int(seen) >= 1 << 62
    return number == int(seen) or name.startswith(("memory.", "hugetlb.")) and 0 < number - int(seen) < step_of(name)


def step_of(name: str) -> int:
    """The page size, to which the kernel rounds down."""
    size = name.split(".")[1] if name.startswith("hugetlb.") else ""
    units = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
    return int(size[:-2]) * units[size[-2:]] if size[-2:] in units and size[:-2].isdigit() else PAGE


def numbers(text: str) -> set[int]:
    """'0-2,5' -> {0, 1, 2, 5}"""
    found: set[int] = set()
    for piece in text.replace("\n", ",").split(","):
        low, _dash, high = piece.strip().partition("-")
        if low.isdigit():
            found.update(range(int(low), min(int(high or low), int(low) + 8192) + 1))
    return found


# -- devices -------------------------------------------------------------------------------------------------------------


def devices(drift: Drift) -> None:
    """v1 shows its list. v2 has a program that can't be read back, but programs can be compared by their tags."""
    cgroups, entry = planner.entry(drift.plans, "cgroups") or {}, planner.entry(drift.plans, "resources") or {}
    paths = cgroups.get("paths") if drift.cgroups is None else drift.cgroups
    if not paths or "devices" not in entry or entry["in_userns"]:
        return  # in a user namespace the kernel accepts no rules, and no nodes can be created
    if cgroups["version"] == 2:
        _program(drift, paths["unified"], entry["devices"], cgroups["rootless"])
    elif "devices" in paths:
        _list(drift, paths["devices"], entry["devices"])


def _list(drift: Drift, path: str, rules: Any) -> None:
    from pyrunc.cgroup import devices_rules

    wanted = devices_rules.Rules(rules)
    seen_default, seen = devices_rules.listed(fileio.fsdecode(fileio.read_file(path + "/devices.list", 1 << 20)))
    pointer = "/linux/resources/devices"
    if wanted.default != seen_default:
        words = ("denied", "allowed")
        drift.differs("devices", "rules: all others", words[wanted.default], words[seen_default], pointer)
    elif wanted.default:
        if wanted.exceptions:
            drift.miss("devices", "version 1 does not show the rules of a cgroup that allows all other devices")
    else:
        for key in sorted(wanted.exceptions.keys() | seen.keys()):
            planned, there = (devices_rules.text(key, found[key]) if key in found else None for found in (wanted.exceptions, seen))
            if planned != there:
                drift.differs("devices", "rules: " + devices_rules.text(key, "").strip(), planned, there, pointer)


def _program(drift: Drift, path: str, rules: Any, optional: bool) -> None:
    from pyrunc.cgroup import devices_bpf, fs

    try:
        planned, seen = devices_bpf.tags(path, rules)
    except OSError as e:
        if not (optional and e.errno in fs.REFUSED):
            drift.miss("devices", "the program of the rules: %s" % errno_text(e.errno))
        return  # optional: create was not allowed to load one either
    if planned is None:
        wrong = seen != [] and drift.plans["cgroups"]["manager"] != "systemd"  # which attaches its own program
    else:
        wrong = planned not in seen  # other programs can only deny more
    if wrong:
        words = ["program %s" % tag for tag in seen]
        shown = "no program" if planned is None else "program " + planned
        drift.differs("devices", "rules", shown, ", ".join(words) or None, "/linux/resources/devices")


# -- resctrl -------------------------------------------------------------------------------------------------------------


def resctrl(drift: Drift) -> None:
    """Compares the lines of the group, and checks whether init is in it."""
    entry = planner.entry(drift.plans, "rdt")
    if not entry:
        return
    rdt = planner.module("rdt")
    try:
        seen = rdt.current(entry)
    except FileNotFoundError:
        drift.differs("resctrl", "group", "/" + entry["group"], None, "/linux/intelRdt")
        return
    for line in entry["schemata"]:
        for resource, domains in rdt.parse([line]).items():
            for domain, value in domains.items():
                there = (seen.get(resource) or {}).get(domain)
                if not rdt.is_value(entry, resource, value, there):
                    drift.differs("resctrl", "%s:%s" % (resource, domain), value, there, "/linux/intelRdt")
    try:
        rows = drift.proc("cpu_resctrl_groups").split("\n")
    except FileNotFoundError:
        return  # before Linux 5.6
    group = next((row[len("res:") :] for row in rows if row.startswith("res:")), "")
    if group and group.strip("/") != entry["group"]:
        drift.differs("resctrl", "group", "/" + entry["group"], group, "/linux/intelRdt/closID")
