"""Fixtures shared by all folders. The tools behind them are in harness.py, workshop.py and hoststate.py.

    pytest tests/cli --runtime /usr/sbin/runc       the general tests on another runtime

`kernel` and `caller` tests need root; everything else that a machine may lack is said in a skip.
"""

from __future__ import annotations

import gc
import os
import pathlib
import random
import shutil
import tempfile
import traceback
from typing import TYPE_CHECKING

import pytest

import harness
import hoststate
import session as whole_run
from workshop import MakeBundle, Workshop

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from harness import Runtime


WATCHDOG = pytest.StashKey[whole_run.Watchdog]()
ORPHANS = pytest.StashKey[whole_run.Orphans]()
BOUND = {"long": 3600, "caller": 600, None: 240}  # seconds that a test may take on a busy machine; see `bound`


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runtime", default=str(harness.ROOT / ".venv/bin/pyrunc"), help="the runtime under test (default: .venv/bin/pyrunc)")
    parser.addoption("--shuffle", metavar="SEED", help="modules, and the tests in each, in a random order that SEED gives again")
    parser.addoption("--unsupervised", action="store_true", help="one process alone, for debuggers: what a test leaves is not looked for")


@pytest.hookimpl(tryfirst=True)  # threads started by plugins would not exist in the child
def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("xdist"):
        from side_by_side import SideBySide  # it imports xdist

        config.pluginmanager.register(SideBySide())
    config.addinivalue_line("markers", "bound(seconds): the test may take that long before the watchdog ends it")
    whole_run.settle()
    worker = hasattr(config, "workerinput")
    if not worker and not config.option.collectonly and not config.option.unsupervised:
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            screen = os.dup(1)
        whole_run.supervise(screen)
        os.close(screen)
    if not config.option.unsupervised:
        config.stash[WATCHDOG] = whole_run.Watchdog(pytest.fail.Exception)
    if whole_run.DIRECTORY in os.environ:
        supervisor = vars(config)["workerinput"]["supervisor"] if worker else os.getppid()
        config.stash[ORPHANS] = whole_run.Orphans(supervisor)


