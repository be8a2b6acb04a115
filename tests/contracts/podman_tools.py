"""Where podman's cgroups are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox import Sandbox


def cgroup_value(world: Sandbox, name: str, controller: str, v1: str, v2: str) -> str:
    """The value of a file in the container's cgroup, with either version."""
    place = f"/sys/fs/cgroup/{controller}/{world.cgroup}/libpod-{name}/{v1}"
    if not os.path.exists(os.path.dirname(place)):
        place = f"/sys/fs/cgroup/{world.cgroup}/libpod-{name}/{v2}"
    with open(place) as file:
        return file.read().strip()
