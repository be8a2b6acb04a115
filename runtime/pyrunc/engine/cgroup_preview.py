"""Which control files of cgroups a plan would write, and what: found by the very drivers, on groups that only take notes.

For plan, explain and diff. Touches nothing: whether a file exists is asked of the nearest cgroup above that is there already.
"""

from __future__ import annotations

import posix

from pyrunc.engine import planner
from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.engine.shapes import ControlFile
    from pyrunc.parts.plans import Plans


class Notes:
    """Stands in for cgroup.group.Group: writes are noted, what can be read is what nobody has set yet."""

    def __init__(self, path: str, key: str, found: list[ControlFile]) -> None:
        self.path = path
        self.key = key
        self.found = found
        self.near = _nearest(path)

    def close(self) -> None:
        """Nothing is open."""

    def look(self, name: str) -> None:
        return None

    def number(self, name: str) -> None:
        return None

    def has(self, name: str) -> bool:
        """As the cgroup above has it; where that says nothing (the root has few files), the usual files are there, BFQ's are not."""
        try:
            posix.stat(self.near + "/" + name)
        except OSError:
            return "bfq" not in name
        return True

    def put(self, name: str, value: str) -> None:
        self.write(name, value)

    def write(self, name: str, value: str, pointer: str | None = None) -> None:
        self.found.append({"pointer": pointer, "controller": self.key, "file": self.path + "/" + name, "value": value})

    def failure(self, e: OSError, name: str, value: str, pointer: str) -> OSError:
        return e


def _nearest(path: str) -> str:
    while path.count("/") > 1:
        path = path.rpartition("/")[0]
        try:
            posix.stat(path)
        except OSError:
            continue
        break
    return path


def files(plans: Plans) -> list[ControlFile]:
    """plans -> [{"pointer", "controller", "file", "value"}] in the order of writing; device rules are no files and not among them."""
    cgroups, entry = planner.entry(plans, "cgroups"), planner.entry(plans, "resources")
    if not cgroups or not entry or not cgroups.get("paths"):
        return []
    found: list[ControlFile] = []

    def noted(path: str, key: str) -> Notes:
        return Notes(path, key, found)

    from pyrunc.cgroup import v1, v2

    try:
        (v2 if cgroups["version"] == 2 else v1).apply(cgroups["paths"], entry, noted)
    except (PyruncError, OSError):
        return found  # what can't be written is told by plan() or by create
    return found