def watched(item: pytest.Item, phase: str) -> Generator[None, object, object]:
    dog = item.config.stash.get(WATCHDOG, None)
    marker = item.get_closest_marker("bound")
    seconds = marker.args[0] if marker else next(BOUND[name] for name in BOUND if name is None or name in item.keywords)
    if dog is not None:
        dog.set(seconds, "%s of %s takes longer than %d s" % (phase, item.nodeid, seconds))
    run = os.getpid()
    try:
        return (yield)
    finally:
        if os.getpid() != run:  # a child that a test has forked, and whose exception came up to here
            traceback.print_exc()
            os._exit(70)
        if dog is not None:
            dog.set(0, "")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from watched(item, "the set-up"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from watched(item, "the body"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield from watched(item, "the clean-up"))
    finally:
        if ORPHANS in item.config.stash:
            item.config.stash[ORPHANS].note(item.nodeid)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips the kernel tests without root, here once instead of in each file."""
    seed = config.getoption("--shuffle")
    if seed is not None:
        place = random.Random(seed)
        modules: dict[pathlib.Path, list[pytest.Item]] = {}
        for item in items:
            modules.setdefault(item.path, []).append(item)
        shuffled = list(modules.values())
        place.shuffle(shuffled)
        for some in shuffled:
            place.shuffle(some)
        items[:] = [item for some in shuffled for item in some]
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root")
    for item in items:
        if "kernel" in item.keywords or "caller" in item.keywords:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests were run again: -rR only names them."""
    reports: list[pytest.TestReport] = terminalreporter.stats.get("rerun", [])
    for report in reports:
        lines = [line for line in report.longreprtext.splitlines() if line.startswith("E  ")]
        terminalreporter.write_line("%s was run again: %s" % (report.nodeid, " | ".join(line[1:].strip() for line in lines[:4])))


def pytest_collection_finish() -> None:
    """What the collection has made stays to the end. The garbage collector need not look at it again, and a forked child does not copy it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def token() -> str:
    """A word that occurs in no path, id or cgroup of another session."""
    return "pt%dx" % os.getpid()


@pytest.fixture(scope="session")
def scratch(token: str) -> Iterator[pathlib.Path]:
    """A directory for this session, on a short path (unix sockets), removed at its end. Mounts left under it fail the session."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=token + "-"))
    path.chmod(0o755)  # other users than root have to search it, in user namespaces
    yield path
    left = hoststate.mounts(token)
    if not left:
        shutil.rmtree(path, ignore_errors=True)
    hoststate.sweep(token)
    assert not left, "mounts left on the host, nothing below them was removed: %s" % sorted(left)


@pytest.fixture(scope="session")
def package_for_all(scratch: pathlib.Path) -> pathlib.Path:
    """A directory with a copy of the package that users other than root can enter; a checkout under /root is not accessible to them."""
    path = scratch / "package"
    shutil.copytree(harness.ROOT / "runtime/pyrunc", path / "pyrunc", symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    return path


@pytest.fixture(scope="session")
def static_launcher() -> pathlib.Path:
    """The compiled launcher. Skips where it is not built."""
    if not harness.STATIC_LAUNCHER.exists():
        pytest.skip("the compiled launcher is not built here (make launcher)")
    return harness.STATIC_LAUNCHER


@pytest.fixture(scope="session")
def plain_launcher(scratch: pathlib.Path) -> pathlib.Path:
    """This checkout's plain launcher, whatever .venv/bin/pyrunc is, in a prefix where it finds the packages of its helper process."""
    prefix = scratch / "plain"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib").symlink_to(harness.ROOT / ".venv/lib")
    (prefix / "bin/pyrunc").symlink_to(harness.ROOT / "runtime/bin/pyrunc")
    return prefix / "bin/pyrunc"


@pytest.fixture(scope="session")
def workshop(scratch: pathlib.Path) -> Workshop:
    return Workshop(scratch)


@pytest.fixture(scope="session")
def runtime_path(request: pytest.FixtureRequest) -> str:
    path = request.config.getoption("--runtime")
    found = shutil.which(path, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin") if "/" not in path else path
    if not found or not os.path.exists(found):
        pytest.fail("no runtime at %s: run `make build`, or name another one with --runtime" % path)
    return os.path.abspath(found)


@pytest.fixture(scope="session")
def cgroup(token: str) -> Iterator[str]:
    """Prefix of the cgroupsPath of all bundles of this session (not a common parent, which nobody would remove)."""
    path = "/" + token
    yield path
    hoststate.sweep(token)


@pytest.fixture(scope="session")
def criu() -> None:
    """Skips where criu is not installed, or cannot even dump a sleeping process without any runtime."""
    with hoststate.alone_on_the_host("criu"):
        problem = hoststate.problem_of_criu()
    if problem:
        pytest.skip(problem)


@pytest.fixture
def runtime(runtime_path: str, scratch: pathlib.Path, token: str, cgroup: str, make_bundle: MakeBundle) -> Iterator[harness.Runtime]:
    """The runtime under test with an empty state root. Containers that the test leaves behind are removed after it, and before their bundles,
    in which poststop hooks start; without it they would start in /."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="r", dir=scratch))
    made = harness.Runtime(runtime_path, root, token + root.name, cgroup)
    yield made
    made.clean()


@pytest.fixture
def pyrunc(runtime: Runtime) -> Runtime:
    """The same, for what is specific to pyrunc: wording, order, options. Skipped if another runtime is under test."""
    if not runtime.is_pyrunc:
        pytest.skip("about pyrunc's own behaviour, and the runtime under test is %s" % runtime.name)
    return runtime


@pytest.fixture
def make_bundle(workshop: Workshop, cgroup: str) -> Iterator[MakeBundle]:
    """make_bundle({"/process/cwd": "/tmp"}, args=[...]) -> Bundle with its own root and a cgroup of this session. Removed after the test,
    unless something is still mounted under it."""
    make = MakeBundle(workshop, cgroup)
    yield make
    for bundle in make.made:
        if not hoststate.mounts(str(bundle.path) + "/") and not hoststate.mounts(str(bundle.path) + " "):
            shutil.rmtree(bundle.path, ignore_errors=True)


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> harness.Bundle:
    """A bundle whose program is /bin/true."""
    return make_bundle()


@pytest.fixture
def waiting(make_bundle: MakeBundle) -> harness.Bundle:
    """A bundle whose program waits, and exits with status 0 on SIGTERM."""
    return make_bundle(args=harness.WAIT_FOR_TERM)


@pytest.fixture
def no_leaks(runtime: Runtime, token: str) -> Iterator[hoststate.Traces]:
    """Fails the test if mounts, cgroups, processes or state directories of this session are left when it ends."""
    traces = hoststate.Traces(token, runtime.root)
    yield traces
    left = traces.left()
    if left:
        hoststate.sweep(token)
    assert not left, "left on the host: %s" % left


@pytest.fixture(autouse=True)
def known_hierarchies(request: pytest.FixtureRequest) -> None:
    """Each test finds the cgroup hierarchies that the host has mounted, and no others. With `pytest -n` this applies only in the worker
    processes in which criu mounts hierarchies."""
    if hasattr(request.config, "workerinput"):
        from side_by_side import group  # it imports xdist

        if group(request.node.nodeid) != "engines":
            return
    # `make mutants` runs tests unsupervised in a pid namespace of its own, where every other run looks dead
    if os.geteuid() == 0 and not request.config.option.unsupervised:
        hoststate.drop_stray_hierarchies()


@pytest.fixture(autouse=True)
def one_criu(request: pytest.FixtureRequest) -> Iterator[None]:
    """criu mounts cgroup hierarchies that are visible to the whole host, makes cgroups in them and leaves them behind: across all test runs
    on the machine only one test at a time may use it."""
    if os.geteuid() == 0 and "checkpoint" in request.node.nodeid and "tests/unit/" not in request.node.nodeid:
        with hoststate.alone_on_the_host("criu"):
            yield
    else:
        yield
