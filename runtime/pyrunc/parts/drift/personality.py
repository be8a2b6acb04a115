"""The execution domain of init."""

from __future__ import annotations

from pyrunc.parts.personality import DOMAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.personality import Entry
    from pyrunc.parts.sides import Drift


def compare(entry: Entry, drift: Drift) -> None:
    """/proc/PID/personality may be read by who may trace the process."""
    seen = int(drift.proc("personality"), 16) & 0xFF  # the bits above are the program's ELF header's
    if seen != entry["domain"]:
        names = {number: name for name, number in DOMAINS.items()}
        drift.differs("personality", "domain", names[entry["domain"]], names.get(seen, "%#x" % seen), "/linux/personality/domain")
