"""Sysctls, which are only visible in their namespace."""

from __future__ import annotations

from pyrunc.errors import escape_pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.sides import Setting
    from pyrunc.parts.sysctls import Entry


def settings(entry: Entry) -> tuple[list[Setting], list[str]]:
    """(files to read below /proc, kinds of the namespaces to read them in)"""
    found: list[Setting] = [
        ("sysctls", name, "sys/" + path, value, "/linux/sysctl/" + escape_pointer(name)) for name, path, value in entry["list"]
    ]
    return found, list(entry["foreign"])
