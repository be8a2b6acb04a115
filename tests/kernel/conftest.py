"""Fixtures of the kernel tests."""

import pathlib
import tempfile

import pytest

from mounting import World


@pytest.fixture
def world(scratch):
    """A bundle and a directory outside of it (mounting.World); fails the test if the host is not as it was."""
    made = World(pathlib.Path(tempfile.mkdtemp(prefix="w", dir=scratch)))
    yield made
    made.close()
