"""Compares what the kernel shows about init with the plan: capabilities, ids, limits, scheduling, labels."""

from __future__ import annotations

from pyrunc.engine import planner
from pyrunc.linux import _syscalls, caps, ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.engine.diff import Drift
    from pyrunc.parts.sides import Entry

UNLIMITED = (1 << 64) - 1
EVERY_ID = "0 0 4294967295"
FILTER = "2"  # SECCOMP_MODE_FILTER
WHO_PROCESS = 1
NICE, REAL_TIME, DEADLINE = (0, 3), (1, 2), 6  # SCHED_OTHER and BATCH; FIFO and RR
KEEP = 0x18  # SCHED_FLAG_KEEP_POLICY, _PARAMS


def privileges(drift: Drift) -> None:
    status = {line.partition(":")[0]: line.partition(":")[2].split() for line in drift.proc("status").split("\n")}
    entry = planner.entry(drift.plans, "capabilities")
    if entry:
        wanted = after_exec(entry, (planner.entry(drift.plans, "user") or {}).get("uid", 0)) if drift.started else entry
        for key, field in (
            ("bounding", "CapBnd"),
            ("effective", "CapEff"),
            ("permitted", "CapPrm"),
            ("inheritable", "CapInh"),
            ("ambient", "CapAmb"),
        ):
            seen = int(status[field][0], 16)
            if seen != wanted[key]:
                drift.differs("capabilities", key, caps.names(wanted[key]), caps.names(seen), "/process/capabilities/" + key)
        if entry["nnp"] and status.get("NoNewPrivs") == ["0"]:
            drift.differs("capabilities", "noNewPrivileges", True, False, "/process/noNewPrivileges")
    mode = status.get("Seccomp")
    if planner.entry(drift.plans, "seccomp") and drift.started and mode and mode != [FILTER]:
        drift.differs("capabilities", "seccomp", "a filter", "strict" if mode == ["1"] else None, "/linux/seccomp")
    _ids(drift, status)


def after_exec(entry: Entry, uid: int) -> dict[str, Any]:
    """The sets after execve (capabilities(7)): root gets the whole bounding set, unless noNewPrivileges is set; others keep the ambient
    set. The program's file is assumed to have no file capabilities."""
    gained = entry["ambient"]
    if uid == 0:
        gained = entry["bounding"] | entry["inheritable"]
        gained = gained & entry["permitted"] if entry["nnp"] else gained
    return {**entry, "permitted": gained, "effective": gained}


def _ids(drift: Drift, status: dict[str, list[str]]) -> None:
    entry = planner.entry(drift.plans, "user")
    if not entry:
        return
    for kind, field, key in (("uid", "Uid", "uid"), ("gid", "Gid", "gid")):
        seen = inside(int(status[field][1]), _map(drift, kind))
        if seen != entry[key]:
            drift.differs("user", kind, entry[key], seen, "/process/user/" + key)
    if entry["setgroups"]:
        table = _map(drift, "gid")
        groups = sorted(str(inside(int(group), table)) for group in status["Groups"])
        if groups != sorted(str(group) for group in set(entry["groups"])):
            shown = [int(group) if group.isdigit() else group for group in groups]
            drift.differs("user", "groups", sorted(set(entry["groups"])), shown, "/process/user/additionalGids")


def _map(drift: Drift, kind: str) -> str:
    return EVERY_ID if ns.is_shared(drift.pid, "user") else drift.proc(kind + "_map")


def inside(number: int, table: str) -> int | str:
    """Converts one of our ids to the container's, with a uid_map as we see it; the text '?' if it is not mapped."""
    for line in table.split("\n"):
        fields = [int(word) for word in line.split()]
        if len(fields) == 3 and fields[1] <= number < fields[1] + fields[2]:
            return number - fields[1] + fields[0]
    return "?"


