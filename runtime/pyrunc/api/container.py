"""Container: one container of a Runtime, whether this process created it or not."""

from __future__ import annotations

import json
import os
import signal as signals
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from pyrunc.api import caller
from pyrunc.api.errors import Error, Json, NotFoundError, StateError, TimeoutExpired
from pyrunc.api.keeper import start_time
from pyrunc.api.results import Completed, Difference, ExitStatus, Mount, State, Stats

if TYPE_CHECKING:
    from pyrunc.api.runtime import File, Path, Runtime


class Container:
    """Created by Runtime.create() or Runtime.container(). As a context manager it kills and deletes the container.

    id, runtime, stdout and stderr are attributes, because the object knows them. Everything that asks the runtime is a method.
    """

    def __init__(self, runtime: Runtime, id: str, output: Sequence[int]) -> None:
        self.runtime = runtime
        self.id = id
        self._output = list(output)
        self._init: tuple[int, int] | None = None  # pid and start time of the container's first process
        self._ended: ExitStatus | None = None

    def __repr__(self) -> str:
        return "Container(%r)" % self.id

    def __enter__(self) -> Container:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.delete(force=True)
        except NotFoundError:
            return
        finally:
            self.close()

    def close(self) -> None:
        """Closes captured output. The container is not affected."""
        while self._output:
            os.close(self._output.pop())

    def __del__(self) -> None:
        self.close()

    def _init_is(self, pid: int) -> None:
        """Records init's pid and start time, to find out later how it exited. Called while init waits at the gate."""
        self._init = (pid, start_time(pid))

    # ---- queries

    def state(self) -> State:
        return State.of(self.runtime._json("state", self.id))

    def status(self) -> str:
        """creating, created, running, paused or stopped."""
        return self.state().status

    def pid(self) -> int:
        """The pid of the container's init on the host; 0 if it is stopped."""
        return self.state().pid

    @property
    def stdout(self) -> bytes:
        """The output of the program so far, if create() was called with capture=True; else empty."""
        return caller.content(self._output[0]) if self._output else b""

    @property
    def stderr(self) -> bytes:
        return caller.content(self._output[1]) if self._output else b""

    def stats(self) -> Stats:
        return Stats.of(self.runtime._json("stats", "--format", "json", self.id)[self.id])

    def processes(self) -> list[int]:
        """The pids of its processes on the host."""
        return list(self.runtime._json("ps", "--format", "json", self.id) or ())

    def diff(self) -> list[Difference]:
        """Differences between the container and its plan, and between its config and that of the bundle. Empty if there are none."""
        found = self.runtime._json("diff", "--format", "json", self.id, check=False)
        return [Difference.of(row) for row in found["differences"]]

    def events(self, interval: float = 5.0) -> Iterator[dict[str, Json]]:
        """Statistics every `interval` seconds, and whenever memory runs out, until the container exits: {"type": "stats" or "oom", "id", "data"}.
        Closing the iterator ends the command."""
        words = ("events", "--interval", "%dms" % max(1, int(interval * 1000)), self.id)
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        with open(ours, "rb") as lines, caller.log_file() as log:
            with self.runtime._begin(self.runtime._argv(log.name, *words), theirs) as answer:
                for line in lines:
                    yield json.loads(line)
                answer.recv(1)
            self.runtime._raise_failure(log.name, 0, words)

    # ---- life

    def start(self) -> Container:
        """Executes the program. Unlike with other runtimes, this fails if the program can't be executed."""
        self.runtime.call("start", self.id)
        return self

    def kill(self, signal: int | str = "TERM", *, all: bool = False) -> None:
        """Sends a signal to init, or to every process. signal: a number, or a name with or without SIG."""
        word = str(int(signal)) if isinstance(signal, int) else signal
        self.runtime.call("kill", *(["--all"] if all else []), self.id, word)

    def wait(self, timeout: float | None = None) -> ExitStatus:
        """Waits until the program has exited. TimeoutExpired after `timeout` seconds; the program keeps running."""
        if self._ended is None or self._ended.status is None:
            self._ended = self._wait(timeout)
        return self._ended

    def _wait(self, timeout: float | None) -> ExitStatus:
        """Uses the runtime's `wait`, which has the most information. If the status could not be recorded in time, the helper has it: it is
        init's parent."""
        out = caller.memory_file()
        try:
            with caller.log_file() as log:
                words = ("wait", "--format", "json", self.id)
                status = self.runtime._caller.command(self.runtime._argv(log.name, *words), None, out, None, (), timeout, "wait")
                self.runtime._raise_failure(log.name, status, words)
            found = json.loads(caller.content(out))
        finally:
            os.close(out)
        if found["status"] is None and self._init is not None:
            kept = self.runtime._caller.ending(*self._init, timeout=self.runtime.timeout)
            if kept is not None:
                code = os.waitstatus_to_exitcode(kept)
                found.update(status=code if code >= 0 else 128 - code, signal=-code if code < 0 else None)
        return ExitStatus(found["status"], found["signal"], found["oom_killed"])

    def stop(self, timeout: float = 10.0, signal: int | str = "TERM") -> ExitStatus:
        """Stops the program: sends the signal, and SIGKILL if it is still running after `timeout` seconds. If it has already exited,
        returns its status."""
        for one, limit in ((signal, timeout), ("KILL", None)):
            try:
                self.kill(one)
                return self.wait(limit)
            except StateError:
                break  # it has exited
            except TimeoutExpired:
                continue
        return self.wait()

    def pause(self) -> None:
        self.runtime.call("pause", self.id)

    def resume(self) -> None:
        self.runtime.call("resume", self.id)

    def update(self, resources: Mapping[str, object]) -> None:
        """Changes limits: an object like /linux/resources in config.json, such as {"memory": {"limit": 1 << 26}, "pids": {"limit": 64}}.
        Other limits are not changed."""
        self.runtime.call("update", "--resources", "-", self.id, input=json.dumps(resources).encode())

    def delete(self, *, force: bool = False) -> None:
        """Releases everything. force: kills it first, and does not raise NotFoundError."""
        self.runtime.call("delete", *(["--force"] if force else []), self.id)

    def checkpoint(self, image_path: Path, *, leave_running: bool = False, options: Sequence[str] = ()) -> None:
        """Saves the processes to images (needs CRIU), and deletes the container unless leave_running is set. Runtime.restore() restores
        it."""
        words: list[Path] = ["checkpoint", "--image-path", os.fspath(image_path), *(["--leave-running"] if leave_running else []), *options]
        self.runtime.call(*words, self.id)

    # ---- mounts

    def mounts(self) -> list[Mount]:
        return [Mount.of(row) for row in self.runtime._json("mounts", "list", self.id, "--format", "json") or ()]

    def add_mount(self, destination: str, source: Path | None = None, *, type: str = "bind", options: Sequence[str] = ()) -> None:
        """Mounts something in the running container; a bind mount of `source` by default. It is removed with the container or by
        remove_mount()."""
        words: list[Path] = ["mounts", "add", "--destination", destination, "--type", type]
        words += ["--source", os.fspath(source)] if source is not None else []
        words += ["--options", ",".join(options)] if options else []
        self.runtime.call(*words, self.id)

    def remove_mount(self, destination: str) -> None:
        self.runtime.call("mounts", "remove", self.id, "--destination", destination)

    # ---- programs

    def exec(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | int | None = None,
        options: Sequence[str] = (),
        input: bytes | None = None,
        stdin: File | None = None,
        stdout: File | None = None,
        stderr: File | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> Completed:
        """Runs another program in the container until it exits. user: "uid[:gid]" or a name in its /etc/passwd. Output is captured in
        memory unless files are given. On TimeoutExpired it has been killed. check: raise ProgramFailed if the status is not 0."""
        if isinstance(args, str) or not args:
            raise TypeError("args is a list of words, the program first")
        words: list[Path] = ["exec", *options]
        words += ["--cwd", cwd] if cwd is not None else []
        words += ["--user", str(user)] if user is not None else []
        for name, value in (env or {}).items():
            words += ["--env", "%s=%s" % (name, value)]
        with caller.Workspace() as directory:
            pid_file = os.path.join(directory, "pid")
            words += ["--pid-file", pid_file, self.id, *args]
            try:
                done = self.runtime._program(words, input, stdin, stdout, stderr, timeout)
            except (TimeoutExpired, KeyboardInterrupt):
                self._end_program(pid_file)
                raise
        done = Completed(tuple(args), done.status, done.stdout, done.stderr)
        return done.check() if check else done

    def _end_program(self, pid_file: str) -> None:
        """Sends SIGKILL to a program whose `exec` was terminated: `exec` forwards SIGTERM, which the program may ignore. Only if the
        process belongs to the container."""
        try:
            with open(pid_file) as file:
                pid = int(file.read())
            fd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return  # it had not started, or has exited
        try:
            if pid in self.processes():
                signals.pidfd_send_signal(fd, signals.SIGKILL)
        except (Error, ProcessLookupError):
            return
        finally:
            os.close(fd)
