"""What the tests of podman share."""

import contextlib
import os

from callers import IMAGE


@contextlib.contextmanager
def running(podman, *words, command=("sleep", "1000"), **options):
    """A detached container, removed by force at the end; gives its id."""
    name = podman.run("-d", *words, IMAGE, *command, **options).ok().out.strip()
    try:
        yield name
    finally:
        podman("rm", "--force", "--time=0", name).ok()


def inspect(podman, name, template):
    return podman("inspect", "--format", template, name).ok().out.strip()


def status_of(podman, *words):
    """A line of /proc/self/status as seen by a container's process."""
    key, *words = words
    text = podman.run(*words, IMAGE, "cat", "/proc/self/status").ok().out
    return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith(key + ":"))


def cgroup_value(world, name, controller, v1, v2):
    """A file of a container's cgroup, under either version."""
    place = f"/sys/fs/cgroup/{controller}/{world.cgroup}/libpod-{name}/{v1}"
    if not os.path.exists(os.path.dirname(place)):
        place = f"/sys/fs/cgroup/{world.cgroup}/libpod-{name}/{v2}"
    with open(place) as file:
        return file.read().strip()
