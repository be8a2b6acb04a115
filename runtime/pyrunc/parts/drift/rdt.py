"""The resctrl group."""

from __future__ import annotations

from pyrunc.parts.rdt import current, is_value
from pyrunc.parts.rdt.resctrl import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.rdt import Entry
    from pyrunc.parts.sides import Drift


def compare(entry: Entry, drift: Drift) -> None:
    """The lines of the group, and whether init is in it."""
    try:
        seen = current(entry)
    except FileNotFoundError:
        drift.differs("resctrl", "group", "/" + entry["group"], None, "/linux/intelRdt")
        return
    for line in entry["schemata"]:
        for resource, domains in parse([line]).items():
            for domain, value in domains.items():
                there = (seen.get(resource) or {}).get(domain)
                if not is_value(entry, resource, value, there):
                    drift.differs("resctrl", "%s:%s" % (resource, domain), value, there, "/linux/intelRdt")
    try:
        rows = drift.proc("cpu_resctrl_groups").split("\n")
    except FileNotFoundError:
        return  # before Linux 5.6
    group = next((row[len("res:") :] for row in rows if row.startswith("res:")), "")
    if group and group.strip("/") != entry["group"]:
        drift.differs("resctrl", "group", "/" + entry["group"], group, "/linux/intelRdt/closID")
