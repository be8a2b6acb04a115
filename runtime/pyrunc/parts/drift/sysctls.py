"""Sysctls: each shows in its own namespace only, and is read there."""

from __future__ import annotations

from pyrunc.errors import escape_pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Setting
    from pyrunc.parts.sysctls import Entry


def settings(entry: Entry) -> tuple[list[Setting], list[str]]:
    """(what is to be read below /proc, kinds of the namespaces that it shows in)"""
    found: list[Setting] = [
        ("sysctls", name, "sys/" + path, value, "/linux/sysctl/" + escape_pointer(name)) for name, path, value in entry["list"]
    ]
    return found, list(entry["foreign"])
