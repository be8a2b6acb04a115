"""Fixtures for tests in the guest: containers of both cgroup drivers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import guest
import harness
import users

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness import Bundle, Json, Result, Runtime
    from hoststate import Traces
    from workshop import MakeBundle, Workshop


class Driver:
    """A cgroup driver. globals: the global options of the runtime; path(name): a cgroupsPath."""

    def __init__(self, name: str, token: str) -> None:
        self.name = name
        self.globals = ("--systemd-cgroup",) if name == "systemd" else ()
        self.token = token
        self.count = 0

    def path(self) -> str:
        self.count += 1
        name = "%s-d%d" % (self.token, self.count)
        return "system.slice:vm:" + name if self.name == "systemd" else "/" + name


@pytest.fixture(params=["cgroupfs", "systemd"])
def driver(request: pytest.FixtureRequest, token: str) -> Driver:
    return Driver(request.param, token + request.param[0])


@pytest.fixture
def started(
    runtime: Runtime, make_bundle: MakeBundle, driver: Driver, no_leaks: Traces
) -> Iterator[Callable[..., tuple[str, int, pathlib.Path]]]:
    """started(changes, args) -> (id, pid of init, its cgroup directory) of a running container with this driver."""

    def start(changes: Mapping[str, Json] | None = None, args: Sequence[str] = harness.WAIT_FOR_TERM) -> tuple[str, int, pathlib.Path]:
        bundle = make_bundle({"/linux/cgroupsPath": driver.path(), **(changes or {})}, args=args)
        id = runtime.create(bundle, globals=driver.globals)
        pid = runtime.state(id)["pid"]
        group = guest.cgroup_of(pid)  # read before the program can move or exit
        runtime.start(id)
        return id, pid, group

    yield start
    runtime.clean()


@pytest.fixture
def ran(runtime: Runtime, make_bundle: MakeBundle, driver: Driver, no_leaks: Traces) -> Callable[..., Result]:
    """ran(changes, args) -> Result of a `run` in the foreground with this driver."""

    def run(changes: Mapping[str, Json] | None = None, args: Sequence[str] = ("/bin/true",)) -> Result:
        bundle = make_bundle({"/linux/cgroupsPath": driver.path(), **(changes or {})}, args=list(args))
        return runtime.run(bundle, globals=driver.globals)

    return run


@pytest.fixture(scope="session")
def disk() -> tuple[int, int]:
    """(major, minor) of the disk of the guest."""
    number = os.stat("/dev/vda").st_rdev
    return os.major(number), os.minor(number)


@pytest.fixture
def rootless(runtime: Runtime, no_leaks: Traces) -> Iterator[Runtime]:
    """The runtime as uid 1000, the current user, with the environment of a session."""
    runtime.env = users.environment()
    yield runtime
    runtime.clean()


@pytest.fixture
def make_rootless(workshop: Workshop, rootless: Runtime) -> Callable[..., Bundle]:
    """make_rootless(changes, args, caps) -> a bundle with the config of `spec --rootless`."""
    return lambda changes=None, args=None, caps=(): users.bundle(workshop, rootless, changes, args, caps)


@pytest.fixture
def runc(scratch: pathlib.Path, token: str, cgroup: str) -> Iterator[Runtime]:
    """runc, with its own state root."""
    made = harness.Runtime("/usr/sbin/runc", scratch / "runc", token + "runc", cgroup)
    yield made
    made.clean()
