"""Whether a filter is loaded: the kernel does not show which one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.seccomp.profile import Entry
    from pyrunc.parts.sides import Drift

FILTER = "2"  # SECCOMP_MODE_FILTER


def compare(_entry: Entry, drift: Drift) -> None:
    mode = drift.status().get("Seccomp")
    if drift.started and mode and mode != [FILTER]:
        drift.differs("capabilities", "seccomp", "a filter", "strict" if mode == ["1"] else None, "/linux/seccomp")
