"""Determines which control files a plan would write, and their values, by running the real drivers on groups that only record writes.

For plan, explain and diff. Changes nothing: whether a file exists is looked up in the nearest existing cgroup above.
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
    """Replaces cgroup.group.Group: writes are recorded, and files have their default contents."""

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
        """Whether the cgroup above has the file. If that is inconclusive (the root has few files), the usual files exist, and BFQ's do
        not."""
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


def files(plans: Plans, paths: dict[str, str] | None = None) -> list[ControlFile]:
    """plans -> [{"pointer", "controller", "file", "value"}] in the order of writing; device rules are not files and not included. paths: the
    container's actual cgroups, if they are known."""
    found: list[ControlFile] = []

    def noted(path: str, key: str) -> Notes:
        return Notes(path, key, found)

    try:
        planner.module("resources").preview(plans, noted, paths)
    except (PyruncError, OSError):
        return found  # plan() or create reports what can't be written
    return found
