"""The execution domain of init."""

from __future__ import annotations

from pyrunc.parts.personality import DOMAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.personality import Entry
    from pyrunc.parts.sides import Drift


def compare(entry: Entry, drift: Drift) -> None:
    """Reading /proc/PID/personality requires permission to trace the process."""
    seen = int(drift.proc("personality"), 16) & 0xFF  # the higher bits come from the program's ELF header
    if seen != entry["domain"]:
        names = {number: name for name, number in DOMAINS.items()}
        drift.differs("personality", "domain", names[entry["domain"]], names.get(seen, "%#x" % seen), "/linux/personality/domain")
