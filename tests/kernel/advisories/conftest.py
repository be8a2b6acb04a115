"""Fixtures for the tests of advisories. They use only the command line, so that

    pytest tests/kernel/advisories --runtime /usr/sbin/runc

runs the same cases on any runtime. A test says what must not happen on the host or in the container. How a runtime avoids it, by refusing
or by doing it right, is up to the runtime. So each test also shows that the same setup without the harm works (`harmless`).
test_advisory_table.py runs all of them on a runtime that refuses everything and on one that accepts everything, and none may pass. At the
end of each test, `host` checks that the directory outside (O) has not changed and that no mount is left; with pyrunc also that no process,
no cgroup and no state is left.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

import harness
import hoststate
from advisory_tools import SECRET, Harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness import Bundle, Json, Runtime
    from test_console import Listener
    from workshop import MakeBundle


HERE = os.path.dirname(os.path.abspath(__file__))
LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_EXCHANGE = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--first-variants", action="store_true", help="of each of the advisories' tests only the first variant")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--first-variants", False):
        first = {}
        for item in items:
            first.setdefault(item.function, item)  # type: ignore[attr-defined]
        items[:] = first.values()


class Host:
    """O: a directory on the host with the file `victim`. The test prepares it and then calls `freeze()`."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.victim = directory / "victim"
        self.victim.write_text(SECRET)
        self.freeze()

    def freeze(self) -> None:
        self.before = hoststate.snapshot(self.directory)

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.directory / name

    def __str__(self) -> str:
        return str(self.directory)


@pytest.fixture(scope="session", autouse=True)
def what_crun_needs(runtime_path: str) -> Iterator[None]:
    """crun requires every version 1 controller of the kernel to be mounted if any of them is."""
    place = "/sys/fs/cgroup/hugetlb"
    wanted = os.path.basename(runtime_path) == "crun" and os.path.isdir("/sys/fs/cgroup/memory") and not os.path.ismount(place)
    if wanted:
        os.makedirs(place, exist_ok=True)
        done = subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", place], capture_output=True, text=True)
        if done.returncode:
            pytest.exit("crun can make no container here: %s" % done.stderr.strip(), 3)
    yield
    if wanted:
        subprocess.run(["umount", place], check=True)
        os.rmdir(place)


@pytest.fixture
def runtime(runtime: Runtime) -> Runtime:
    """A shorter timeout: some runtimes hang in several of the tests."""
    vars(runtime)["call"] = functools.partial(runtime.call, timeout=10)  # replaces the method
    return runtime


@pytest.fixture(autouse=True)
def host(runtime: Runtime, scratch: pathlib.Path, token: str) -> Iterator[Host]:
    directory = tempfile.mkdtemp(prefix="O", dir=scratch)
    os.chmod(directory, 0o755)
    made = Host(pathlib.Path(directory))
    traces = hoststate.Traces(token, runtime.root)
    yield made
    runtime.clean()
    left = traces.left()
    now = hoststate.snapshot(directory)
    changed = {path for path in {**made.before, **now} if made.before.get(path) != now.get(path)}
    for pid in left.get("processes", ()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if not runtime.is_pyrunc:  # the tests of faults cover hanging runtimes
        left = {kind: left[kind] for kind in left if kind == "mounts"}
    hoststate.sweep(token)
    assert not changed, "changed on the host: %s" % sorted(changed)
    assert not left, "left on the host: %s" % left


@pytest.fixture
def harmless(runtime: Runtime, make_bundle: MakeBundle) -> Harmless:
    """The positive control of the test (advisory_tools.Harmless)."""
    return Harmless(runtime, make_bundle)


@pytest.fixture(scope="session")
def prober_path(scratch: pathlib.Path) -> pathlib.Path:
    if not shutil.which("cc"):
        pytest.skip("no C compiler on this machine")
    path = scratch / "prober"
    subprocess.run(["cc", "-static", "-O1", "-o", path, os.path.join(HERE, "prober.c")], check=True)
    return path


@pytest.fixture
def prober(prober_path: pathlib.Path) -> Callable[[Bundle], Bundle]:
    """prober(bundle): installs the hostile program as /bin/prober in the image."""

    def put(bundle: Bundle) -> Bundle:
        shutil.copy(prober_path, bundle.rootfs / "bin/prober")
        return bundle

    return put


@pytest.fixture
def swap() -> Iterator[Callable[[str, str], None]]:
    """swap(a, b): a process that exchanges two names until the test ends."""
    pids = []

    def start(a: str, b: str) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                first, second = os.fsencode(a), os.fsencode(b)
                while True:
                    LIBC.renameat2(-100, first, -100, second, RENAME_EXCHANGE)
            finally:
                os._exit(0)
        pids.append(pid)

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def listener(scratch: pathlib.Path) -> Iterator[Listener]:
    """The caller's end of --console-socket."""
    from test_console import Listener  # from tests/cli

    directory = scratch / "console"
    directory.mkdir(exist_ok=True)
    (directory / "console.sock").unlink(missing_ok=True)
    made = Listener(directory)
    made.socket.settimeout(2)  # create has exited by the time the test receives
    yield made
    made.close()


@pytest.fixture
def no_dev(make_bundle: MakeBundle) -> Callable[..., Bundle]:
    """no_dev(changes, args): a bundle without mounts at /dev, so that the /dev of the image stays visible."""

    def make(changes: Mapping[str, Json] | None = None, args: Sequence[str] | None = None, keep: Sequence[str] = ()) -> Bundle:
        base: Json = harness.BASE
        mounts = [m for m in base["mounts"] if not m["destination"].startswith("/dev") or m["destination"] in keep]
        return make_bundle({"/mounts": mounts, **(changes or {})}, args=args)

    return make
