"""Helpers for the tests in the guest: control files, systemctl, polling for changes without an event.

Invariant: results are read from the kernel or from systemctl, never from the state of the runtime.
"""

from __future__ import annotations

import contextlib
import pathlib
import select
import subprocess
import time
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

    from harness import Option, Result, Runtime


IMAGE = "localhost/busybox"  # in the podman stores of root and of the user
CGROUP = pathlib.Path("/sys/fs/cgroup")


def cgroup_of(pid: int | str) -> pathlib.Path:
    """The directory of the cgroup of a process."""
    with open("/proc/%s/cgroup" % pid) as file:
        return CGROUP / file.read().strip().rpartition("::")[2].lstrip("/")


def read(path: str | os.PathLike[str]) -> str:
    return pathlib.Path(path).read_text().strip()


def numbers(path: str | os.PathLike[str]) -> dict[str, int]:
    """A flat keyed file: {key: number}."""
    return {key: int(value) for key, value in (line.split() for line in read(path).splitlines())}


def told(*argv: str, check: bool = True, **options: Option) -> str:
    """The output of a command in the guest."""
    with harness.Capture() as out, harness.Capture() as err:
        code = wait_for(argv, out.file, err.file, **options)
        assert not check or code == 0, harness.Result(argv, code, out.text(), err.text())
        return out.text().strip()


def wait_for(argv: Sequence[str], out: IO[bytes], err: IO[bytes], **options: Option) -> int:
    """Runs a command whose children may keep its streams open, so these are files. -> its exit status."""
    process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options)
    try:
        return process.wait(2 * harness.WATCHDOG)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError("hangs: %r" % (argv,)) from None


def systemctl(*words: str, **options: Option) -> str:
    return told("systemctl", *words, **options)


def shown(unit: str, *properties: str, user: Sequence[str] = ()) -> dict[str, str]:
    """{property: text} of a unit."""
    lines = systemctl(*user, "show", "--property=" + ",".join(properties), unit).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def until(true: Callable[[], object], what: str) -> None:
    """Polls for a change without an event, up to the limit of the watchdog."""
    end = time.monotonic() + harness.WATCHDOG
    while not true():
        assert time.monotonic() < end, "it never happened: " + what
        select.select([], [], [], 0.02)


@contextlib.contextmanager
def file_holds(path: str | os.PathLike[str], text: str) -> Iterator[None]:
    """Sets a kernel file to another value for the duration of the block."""
    path = pathlib.Path(path)
    before = path.read_text().strip()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


class Podman:
    """podman with the runtime under test and a cgroup manager."""

    def __init__(self, runtime: Runtime, manager: str) -> None:
        self.manager = manager
        self.argv = ["podman", "--runtime", runtime.path, "--cgroup-manager", manager]
        self.names: list[str] = []

    def call(self, *words: str, stdin: str | None = None) -> Result:
        with harness.Capture() as out, harness.Capture() as err:
            code = wait_for([*self.argv, *words], out.file, err.file)
            return harness.Result([*self.argv, *words], code, out.text(), err.text())

    def ok(self, *words: str) -> Result:
        result = self.call(*words)
        assert result.code == 0, result
        return result

    def once(self, *words: str, command: Sequence[str] = ("true",)) -> Result:
        return self.call("run", "--rm", "--network=none", *words, IMAGE, *command)

    def up(self, *words: str, command: Sequence[str] = ("sleep", "1000")) -> tuple[str, int, pathlib.Path]:
        """A detached container -> (id, pid, cgroup directory)."""
        id = self.ok("run", "-d", "--network=none", "--stop-timeout=0", *words, IMAGE, *command).out.strip()
        self.names.append(id)
        pid = int(self.ok("inspect", "--format", "{{.State.Pid}}", id).out)
        return id, pid, cgroup_of(pid)

    def clean(self) -> None:
        for id in self.names:
            self.call("rm", "--force", "--time=0", id)
