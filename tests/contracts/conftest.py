"""The contract tests: real callers use the runtime under test (from the environment variable RUNTIME; the default is pyrunc).

Owns the fixtures (one private world for each session, with one instance of each caller), the check that a test leaves nothing behind, the
gate for commands that a runtime lacks, and the table of callers and features at the end. `--markdown FILE` writes that table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from callers import Containerd, Engine
    from cri import Cri
    from harness import Json

    Caller = Json  # one of the classes in callers.py


HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import callers  # noqa: E402 the helper modules are in this directory
import cri as kubernetes  # noqa: E402
import images  # noqa: E402
import report  # noqa: E402
from sandbox import SYSTEM_PATH, Sandbox, wait_until  # noqa: E402

PROJECT = os.path.dirname(os.path.dirname(HERE))
GATES = ("exec", "pause", "update", "ps", "checkpoint")


def binary(config: Json) -> str:
    """The absolute path of the runtime under test: the environment variable RUNTIME or the option --runtime, a name to look up or a path."""
    wanted = os.environ.get("RUNTIME") or config.getoption("--runtime", None) or os.path.join(PROJECT, ".venv", "bin", "pyrunc")
    return os.path.abspath(shutil.which(wanted, path=SYSTEM_PATH) or wanted)


def runtime_commands(path: str | os.PathLike[str]) -> set[str]:
    """The commands in GATES that the runtime has: `COMMAND --help` succeeds. podman and cri-o detect checkpoint in the same way."""
    found = set()
    for name in GATES:
        try:
            if subprocess.run([path, name, "--help"], capture_output=True, timeout=30).returncode == 0:
                found.add(name)
        except OSError:
            break
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--containerd", metavar="DIR", help="the containerd, shim and ctr in DIR in place of the system's")
    parser.addoption("--markdown", metavar="FILE", help="write the table of callers and features to FILE")
    parser.addoption("--save", metavar="FILE", help="write the outcomes to FILE, for --against")
    parser.addoption("--against", metavar="FILE", help="fail where the run that --save wrote down (of another RUNTIME) did better")


def pytest_configure(config: Json) -> None:
    config.addinivalue_line("markers", "caller: needs a real caller")
    for name in GATES:
        config.addinivalue_line("markers", f"needs_{name}: the runtime has to have the command {name}")
    config.stash[report.TABLE] = report.Table(os.path.basename(binary(config)))
    config.pluginmanager.register(Noting(config.stash[report.TABLE]))


def pytest_collection_modifyitems(config: Json, items: list[pytest.Item]) -> None:
    path = binary(config)
    commands = runtime_commands(path)
    for item in items:
        if not str(item.path).startswith(HERE + os.sep):
            continue
        item.add_marker(pytest.mark.caller)
        for name in GATES:
            if item.get_closest_marker(f"needs_{name}") and name not in commands:
                item.add_marker(pytest.mark.skip(reason=f"{os.path.basename(path)} {name} --help fails: it has no such command"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Json, None]:
    outcome = yield
    answer = outcome.get_result()
    setattr(item, f"report_{answer.when}", answer)
    if str(item.path).startswith(HERE + os.sep):
        report.Table.mark(item, answer)


class Noting:
    """For the process that writes the table; with `pytest -n`, the reports come from worker processes."""

    def __init__(self, table: report.Table) -> None:
        self.table = table

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if any(name == "feature" for name, _ in report.user_properties):
            self.table.note(report)


def pytest_terminal_summary(terminalreporter: Json, config: Json) -> None:
    table = config.stash[report.TABLE]
    if not table.cells:
        return
    terminalreporter.write_sep("=", f"callers of {table.runtime}")
    terminalreporter.write_line(table.text())
    path = config.getoption("--markdown", None)
    if path:
        with open(path, "w") as file:
            file.write(table.markdown())
    if config.getoption("--save", None):
        table.save(config.getoption("--save"))
    worse = table.worse_than(config.getoption("--against")) if config.getoption("--against", None) else []
    for line in worse:
        terminalreporter.write_line(f"WORSE {line}")
    if config.getoption("--against", None) and not worse:
        terminalreporter.write_line("nothing passed there that does not pass here")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--against", None)
    if path and session.config.stash[report.TABLE].worse_than(path):
        session.exitstatus = 1


@pytest.fixture(scope="session")
def runtime(request: pytest.FixtureRequest) -> str:
    path = binary(request.config)
    if not os.access(path, os.X_OK):
        pytest.fail(f"no runtime to test: {path} isn't an executable file (make build makes it, or set RUNTIME)")
    return path


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest, runtime: str) -> Iterator[Sandbox]:
    """The private namespaces. At the end only the daemons may be left in them; they are then stopped one by one."""
    if os.geteuid():
        pytest.skip("not root, which the daemons of the callers require")
    programs = request.config.getoption("--containerd", None)
    place = Sandbox([PROJECT, os.path.dirname(runtime)], programs and os.path.abspath(programs))
    try:
        yield place
        callers.gone(place)
        for name in reversed(list(place.daemons)):
            place.stop_daemon(name)
        callers.gone(place)
    finally:
        left = place.close()
    assert not left, "cgroups that can't be removed, because they still have processes"


@pytest.fixture(scope="session")
def layer() -> bytes:
    missing = callers.packages_missing(["busybox"])
    if missing:
        pytest.skip("not installed: busybox (static)")
    return images.rootfs_tar()


@pytest.fixture(scope="session")
def started() -> list[Caller]:
    """Callers that have been set up, so that containers of a failed test can be removed."""
    return []


def caller(kind: type[Caller], world: Sandbox, runtime: str, layer: bytes, started: list[Caller]) -> Caller:
    missing = callers.packages_missing(kind.needs)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    one = kind(world, runtime, layer)
    started.append(one)
    return one


@pytest.fixture(scope="session")
def podman(world: Sandbox, runtime: str, layer: bytes, started: list[Caller]) -> Caller:
    return caller(callers.Podman, world, runtime, layer, started)


@pytest.fixture(scope="session")
def rootless(world: Sandbox, runtime: str, layer: bytes, started: list[Caller]) -> Caller:
    """Rootless podman; the runtime and all of its files must be readable by other users."""
    missing = callers.packages_missing(callers.RootlessPodman.needs)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    probe = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", "--", runtime, "--version"]
    if world.run(probe).status:
        pytest.skip("an ordinary user can't read the directory of the runtime")
    return caller(callers.RootlessPodman, world, runtime, layer, started)


@pytest.fixture(scope="session")
def containerd(world: Sandbox, runtime: str, layer: bytes, started: list[Caller]) -> Caller:
    return caller(callers.Containerd, world, runtime, layer, started)


@pytest.fixture(scope="session")
def docker(containerd: Containerd, world: Sandbox, runtime: str, layer: bytes, started: list[Caller]) -> Caller:
    return caller(callers.Docker, world, runtime, layer, started)


@pytest.fixture(scope="session")
def remapped(containerd: Containerd, world: Sandbox, runtime: str, layer: bytes, started: list[Caller]) -> Caller:
    return caller(callers.RemappedDocker, world, runtime, layer, started)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """A caller with docker's command line, by the name of its fixture (engine_tools.on)."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def buildah(world: Sandbox, runtime: str, layer: bytes, started: list[Caller]) -> Caller:
    return caller(callers.Buildah, world, runtime, layer, started)


@pytest.fixture(scope="session")
def cri(containerd: Containerd, started: list[Caller]) -> Cri:
    missing = kubernetes.missing()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    one = kubernetes.Cri(containerd)
    started.append(one)
    return one


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, world: Sandbox, started: list[Caller]) -> Iterator[None]:
    """Checks after each test that no process, mount, cgroup or state directory of a container is left. Leftovers of a failed test are removed."""
    yield
    answer = getattr(request.node, "report_call", None)
    if answer is not None and answer.passed:
        try:
            callers.gone(world)
            return
        except AssertionError as error:
            sweep(world, started)
            pytest.fail(str(error), pytrace=False)
    sweep(world, started)


def sweep(world: Sandbox, started: list[Caller]) -> None:
    """Removes all containers with their callers, and kills, by process id, those that the callers cannot remove."""
    for one in reversed(started):
        one.close()
    try:
        callers.gone(world)
    except AssertionError:
        for pid in world.processes():
            world.run(["kill", "-9", str(pid)])
        wait_until("the processes are gone", lambda: not world.processes())
        world.forget()
