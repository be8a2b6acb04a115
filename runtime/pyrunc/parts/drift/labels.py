"""The profile and the label that init runs under."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.labels import Entry
    from pyrunc.parts.sides import Drift


def compare(entry: Entry, drift: Drift) -> None:
    """execve applies the profile, so before start there is none."""
    for key, pointer in (("apparmor", "/process/apparmorProfile"), ("selinux", "/process/selinuxLabel")):
        planned = entry.get(key)
        if planned is not None and drift.started:
            seen = _label(drift, key)
            if seen != planned:
                drift.differs("labels", key, planned, seen, pointer)


def _label(drift: Drift, key: str) -> str:
    """AppArmor's 'profile (enforce)' without the mode; an SELinux context unchanged."""
    if key == "apparmor":
        try:
            text = drift.proc("attr/apparmor/current")
        except FileNotFoundError:  # before Linux 5.8
            text = drift.proc("attr/current")
        return text.strip("\0\n").rpartition(" (")[0] or text.strip("\0\n")
    return drift.proc("attr/current").strip("\0\n")
