"""Device rules. Limits are compared as control files (engine/diff/groups.py)."""

from __future__ import annotations

from pyrunc import fileio
from pyrunc.errors import errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroup.devices_rules import Rule
    from pyrunc.parts.resources import Entry
    from pyrunc.parts.sides import Drift


def compare(entry: Entry, drift: Drift) -> None:
    """v1 shows its list. v2 has a program that can't be read back, but programs can be compared by their tags."""
    cgroups = drift.plans["cgroups"]
    paths = cgroups["paths"] if drift.cgroups is None else drift.cgroups
    if not paths or "devices" not in entry or entry["in_userns"]:
        return  # in a user namespace the kernel accepts no rules, and no nodes can be created
    if cgroups["version"] == 2:
        _program(drift, paths["unified"], entry["devices"], cgroups["rootless"])
    elif "devices" in paths:
        _list(drift, paths["devices"], entry["devices"])


def _list(drift: Drift, path: str, rules: list[Rule]) -> None:
    from pyrunc.cgroup import devices_rules

    wanted = devices_rules.Rules(rules)
    seen_default, seen = devices_rules.listed(fileio.fsdecode(fileio.read_file(path + "/devices.list", 1 << 20)))
    pointer = "/linux/resources/devices"
    if wanted.default != seen_default:
        words = ("denied", "allowed")
        drift.differs("devices", "rules: all others", words[wanted.default], words[seen_default], pointer)
    elif wanted.default:
        if wanted.exceptions:
            drift.miss("devices", "of rules in a cgroup that allows all others, version 1 shows nothing")
    else:
        for key in sorted(wanted.exceptions.keys() | seen.keys()):
            planned, there = (devices_rules.text(key, found[key]) if key in found else None for found in (wanted.exceptions, seen))
            if planned != there:
                drift.differs("devices", "rules: " + devices_rules.text(key, "").strip(), planned, there, pointer)


def _program(drift: Drift, path: str, rules: list[Rule], optional: bool) -> None:
    from pyrunc.cgroup import devices_bpf, fs

    try:
        planned, seen = devices_bpf.tags(path, rules)
    except OSError as e:
        if not (optional and e.errno in fs.REFUSED):
            drift.miss("devices", "the program of the rules: %s" % errno_text(e.errno))
        return  # optional: create was not allowed to load one either
    if planned is None:
        wrong = seen != [] and drift.plans["cgroups"]["manager"] != "systemd"  # which has a program of its own
    else:
        wrong = planned not in seen  # others can only deny more
    if wrong:
        words = ["program %s" % tag for tag in seen]
        shown = "no program" if planned is None else "program " + planned
        drift.differs("devices", "rules", shown, ", ".join(words) or None, "/linux/resources/devices")