def limits(drift: Drift) -> None:
    """Reads /proc/PID/limits, which has a line for each limit, in the order of their numbers; prlimit(2) on another user's process would
    require CAP_SYS_RESOURCE."""
    lines = drift.proc("limits").split("\n")[1:]
    for name, number, soft, hard, index in (planner.entry(drift.plans, "rlimits") or {}).get("list", ()):
        seen = ":".join(word.strip() for word in (lines[number][26:47], lines[number][47:68]))
        if seen != _pair(soft, hard):
            drift.differs("limits", name, _pair(soft, hard), seen, "/process/rlimits/%d" % index)
    entry = planner.entry(drift.plans, "oom")
    if entry:
        adjusted = int(drift.proc("oom_score_adj"))
        if adjusted != entry["value"]:
            drift.differs("limits", "oomScoreAdj", entry["value"], adjusted, "/process/oomScoreAdj")


def _pair(soft: int, hard: int) -> str:
    return ":".join("unlimited" if value == UNLIMITED else "%d" % value for value in (soft, hard))


# -- labels --------------------------------------------------------------------------------------------------------------


def labels(drift: Drift) -> None:
    """Compares the profile that init runs under. execve applies it, so before start there is none."""
    entry = planner.entry(drift.plans, "labels") or {}
    for key, pointer in (("apparmor", "/process/apparmorProfile"), ("selinux", "/process/selinuxLabel")):
        if key in entry and drift.started:
            seen = _label(drift, key)
            if seen != entry[key]:
                drift.differs("labels", key, entry[key], seen, pointer)


def _label(drift: Drift, key: str) -> str:
    """AppArmor's 'profile (enforce)' without the mode; an SELinux context unchanged."""
    if key == "apparmor":
        try:
            text = drift.proc("attr/apparmor/current")
        except FileNotFoundError:  # before Linux 5.8
            text = drift.proc("attr/current")
        return text.strip("\0\n").rpartition(" (")[0] or text.strip("\0\n")
    return drift.proc("attr/current").strip("\0\n")


# -- scheduling, personality ---------------------------------------------------------------------------------------------


def scheduling(drift: Drift) -> None:
    entry = planner.entry(drift.plans, "scheduling") or {}
    if entry.get("scheduler"):
        _scheduler(drift, entry["scheduler"])
    if entry.get("ioprio") is not None:
        planned, seen = (_ioprio(value) for value in (entry["ioprio"], _syscalls.ioprio_get(WHO_PROCESS, drift.pid)))
        if planned != seen:
            drift.differs("scheduling", "ioPriority", planned, seen, "/process/ioPriority")


def _scheduler(drift: Drift, wanted: tuple[int, ...]) -> None:
    """Both as in sched_setattr(2): policy, flags, nice, priority, runtime, deadline, period, clamps."""
    pointer = "/process/scheduler/"
    seen = _syscalls.sched_getattr(drift.pid)
    names = {number: name for name, number in planner.module("scheduling").POLICIES.items()}
    if wanted[1] & KEEP:
        return  # the previous value was not recorded
    if seen[0] != wanted[0]:
        drift.differs("scheduling", "policy", names[wanted[0]], names.get(seen[0], str(seen[0])), pointer + "policy")
        return
    fields = [("nice", 2)] if wanted[0] in NICE else [("priority", 3)] if wanted[0] in REAL_TIME else []
    if wanted[0] == DEADLINE:
        fields = [("runtime", 4), ("deadline", 5), ("period", 6)]
    for name, at in fields:
        planned = wanted[at] or (wanted[5] if name == "period" else 0)  # without a period, it is the deadline
        if seen[at] != planned:
            drift.differs("scheduling", name, planned, seen[at], pointer + name)


def _ioprio(value: int) -> str:
    classes = {number: name for name, number in planner.module("scheduling").CLASSES.items()}
    return "%s %d" % (classes.get(value >> 13, "IOPRIO_CLASS_NONE"), value & 7)


def personality(drift: Drift) -> None:
    """Compares the personality. Reading /proc/PID/personality requires permission to trace the process."""
    entry = planner.entry(drift.plans, "personality")
    if entry:
        seen = int(drift.proc("personality"), 16) & 0xFF  # the higher bits come from the program's ELF header
        if seen != entry["domain"]:
            names = {number: name for name, number in planner.module("personality").DOMAINS.items()}
            drift.differs("personality", "domain", names[entry["domain"]], names.get(seen, "%#x" % seen), "/linux/personality/domain")
