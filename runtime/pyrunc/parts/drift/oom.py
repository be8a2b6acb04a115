"""The OOM score adjustment of init."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.oom import Entry
    from pyrunc.parts.sides import Drift


def compare(entry: Entry, drift: Drift) -> None:
    adjusted = int(drift.proc("oom_score_adj"))
    if adjusted != entry["value"]:
        drift.differs("limits", "oomScoreAdj", entry["value"], adjusted, "/process/oomScoreAdj")
