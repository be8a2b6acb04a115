"""Compares a running container with its saved plan, or with another one: what the kernel shows now, and what was planned. Only reads, and
takes no lock.

A row: {"area", "what", "planned", "seen", "pointer"}; seen is None if it does not exist. Changes that the program itself can make (ids,
capabilities) are reported as well: they are what this is for. Properties that are not in the plan are not compared, because the caller's
values were not recorded. What can't be read from outside becomes a row in `unread`, and is never silently accepted.
"""

from __future__ import annotations

from pyrunc import fileio
from pyrunc.engine import planner
from pyrunc.engine.diff import groups, mounts, settings
from pyrunc.errors import PyruncError, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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

    def differs(self, area: str, what: str, planned: object, seen: object, pointer: str | None = None) -> None:
        self.rows.append({"area": area, "what": what, "planned": planned, "seen": seen, "pointer": pointer})

    def look(self) -> Drift:
        for name, look in LOOKS:
            try:
                if callable(look):
                    look(self)
                else:
                    for part in look:
                        self.compare(part)
            except (KeyError, TypeError, AttributeError):
                self.miss(name, "the saved plan is damaged, or from another version")
            except PyruncError as e:
                self.miss(name, e.words)
            except (OSError, ValueError, IndexError) as e:
                self.miss(name, errno_text(e.errno) if isinstance(e, OSError) and e.errno else str(e))
        return self

    def compare(self, part: str, *more: object) -> None:
        """Lets a part report how its plan differs from what exists (parts/drift)."""
        planner.ask(self.plans, part, "compare", self, *more, view="drift.")

    def miss(self, area: str, why: str) -> None:
        self.unread.append({"area": area, "why": why})

    def proc(self, name: str) -> str:
        return fileio.fsdecode(fileio.read_file("/proc/%d/%s" % (self.pid, name), TABLE_LIMIT))

    def status(self) -> dict[str, list[str]]:
        """proc_pid_status(5) of init: {field: words}."""
        return {line.partition(":")[0]: line.partition(":")[2].split() for line in self.proc("status").split("\n")}


# (area, its parts in order, or a function): if something can't be read, only this area ends early.
LOOKS: tuple[tuple[str, tuple[str, ...] | Callable[[Drift], None]], ...] = (
    ("namespaces", ("namespaces",)), ("mounts", mounts.look), ("cgroup", groups.cgroup), ("devices", ("resources",)), ("resctrl", ("rdt",)),
    ("settings", settings.look), ("capabilities", ("capabilities", "seccomp", "user")), ("labels", ("labels",)),
    ("limits", ("rlimits", "oom")), ("scheduling", ("scheduling",)), ("personality", ("personality",)),
)  # fmt: skip
