"""What the tests of docker share."""

import contextlib

from callers import IMAGE


@contextlib.contextmanager
def running(docker, *words, command=("sleep", "1000"), image=IMAGE, **options):
    """A detached container, removed by force at the end; gives its id."""
    name = docker.run("-d", *words, image, *command, **options).ok().out.strip()
    try:
        yield name
    finally:
        docker("rm", "--force", name).ok()


def inspect(docker, name, template):
    return docker("inspect", "--format", template, name).ok().out.strip()
