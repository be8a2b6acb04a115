"""The table of engines, and the decorator that selects those a test runs on."""

from __future__ import annotations

import pytest

ALL = ("podman", "rootless", "docker", "remapped")
OF_ROOT = ("podman", "docker")


def on(*engines: str) -> pytest.MarkDecorator:
    """Runs a test with the fixture `engine` once for each engine. It must be the innermost decorator, so that the engine is the first word of the
    id."""
    return pytest.mark.parametrize("engine", engines, indirect=True)


everywhere = on(*ALL)
