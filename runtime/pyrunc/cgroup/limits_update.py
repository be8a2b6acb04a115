"""Changes the limits of a running container, all or none.

runc's `update`. Invariant: only requested values are written, and if a write is refused, the files written before get their previous values
back. Device rules are never changed here: callers send "deny all" with every update.
"""

from __future__ import annotations

from pyrunc.cgroup.group import Group
from pyrunc.errors import CallError, StepFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    from pyrunc.cgroup.group import Note
    from pyrunc.cgroup.shapes import Memory

    Resources: TypeAlias = Any  # the entry of parts/resources; this module iterates over its keys, which a TypedDict does not allow

# Files with a line per device -> the value that removes the line. `{}` is the device.
PER_DEVICE = {
    "blkio.throttle.read_bps_device": "{} 0", "blkio.throttle.write_bps_device": "{} 0", "blkio.throttle.read_iops_device": "{} 0",
    "blkio.throttle.write_iops_device": "{} 0", "blkio.weight_device": "{} 0", "blkio.leaf_weight_device": "{} 0",
    "blkio.bfq.weight_device": "{} 0",
    "io.max": "{} rbps=max wbps=max riops=max wiops=max", "io.weight": "{} default", "io.bfq.weight": "{} default",
    "rdma.max": "{} hca_handle=max hca_object=max", "net_prio.ifpriomap": "{} 0",
}  # fmt: skip


def merge(stored: Resources, new: Resources) -> Resources:
    """The stored neutral resources, updated with the new values: this is what is saved and checked for contradictions. A new memory limit
    of -1 removes a stored swap limit, because nobody wants unlimited memory with limited swap."""
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
    """The values to write: the new ones, and the stored counterparts of those that belong together (limit and swap, quota and period)."""
    out = {key: value for key, value in new.items() if key not in ("devices", "asked", "in_userns")}
    for part, pair, along in (("memory", ("limit", "swap"), ("limit", "swap", "check")), ("cpu", ("quota", "period"), ("quota", "period"))):
        if any(key in new.get(part, ()) for key in pair):
            out[part] = {**new[part], **{key: merged[part][key] for key in along if key in merged[part]}}
    return out


class Journal:
    """Opens groups and records their writes. back() undoes them, the latest first, and returns a list of what can't be undone."""

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
    """The value that undoes writing `value` to a file that contained `old`; None if there is nothing to write."""
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
        return old.strip() or "\n"  # empty: inherited from the parent
    return old.strip() or None


def apply(paths: Mapping[str, str], resources: Resources, version: int | str | None) -> None:
    """Writes neutral resources to live cgroups. StepFailure, after everything has been undone."""
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
    """Restores the previous values -> a hint that names those that could not be restored, or None."""
    failed = journal.back()
    return "some former values could not be written back: " + ", ".join(failed[:3]) if failed else None


def check_usage(paths: Mapping[str, str], mem: Memory) -> None:
    """checkBeforeUpdate alone, before systemd sets a limit: a limit below the usage would kill processes."""
    from pyrunc.cgroup import v2

    group = Group(paths["unified"], "unified")
    try:
        v2.check_usage(group, mem)
    finally:
        group.close()
