"""What the tests of podman share."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from callers import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from callers import Podman
    from harness import Option
    from sandbox import Sandbox


@contextlib.contextmanager
def running(podman: Podman, *words: str, command: Sequence[str] = ("sleep", "1000"), **options: Option) -> Iterator[str]:
    """A detached container, removed by force at the end; gives its id."""
    name = podman.run("-d", *words, IMAGE, *command, **options).ok().out.strip()
    try:
        yield name
    finally:
        podman("rm", "--force", "--time=0", name).ok()


def inspect(podman: Podman, name: str, template: str) -> str:
    return podman("inspect", "--format", template, name).ok().out.strip()


def status_of(podman: Podman, *words: str) -> str:
    """A line of /proc/self/status as seen by a container's process."""
    key, *more = words
    text = podman.run(*more, IMAGE, "cat", "/proc/self/status").ok().out
    return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith(key + ":"))


def cgroup_value(world: Sandbox, name: str, controller: str, v1: str, v2: str) -> str:
    """A file of a container's cgroup, under either version."""
    place = f"/sys/fs/cgroup/{controller}/{world.cgroup}/libpod-{name}/{v1}"
    if not os.path.exists(os.path.dirname(place)):
        place = f"/sys/fs/cgroup/{world.cgroup}/libpod-{name}/{v2}"
    with open(place) as file:
        return file.read().strip()
