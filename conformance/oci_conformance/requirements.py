"""The table of requirements (requirements.toml), as objects.

Rule: the table is the only place where a requirement's text, level and section stand; cases and reports go by its id.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oci_conformance.shapes import Version


LEVELS = ("MUST", "SHOULD", "MAY")
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "requirements.toml")


class Requirement:
    def __init__(self, id: str, text: str, level: str, section: str, unobservable: str | None = None, since: str | None = None) -> None:
        self.id = id
        self.text = text
        self.level = level
        self.section = section
        self.unobservable = unobservable  # why it cannot be observed, or None
        self.since = since  # the version of the specification that introduced it, or None

    @property
    def observable(self) -> bool:
        return self.unobservable is None

    def asked_of(self, version: Version | None) -> bool:
        """Whether it applies to a runtime that declares this version ((1, 2, 0); None if it declares none)."""
        since = numbers(self.since) if self.since else None
        return since is None or version is None or since <= version

    def as_dict(self) -> dict[str, str | bool | None]:
        return {
            "id": self.id,
            "text": self.text,
            "level": self.level,
            "section": self.section,
            "observable": self.observable,
            "reason": self.unobservable,
            "since": self.since,
        }


def numbers(version: object) -> Version | None:
    """(1, 2, 0) of "1.2.0", "1.2.0-rc.1", "1.1.0+dev"; None of anything else."""
    parts = str(version).partition("+")[0].partition("-")[0].split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return None
    return tuple(int(part) for part in parts)


def load(path: str = PATH) -> dict[str, Requirement]:
    """{id: Requirement}, in the order of the table. ValueError if the table is inconsistent."""
    with open(path, "rb") as file:
        table = tomllib.load(file)
    found = {}
    for section, levels in table.items():
        hidden, since = levels.get("unobservable", {}), levels.get("since", {})
        for level in LEVELS:
            for id, text in levels.get(level, {}).items():
                if id in found:
                    raise ValueError("requirement %s appears twice" % id)
                found[id] = Requirement(id, text, level, section, hidden.get(id), since.get(id))
        stray = (set(hidden) | set(since)) - {id for level in LEVELS for id in levels.get(level, {})}
        if stray or set(levels) - {*LEVELS, "unobservable", "since"}:
            raise ValueError("section %s: %s" % (section, ", ".join(sorted(stray)) or "unknown table"))
    return found
