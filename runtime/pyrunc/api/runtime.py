"""Runtime: a runtime binary and a directory for the state of its containers."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from pyrunc.api import caller
from pyrunc.api.bundle import Bundle
from pyrunc.api.container import Container
from pyrunc.api.errors import Error, Json, NotFoundError, NotInstalledError, TimeoutExpired, UsageError
from pyrunc.api.results import Completed, Problem

Path = str | os.PathLike[str]
File = int | IO[str] | IO[bytes]


def find_runtime() -> str:
    """The runtime to use by default: $PYRUNC, the one installed next to this package, the checkout's, or the first one in PATH."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    candidates = [os.environ.get("PYRUNC"), os.path.join(sys.prefix, "bin", "pyrunc"), os.path.join(here, "bin", "pyrunc")]
    for path in [*candidates, shutil.which("pyrunc")]:
        if path and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise NotInstalledError("no pyrunc found: give its path, set PYRUNC, or put it in a directory of PATH")


def open_text(path: str) -> str:
    with open(path) as file:
        return file.read()


def number_of(file: File | None) -> int | None:
    return file if file is None or isinstance(file, int) else file.fileno()


class Runtime:
    """path: the binary (find_runtime() if None); root: directory for the containers' state (the binary's default if None), created if it
    does not exist; options: more global options, such as ["--systemd-cgroup"]; timeout: the maximum number of seconds for a command that
    does not run a program.

    As a context manager it stops its helper process. Containers are not affected: they are not its children.
    """

    def __init__(
        self, path: Path | None = None, *, root: Path | None = None, options: Sequence[str] = (), timeout: float | None = 60.0
    ) -> None:
        self.path = find_runtime() if path is None else os.path.abspath(path)
        self.root = None if root is None else os.path.abspath(root)
        self.options = tuple(options)
        self.timeout = timeout
        self._caller = caller.Caller()

    def __repr__(self) -> str:
        return "Runtime(%r, root=%r)" % (self.path, self.root)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops the helper process; the next call starts another one."""
        self._caller.close()

    # ---- calling

    def _argv(self, log: str, *words: Path) -> list[str]:
        root = () if self.root is None else ("--root", self.root)
        found = [self.path, *root, "--log", log, "--log-format", "json", *self.options, *(os.fspath(word) for word in words)]
        if any("\0" in word for word in found):
            raise UsageError("%s: an argument has a NUL byte" % os.fspath(words[0]), {"kind": "usage"})
        return found

    def call(self, *words: Path, input: bytes | None = None, fds: Sequence[int] = (), check: bool = True) -> bytes:
        """Runs any command that does not run a program, with its arguments: `runtime.call("list", "--format", "json")`. → its standard
        output.

        Raises the Error for the record in its log. Without `check`, a status other than 0 without a record is accepted, as with `validate`.
        """
        out = caller.memory_file()
        source = None if input is None else caller.memory_file(input)
        try:
            with caller.log_file() as log:
                status = self._caller.command(self._argv(log.name, *words), source, out, None, fds, self.timeout, os.fspath(words[0]))
                self._raise_failure(log.name, status if check else 0, words)
            return caller.content(out)
        finally:
            os.close(out)
            if source is not None:
                os.close(source)

    def _raise_failure(self, log: str, status: int, words: Sequence[Path]) -> None:
        error = caller.failure(log)
        if error is not None:
            raise error
        if status:
            raise Error("%s %s exited with status %d and gave no reason" % (self.path, os.fspath(words[0]), status))

    def _begin(self, argv: Sequence[str], stdout: int) -> socket.socket:
        """Executes argv; closes `stdout` here at once. The socket has an answer when it has ended; closing that before ends the command."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            return self._caller.begin({"do": "run", "argv": list(argv)}, [null, stdout, null])
        finally:
            os.close(null)
            os.close(stdout)

    def _json(self, *words: Path, check: bool = True) -> Json:
        text = self.call(*words, check=check)
        try:
            return json.loads(text)
        except ValueError:
            raise Error("%s %s: the answer is not JSON" % (self.path, os.fspath(words[0]))) from None

    # ---- containers

    def create(
        self,
        bundle: Bundle | Path,
        id: str | None = None,
        *,
        capture: bool = False,
        stdin: File | None = None,
        stdout: File | None = None,
        stderr: File | None = None,
        fds: Sequence[File] = (),
        options: Sequence[str] = (),
    ) -> Container:
        """Creates a container up to the point where its program would start; `start()` starts it.

        id: generated if None. stdin, stdout, stderr: files for the program (/dev/null if None); capture: its output is kept in memory, for
        Container.stdout and stderr. fds: the program's descriptors from 3 on. options: of the command, such as ["--no-pivot"].
        """
        id = id if id is not None else "py-" + secrets.token_hex(6)
        own = [caller.memory_file(), caller.memory_file()] if capture else []
        made = Container(self, id, own)  # from here on, it closes them
        try:
            numbers = (number_of(stdin), number_of(stdout), number_of(stderr))
            out = [mine if given is None else given for given, mine in zip(numbers[1:], own or (None, None), strict=True)]
            words: list[Path] = ["create", "--bundle", os.fspath(bundle), *options]
            words += ["--preserve-fds", str(len(fds))] if fds else []
            more = [fd if isinstance(fd, int) else fd.fileno() for fd in fds]
            with caller.Workspace() as directory:
                log, pid_file = os.path.join(directory, "log"), os.path.join(directory, "pid")
                argv = self._argv(log, *words, "--pid-file", pid_file, id)
                try:
                    status = self._caller.command(argv, numbers[0], out[0], out[1], more, self.timeout, "create")
                except BaseException:
                    self._undo(id)
                    raise
                self._raise_failure(log, status, words)
                made._init_is(int(open_text(pid_file)))
            return made
        except BaseException:
            made.close()
            raise

    def run(
        self,
        bundle: Bundle | Path,
        id: str | None = None,
        *,
        input: bytes | None = None,
        stdin: File | None = None,
        stdout: File | None = None,
        stderr: File | None = None,
        timeout: float | None = None,
        check: bool = False,
        options: Sequence[str] = (),
    ) -> Completed:
        """Runs a container until its program exits, and deletes it. Output is captured in memory unless files are given.

        TimeoutExpired after `timeout` seconds: the container has been killed and deleted. check: raise ProgramFailed if the status is not
        0.
        """
        id = id if id is not None else "py-" + secrets.token_hex(6)
        words: list[Path] = ["run", "--bundle", os.fspath(bundle), *options, id]
        try:
            done = self._program(words, input, stdin, stdout, stderr, timeout)
        except (TimeoutExpired, KeyboardInterrupt):
            self._undo(id)
            raise
        return done.check() if check else done

    def _program(
        self,
        words: Sequence[Path],
        input: bytes | None,
        stdin: File | None,
        stdout: File | None,
        stderr: File | None,
        timeout: float | None,
    ) -> Completed:
        """A command whose output and status are those of a program: run, exec. The log tells whether the command itself failed."""
        own = [caller.memory_file(b"" if input is None else input), caller.memory_file(), caller.memory_file()]
        try:
            given = [number_of(stdin), number_of(stdout), number_of(stderr)]
            if given[0] is None and input is None:
                own.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
                given[0] = own[-1]
            fds = [mine if fd is None else fd for fd, mine in zip(given, own, strict=False)]
            with caller.log_file() as log:
                status = self._caller.command(self._argv(log.name, *words), fds[0], fds[1], fds[2], (), timeout, os.fspath(words[0]))
                self._raise_failure(log.name, 0, words)
            return Completed(tuple(os.fspath(word) for word in words), status, caller.content(own[1]), caller.content(own[2]))
        finally:
            for fd in own:
                os.close(fd)

    def _undo(self, id: str) -> None:
        """Removes what is left of a container after an interruption. There is nothing if create has already undone it."""
        try:
            self.call("delete", "--force", id)
        except NotFoundError:
            return

    def restore(self, bundle: Bundle | Path, image_path: Path, id: str | None = None, *, options: Sequence[str] = ()) -> Container:
        """Restores a running container from the images of Container.checkpoint()."""
        id = id if id is not None else "py-" + secrets.token_hex(6)
        words = ["restore", "--detach", "--bundle", os.fspath(bundle), "--image-path", os.fspath(image_path), *options, id]
        self.call(*words)
        return Container(self, id, [])

    def container(self, id: str) -> Container:
        """An existing container. NotFoundError if there is none."""
        found = Container(self, id, [])
        found.state()
        return found

    def containers(self) -> list[Container]:
        """All containers below the root, in the order of `list`; none if the root has not been made yet."""
        try:
            rows = self._json("list", "--format", "json")
        except UsageError as e:
            if e.record.get("reason") != "state-root-missing":
                raise
            rows = None
        return [Container(self, row["id"], []) for row in rows or ()]

    # ---- calls that change nothing

    def validate(self, bundle: Bundle | Path, *, strict: bool = False) -> list[Problem]:
        """All problems and warnings for a bundle. If it is empty, `create` will not refuse the bundle."""
        words: list[Path] = ["validate", "--format", "json", "--bundle", os.fspath(bundle), *(["--strict"] if strict else [])]
        found = self._json(*words, check=False)
        return [Problem.of(row, False) for row in found["problems"]] + [Problem.of(row, True) for row in found["warnings"]]

    def plan(self, bundle: Bundle | Path, id: str = "plan") -> dict[str, Json]:
        """What create would do, step by step, as `plan --json` prints it."""
        found: dict[str, Json] = self._json("plan", "--json", "--bundle", os.fspath(bundle), id)
        return found

    def features(self) -> dict[str, Json]:
        """What this runtime supports, in the format of features.md."""
        found: dict[str, Json] = self._json("features")
        return found

    def version(self) -> str:
        return self.call("--version").decode().split("\n", 1)[0].rpartition(" ")[2]
