"""Host name and domain name: each shows in its own namespace only, and is read there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Setting
    from pyrunc.parts.uts import Entry

NAMES = (("hostname", "sys/kernel/hostname"), ("domainname", "sys/kernel/domainname"))


def settings(entry: Entry) -> tuple[list[Setting], list[str]]:
    """(what is to be read below /proc, kinds of the namespaces that it shows in)"""
    names: dict[str, str] = {**entry}  # type: ignore[dict-item]
    return [("names", key, path, names[key], "/" + key) for key, path in NAMES if key in names], ["uts"]
