"""Resource limits of init."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.rlimits import Entry
    from pyrunc.parts.sides import Drift

UNLIMITED = (1 << 64) - 1


def compare(entry: Entry, drift: Drift) -> None:
    """Reads /proc/PID/limits, which has a line for each limit, in the order of their numbers; prlimit(2) on another user's process would
    require CAP_SYS_RESOURCE."""
    lines = drift.proc("limits").split("\n")[1:]
    for name, number, soft, hard, index in entry["list"]:
        seen = ":".join(word.strip() for word in (lines[number][26:47], lines[number][47:68]))
        if seen != _pair(soft, hard):
            drift.differs("limits", name, _pair(soft, hard), seen, "/process/rlimits/%d" % index)


def _pair(soft: int, hard: int) -> str:
    return ":".join("unlimited" if value == UNLIMITED else "%d" % value for value in (soft, hard))
