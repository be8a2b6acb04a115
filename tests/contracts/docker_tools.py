"""What the tests of docker share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from callers import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from callers import Docker
    from harness import Option


@contextlib.contextmanager
def running(
    docker: Docker, *words: str, command: Sequence[str] = ("sleep", "1000"), image: str = IMAGE, **options: Option
) -> Iterator[str]:
    """A detached container, removed by force at the end; gives its id."""
    name = docker.run("-d", *words, image, *command, **options).ok().out.strip()
    try:
        yield name
    finally:
        docker("rm", "--force", name).ok()


def inspect(docker: Docker, name: str, template: str) -> str:
    return docker("inspect", "--format", template, name).ok().out.strip()
