"""A plugin for pytest, loaded by its entry point: fixtures that provide containers for a test, and remove them afterwards.

    def test_it(pyrunc_container):
        container = pyrunc_container(["/bin/sh", "-c", "echo hello"])
        assert container.wait(10).status == 0 and container.stdout == b"hello\\n"

`--pyrunc-runtime PATH` selects another binary. Tests that need root are skipped for other users.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pytest

from pyrunc.api.bundle import Bundle
from pyrunc.api.container import Container
from pyrunc.api.errors import NotFoundError, NotInstalledError
from pyrunc.api.runtime import Runtime


class MakeContainer(Protocol):
    """The type of the fixture pyrunc_container."""

    def __call__(
        self,
        what: Sequence[str] | Bundle | os.PathLike[str],
        *,
        changes: Mapping[str, object] | None = None,
        start: bool = True,
        capture: bool = True,
    ) -> Container: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyrunc")
    group.addoption("--pyrunc-runtime", metavar="PATH", default=None, help="the pyrunc that the fixtures use (the one that is found)")


@pytest.fixture(scope="session")
def pyrunc_runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A Runtime with a state directory for this session."""
    if os.geteuid() != 0:
        pytest.skip("containers with cgroups and devices need root")
    try:
        runtime = Runtime(request.config.getoption("--pyrunc-runtime"), root=tmp_path_factory.mktemp("pyrunc") / "root")
    except NotInstalledError as e:
        pytest.skip(str(e))
    with runtime:
        yield runtime


@pytest.fixture
def pyrunc_container(pyrunc_runtime: Runtime, tmp_path: pathlib.Path) -> Iterator[MakeContainer]:
    """pyrunc_container(args or bundle, changes={"/hostname": "x"}, start=True, capture=True) → Container. With args, it creates a busybox
    bundle below tmp_path. After the test the containers are killed and deleted, the last one first."""
    made: list[Container] = []

    def make(
        what: Sequence[str] | Bundle | os.PathLike[str],
        *,
        changes: Mapping[str, object] | None = None,
        start: bool = True,
        capture: bool = True,
    ) -> Container:
        if isinstance(what, Bundle):
            bundle = what
        elif isinstance(what, os.PathLike):
            bundle = Bundle(what)
        else:
            bundle = Bundle.busybox(what, tmp_path / ("bundle-%d" % len(made)))
        for pointer, value in (changes or {}).items():
            bundle.set(pointer, value)
        if changes:
            bundle.save()
        made.append(pyrunc_runtime.create(bundle, capture=capture))
        return made[-1].start() if start else made[-1]

    yield make
    failures = []
    for container in reversed(made):
        try:
            container.delete(force=True)
        except NotFoundError:
            pass
        except Exception as e:  # the others must be removed nevertheless
            failures.append("%s: %s" % (container.id, e))
        container.close()
    assert not failures, failures
