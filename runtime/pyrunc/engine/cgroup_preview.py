"""Which control files of cgroups a plan would write, and what: found by the very drivers, on groups that only take notes.

For plan, explain and diff. Touches nothing: whether a file exists is asked of the nearest cgroup above that is there already.
"""

import posix

from pyrunc.errors import PyruncError


class Notes:
    """Stands in for cgroup.group.Group: writes are noted, what can be read is what nobody has set yet."""

    def __init__(self, path, key, found):
        self.path = path
        self.key = key
        self.found = found
        self.near = _nearest(path)

    def close(self):
        """Nothing is open."""

    def look(self, name):
        return None

    def number(self, name):
        return None

    def has(self, name):
        """As the cgroup above has it; where that says nothing (the root has few files), the usual files are there, BFQ's are not."""
        try:
            posix.stat(self.near + "/" + name)
        except OSError:
            return "bfq" not in name
        return True

    def put(self, name, value):
        self.write(name, value)

    def write(self, name, value, pointer=None):
        self.found.append({"pointer": pointer, "controller": self.key, "file": self.path + "/" + name, "value": value})

    def failure(self, e, name, value, pointer):
        return e


def _nearest(path):
    while path.count("/") > 1:
        path = path.rpartition("/")[0]
        try:
            posix.stat(path)
        except OSError:
            continue
        break
    return path


def files(plans):
    """plans -> [{"pointer", "controller", "file", "value"}] in the order of writing; device rules are no files and not among them."""
    cgroups, entry = plans.get("cgroups"), plans.get("resources")
    if not cgroups or not entry or not cgroups.get("paths"):
        return []
    found = []

    def noted(path, key):
        return Notes(path, key, found)

    from pyrunc.cgroup import v1, v2

    try:
        (v2 if cgroups["version"] == 2 else v1).apply(cgroups["paths"], entry, noted)
    except (PyruncError, OSError):
        return found  # what can't be written is told by plan() or by create
    return found
