"""Compares the control files of a container with those that its plan would write."""

from __future__ import annotations

import errno

from pyrunc import fileio
from pyrunc.engine import cgroup_preview, planner
from pyrunc.errors import errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.engine.diff import Drift
    from pyrunc.engine.shapes import ControlFile

PAGE = 4096


def cgroup(drift: Drift) -> None:
    """Compares the control files, and checks whether init is still in its cgroup."""
    for row in _last(cgroup_preview.files(drift.plans, drift.cgroups)):
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
    known = planner.module("cgroups").planned_paths(drift.plans)
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
