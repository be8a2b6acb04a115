"""What a container uses at the moment, for `events`, `stats` and `top`: of its cgroups, and of Intel RDT if its config uses that."""

from __future__ import annotations

from pyrunc.cgroup import stats
from pyrunc.engine import planner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from pyrunc.cgroup.stats import Data
    from pyrunc.state_dir import StateDir

    Read: TypeAlias = Callable[[StateDir], Data]


def full(state_dir: StateDir) -> Data:
    """The object `data` of an event, in the format of runc's types/events.go."""
    return stats.collect(state_dir.state.get("cgroup_paths") or {}, planner.ask(state_dir.plan(), "rdt", "stats"))


def brief(state_dir: StateDir) -> Data:
    """The subset of it that tables and metrics show."""
    return stats.brief(state_dir.state.get("cgroup_paths") or {})
