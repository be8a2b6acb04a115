"""Fixtures of the kernel tests."""

from __future__ import annotations

import pathlib
import tempfile
from typing import TYPE_CHECKING

import pytest

from mounting import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world(scratch: pathlib.Path) -> Iterator[World]:
    """A bundle and a directory outside of it (mounting.World); the test fails if it has changed the host."""
    made = World(pathlib.Path(tempfile.mkdtemp(prefix="w", dir=scratch)))
    yield made
    made.close()
