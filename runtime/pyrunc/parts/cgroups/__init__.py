"""/linux/cgroupsPath: chooses the container's cgroups, creates them, moves init into them, and removes them.

runtime-spec, config-linux.md#cgroups-path. Invariant: a cgroup is recorded before it is created, and cgroups that existed before are never
removed. The part `resources` sets limits; cgroup/tree.py creates and removes directories; cgroup/systemd.py handles systemd scopes.
"""

from pyrunc.parts.cgroups.plan import freezer, is_rootless, plan, planned_paths, salvaged
from pyrunc.parts.cgroups.verbs import host_delegate, host_make, host_place, host_remove_empty, init_place, undo_make

__all__ = [
    "freezer", "host_delegate", "host_make", "host_place", "host_remove_empty", "init_place", "is_rootless", "plan", "planned_paths",
    "salvaged", "undo_make",
]  # fmt: skip
