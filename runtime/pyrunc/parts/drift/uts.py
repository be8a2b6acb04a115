"""Host name and domain name, which are only visible in their namespace."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Setting
    from pyrunc.parts.uts import Entry

NAMES = (("hostname", "sys/kernel/hostname"), ("domainname", "sys/kernel/domainname"))


def settings(entry: Entry) -> tuple[list[Setting], list[str]]:
    """(files to read below /proc, kinds of the namespaces to read them in)"""
    names: dict[str, str] = {**entry}  # type: ignore[dict-item]
    return [("names", key, path, names[key], "/" + key) for key, path in NAMES if key in names], ["uts"]
