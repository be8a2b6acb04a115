"""Compares a running container with its saved plan, or with another one: what the kernel shows now, and what was planned. Only reads, and
takes no lock.

A row: {"area", "what", "planned", "seen", "pointer"}; seen is None if it does not exist. Changes that the program itself can make (ids,
capabilities) are reported as well: they are what this is for. Properties that are not in the plan are not compared, because the caller's
values were not recorded. What can't be read from outside becomes a row in `unread`, and is never silently accepted.
"""

from __future__ import annotations

from pyrunc import fileio
from pyrunc.engine.diff import groups, mounts, process, settings
from pyrunc.errors import PyruncError, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.engine.shapes import Row
    from pyrunc.parts.plans import Plans
    from pyrunc.state_document import State

TABLE_LIMIT = 64 << 20


class Drift:
    """Collects rows. plans: the expected values; state: that of a running container."""

    def __init__(self, plans: Plans, state: State, started: bool) -> None:
        self.plans = plans
        self.pid = state["pid"]
        self.start_time = state.get("start_time")
        self.cgroups = state.get("cgroup_paths")  # None if the state has none: then the plan's are used
        self.started = started  # whether the program is running: some things only happen then
        self.rows: list[Row] = []
        self.unread: list[dict[str, str]] = []

    def differs(self, area: str, what: str, planned: Any, seen: Any, pointer: str | None = None) -> None:
        self.rows.append({"area": area, "what": what, "planned": planned, "seen": seen, "pointer": pointer})

    def look(self) -> Drift:
        for name, look in LOOKS:
            try:
                look(self)
            except (KeyError, TypeError, AttributeError):
                self.miss(name, "the saved plan is damaged, or from another version")
            except PyruncError as e:
                self.miss(name, e.words)
            except (OSError, ValueError, IndexError) as e:
                self.miss(name, errno_text(e.errno) if isinstance(e, OSError) and e.errno else str(e))
        return self

    def miss(self, area: str, why: str) -> None:
        self.unread.append({"area": area, "why": why})

    def proc(self, name: str) -> str:
        return fileio.fsdecode(fileio.read_file("/proc/%d/%s" % (self.pid, name), TABLE_LIMIT))


LOOKS = (
    ("namespaces", mounts.namespaces), ("mounts", mounts.mounts), ("cgroup", groups.cgroup), ("devices", groups.devices),
    ("resctrl", groups.resctrl), ("settings", settings.look), ("capabilities", process.privileges), ("labels", process.labels),
    ("limits", process.limits), ("scheduling", process.scheduling), ("personality", process.personality),
)  # fmt: skip
