"""Changing the limits of a live container, all or none.

runc's `update`. Invariant: only what is asked for is written, and when one write is refused, the files that were written before
get back what they held. Device rules are never touched here: callers send "deny all" along with every update.
"""

from __future__ import annotations

from pyrunc.cgroup.group import Group
from pyrunc.errors import CallError, StepFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    from pyrunc.cgroup.group import Note
    from pyrunc.parts.resources.limits import Memory

    Resources: TypeAlias = Any  # the entry of parts/resources; its keys are walked here, which no TypedDict allows

# Files that hold a line for each device: value -> what takes the line away again. `{}` is the device.
PER_DEVICE = {
    "blkio.throttle.read_bps_device": "{} 0", "blkio.throttle.write_bps_device": "{} 0", "blkio.throttle.read_iops_device": "{} 0",
    "blkio.throttle.write_iops_device": "{} 0", "blkio.weight_device": "{} 0", "blkio.leaf_weight_device": "{} 0",
    "blkio.bfq.weight_device": "{} 0",
    "io.max": "{} rbps=max wbps=max riops=max wiops=max", "io.weight": "{} default", "io.bfq.weight": "{} default",
    "rdma.max": "{} hca_handle=max hca_object=max", "net_prio.ifpriomap": "{} 0",
}  # fmt: skip


def merge(stored: Resources, new: Resources) -> Resources:
    """The stored neutral resources with the new values laid over: what is saved, and what contradictions are looked for in. A new
    memory limit of -1 takes a stored swap limit away, as unlimited memory with bounded swap is nobody's wish."""
    out = {key: dict(value) if isinstance(value, dict) else value for key, value in stored.items()}
    for key in ("memory", "cpu", "pids", "blkio", "network"):
        if new.get(key):
            out[key] = {**out.get(key, {}), **new[key]}
    if (new.get("memory") or {}).get("limit") == -1 and "swap" not in new["memory"]:
        out["memory"].pop("swap", None)
    if (new.get("cpu") or {}).get("idle") == 1:
        out["cpu"].pop("shares", None)
    for key in ("hugetlb", "rdma", "unified"):
        if new.get(key):
            rows = {row[0]: row for row in out.get(key, ())}
            rows.update((row[0], row) for row in new[key])
            out[key] = [rows[name] for name in sorted(rows)]
    out["asked"] = any(out.get(key) for key in ("memory", "cpu", "pids", "blkio", "network", "hugetlb", "rdma", "unified"))
    return out


def to_write(merged: Resources, new: Resources) -> Resources:
    """What of it is written: the new values, and the stored partners of those that are one decision (limit and swap, quota and
    period)."""
    out = {key: value for key, value in new.items() if key not in ("devices", "asked", "in_userns")}
    for part, pair, along in (("memory", ("limit", "swap"), ("limit", "swap", "check")), ("cpu", ("quota", "period"), ("quota", "period"))):
        if any(key in new.get(part, ()) for key in pair):
            out[part] = {**new[part], **{key: merged[part][key] for key in along if key in merged[part]}}
    return out


class Journal:
    """Opens groups whose writes are remembered. back() undoes them, newest first; what can't be undone is returned as texts."""

    def __init__(self) -> None:
        self.done: list[Note] = []

    def open(self, path: str, key: str) -> Group:
        group = Group(path, key)
        group.notes = self.done
        return group

    def back(self) -> list[str]:
        failed = []
        for path, key, name, value, old in reversed(self.done):
            text = former(name, value, old)
            if text is None:
                continue
            group = Group(path, key)
            try:
                group.put(name, text)
            except OSError as e:
                failed.append("%s/%s (%s)" % (path, name, e.strerror))
            finally:
                group.close()
        return failed


def former(name: str, value: str, old: str | None) -> str | None:
    """What must be written to undo writing `value` over a file that read `old`; None when there is nothing to write."""
    if old is None:
        return None
    device = value.split(" ", 1)[0]
    if name in PER_DEVICE and (":" in device or name in ("rdma.max", "net_prio.ifpriomap")):
        for line in old.split("\n"):
            if line.split(" ", 1)[0] == device:
                return line
        return PER_DEVICE[name].format(device)
    if name == "memory.oom_control":
        return "1" if "oom_kill_disable 1" in old else "0"
    if name in ("io.weight", "io.bfq.weight"):
        return old.split("\n")[0]  # "default 100"
    if name.startswith("cpuset."):
        return old.strip() or "\n"  # empty: as the parent has it
    return old.strip() or None


def apply(paths: Mapping[str, str], resources: Resources, version: int | str | None) -> None:
    """Writes neutral resources into live cgroups. StepFailure after everything was taken back."""
    journal = Journal()
    try:
        if version == 2:
            from pyrunc.cgroup import v2

            v2.apply(paths, resources, journal.open)
        else:
            from pyrunc.cgroup import v1

            v1.apply(paths, resources, journal.open)
    except StepFailure as e:
        e.hint = _not_back(journal) or e.hint
        raise
    except OSError as e:
        raise CallError.of(e, hint=_not_back(journal)) from None


def _not_back(journal: Journal) -> str | None:
    """Writes the former values again -> the hint that names those that could not be, or None."""
    failed = journal.back()
    return "some former values could not be written back: " + ", ".join(failed[:3]) if failed else None


def check_usage(paths: Mapping[str, str], mem: Memory) -> None:
    """checkBeforeUpdate by itself, for systemd, which must not be told a limit that kills."""
    from pyrunc.cgroup import v2

    group = Group(paths["unified"], "unified")
    try:
        v2.check_usage(group, mem)
    finally:
        group.close()
