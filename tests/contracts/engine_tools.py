"""The table of engines: which of them a test is for."""

from __future__ import annotations

import pytest

ALL = ("podman", "rootless", "docker", "remapped")
OF_ROOT = ("podman", "docker")


def on(*engines: str) -> pytest.MarkDecorator:
    """A test of the fixture `engine`, once for each. To be written next to the function, so that the engine is the first word of the id."""
    return pytest.mark.parametrize("engine", engines, indirect=True)


everywhere = on(*ALL)
