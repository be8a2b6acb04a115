"""The counters of a resctrl group, for events."""

from __future__ import annotations

import posix

from pyrunc.parts.rdt import resctrl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.rdt import Entry


def stats(entry: Entry) -> dict[str, object]:
    """The object `intel_rdt` of an event: the schemata of the group and of the root group, hardware limits, and counters."""
    out: dict[str, object] = {}
    for key, resource in (("l3_cache", "L3"), ("mem_bw", "MB")):
        for suffix, names in (("_schema_root", ()), ("_schema", (entry["group"],))):
            line = _line(entry["root"], names, resource)
            if line:
                out[key + suffix] = line
        info = resctrl.info(entry["root"], resource)
        if info:
            out[key + "_info"] = info
    bandwidth, occupancy = _counters(entry["root"], resctrl.groups(entry)[-1])
    if bandwidth:
        out["mbm_stats"] = bandwidth
    if occupancy:
        out["cmt_stats"] = occupancy
    return out


def _line(root: str, names: tuple[str, ...], resource: str) -> str:
    fd = resctrl.open_dir(root, *names)
    try:
        for line in resctrl.read(fd, "schemata").split("\n"):
            if line.strip().startswith(resource + ":"):
                return line.strip()
    finally:
        posix.close(fd)
    return ""


def _counters(root: str, names: tuple[str, ...]) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """([{"mbm_total_bytes", "mbm_local_bytes"}], [{"llc_occupancy"}]), one for each NUMA node."""
    bandwidth: list[dict[str, int]] = []
    occupancy: list[dict[str, int]] = []
    try:
        fd = resctrl.open_dir(root, *names, "mon_data")
    except OSError:
        return bandwidth, occupancy  # hardware without monitoring
    try:
        for node in sorted(posix.listdir(fd)):
            below = posix.open(node, resctrl.O_DIR, dir_fd=fd)
            try:
                values = {name: resctrl.read(below, name).strip() for name in ("mbm_total_bytes", "mbm_local_bytes", "llc_occupancy")}
            finally:
                posix.close(below)
            numbers = {name: int(text) for name, text in values.items() if text.isdigit()}
            if "llc_occupancy" in numbers:
                occupancy.append({"llc_occupancy": numbers.pop("llc_occupancy")})
            if numbers:
                bandwidth.append(numbers)
    finally:
        posix.close(fd)
    return bandwidth, occupancy
