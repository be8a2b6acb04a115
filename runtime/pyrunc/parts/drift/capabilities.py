"""Capability sets and no_new_privs of init."""

from __future__ import annotations

from pyrunc.linux import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.capabilities import Entry
    from pyrunc.parts.sides import Drift

FIELDS = (("bounding", "CapBnd"), ("effective", "CapEff"), ("permitted", "CapPrm"), ("inheritable", "CapInh"), ("ambient", "CapAmb"))


def compare(entry: Entry, drift: Drift) -> None:
    user = drift.plans.get("user")
    wanted: dict[str, int] = {**entry}  # type: ignore[dict-item]  # all are int or bool
    if drift.started:
        wanted = after_exec(wanted, user["uid"] if user else 0)
    status = drift.status()
    for key, field in FIELDS:
        seen = int(status[field][0], 16)
        if seen != wanted[key]:
            drift.differs("capabilities", key, caps.names(wanted[key]), caps.names(seen), "/process/capabilities/" + key)
    if entry["nnp"] and status.get("NoNewPrivs") == ["0"]:
        drift.differs("capabilities", "noNewPrivileges", True, False, "/process/noNewPrivileges")


def after_exec(entry: dict[str, int], uid: int) -> dict[str, int]:
    """The sets after execve (capabilities(7)): root gets the whole bounding set, unless noNewPrivileges is set; others keep the ambient
    set. The program's file is assumed to have no file capabilities."""
    gained = entry["ambient"]
    if uid == 0:
        gained = entry["bounding"] | entry["inheritable"]
        gained = gained & entry["permitted"] if entry["nnp"] else gained
    return {**entry, "permitted": gained, "effective": gained}
