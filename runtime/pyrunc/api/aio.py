"""The asynchronous API: AsyncRuntime and AsyncContainer. They have the attributes of Runtime and Container, and their methods as coroutines.

Methods that wait for a container (wait(), events(), output) run in the event loop: cancelling them terminates the runtime's command. Other
calls take milliseconds and run in a thread of the loop's executor; so do run() and exec(), which have a `timeout`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any

from pyrunc.api import caller
from pyrunc.api.bundle import Bundle
from pyrunc.api.container import Container
from pyrunc.api.errors import NotFoundError, TimeoutExpired
from pyrunc.api.results import Completed, Difference, ExitStatus, Mount, Problem, State, Stats
from pyrunc.api.runtime import File, Path, Runtime


class AsyncRuntime:
    """Runtime for asyncio, with the same arguments; `runtime` is the underlying Runtime."""

    def __init__(
        self, path: Path | None = None, *, root: Path | None = None, options: Sequence[str] = (), timeout: float | None = 60.0
    ) -> None:
        self._twin = Runtime(path, root=root, options=options, timeout=timeout)
        self.path = self._twin.path
        self.root = self._twin.root
        self.options = self._twin.options
        self.timeout = timeout

    def __repr__(self) -> str:
        return "Async%r" % self._twin

    async def __aenter__(self) -> AsyncRuntime:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """As Runtime.close()."""
        await asyncio.to_thread(self._twin.close)

    async def call(self, *words: Path, input: bytes | None = None, fds: Sequence[int] = (), check: bool = True) -> bytes:
        """As Runtime.call()."""
        return await asyncio.to_thread(lambda: self._twin.call(*words, input=input, fds=fds, check=check))

    async def create(
        self,
        bundle: Bundle | Path,
        id: str | None = None,
        *,
        stream: bool = False,
        capture: bool = False,
        stdin: File | None = None,
        stdout: File | None = None,
        stderr: File | None = None,
        fds: Sequence[File] = (),
        options: Sequence[str] = (),
    ) -> AsyncContainer:
        """As Runtime.create(). stream: the container's `stdout_stream` and `stderr_stream` can be read while it runs."""

        def make(out: File | None, err: File | None) -> Container:
            return self._twin.create(bundle, id, capture=capture, stdin=stdin, stdout=out, stderr=err, fds=fds, options=options)

        if not stream:
            return AsyncContainer(self, await asyncio.to_thread(make, stdout, stderr))
        if capture or stdout is not None or stderr is not None:
            raise ValueError("output goes to one place: stream, capture, or files")
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        try:
            made = await asyncio.to_thread(make, pipes[0][1], pipes[1][1])
        except BaseException:
            for ours, _theirs in pipes:
                os.close(ours)
            raise
        finally:
            for _ours, theirs in pipes:
                os.close(theirs)
        found = AsyncContainer(self, made)
        found.stdout_stream, found.stderr_stream = [(await found._reader(ours))[0] for ours, _theirs in pipes]
        return found

    async def restore(
        self, bundle: Bundle | Path, image_path: Path, id: str | None = None, *, options: Sequence[str] = ()
    ) -> AsyncContainer:
        """As Runtime.restore()."""
        return AsyncContainer(self, await asyncio.to_thread(lambda: self._twin.restore(bundle, image_path, id, options=options)))

    async def run(
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
        """Like Runtime.run()."""
        files = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await asyncio.to_thread(
            lambda: self._twin.run(bundle, id, input=input, timeout=timeout, check=check, options=options, **files)
        )

    async def container(self, id: str) -> AsyncContainer:
        """As Runtime.container()."""
        return AsyncContainer(self, await asyncio.to_thread(self._twin.container, id))

    async def containers(self) -> list[AsyncContainer]:
        """As Runtime.containers()."""
        return [AsyncContainer(self, one) for one in await asyncio.to_thread(self._twin.containers)]

    async def validate(self, bundle: Bundle | Path, *, strict: bool = False) -> list[Problem]:
        return await asyncio.to_thread(lambda: self._twin.validate(bundle, strict=strict))

    async def plan(self, bundle: Bundle | Path, id: str = "plan") -> dict[str, Any]:
        return await asyncio.to_thread(self._twin.plan, bundle, id)

    async def features(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._twin.features)

    async def version(self) -> str:
        return await asyncio.to_thread(self._twin.version)


class AsyncContainer:
    """Container for asyncio. As an asynchronous context manager it kills and deletes the container."""

    def __init__(self, runtime: AsyncRuntime, twin: Container) -> None:
        self.runtime = runtime
        self.id = twin.id
        self.stdout_stream: asyncio.StreamReader | None = None  # with create(stream=True)
        self.stderr_stream: asyncio.StreamReader | None = None
        self._twin = twin
        self._transports: list[asyncio.BaseTransport] = []

    def __repr__(self) -> str:
        return "Async%r" % self._twin

    @property
    def stdout(self) -> bytes:
        """What the program has written so far, if create() had capture=True; else nothing."""
        return self._twin.stdout

    @property
    def stderr(self) -> bytes:
        return self._twin.stderr

    async def __aenter__(self) -> AsyncContainer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self.delete(force=True)
        except NotFoundError:
            return
        finally:
            await self.close()

    async def close(self) -> None:
        """Closes output and streams. The container is not affected."""
        while self._transports:
            self._transports.pop().close()
        self._twin.close()

    async def _reader(self, fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
        """A stream that reads from a pipe, and the transport that closes it."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(fd, "rb", buffering=0)
        transport, _protocol = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._transports.append(transport)
        return reader, transport

    # ---- queries

    async def state(self) -> State:
        return await asyncio.to_thread(self._twin.state)

    async def status(self) -> str:
        """creating, created, running, paused or stopped."""
        return await asyncio.to_thread(self._twin.status)

    async def pid(self) -> int:
        """Of the container's init, as the host sees it; 0 when it has stopped."""
        return await asyncio.to_thread(self._twin.pid)

    async def stats(self) -> Stats:
        return await asyncio.to_thread(self._twin.stats)

    async def processes(self) -> list[int]:
        return await asyncio.to_thread(self._twin.processes)

    async def diff(self) -> list[Difference]:
        return await asyncio.to_thread(self._twin.diff)

    async def events(self, interval: float = 5.0) -> AsyncGenerator[dict[str, Any]]:
        """Statistics every `interval` seconds, and an event whenever memory runs out, until the container exits: {"type": "stats" or "oom",
        "id", "data"}."""
        words = ("events", "--interval", "%dms" % max(1, int(interval * 1000)), self.id)
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        runtime = self._twin.runtime
        reader, transport = await self._reader(ours)
        with caller.log_file() as log:
            command = asyncio.ensure_future(self._command(runtime._argv(log.name, *words), theirs))
            try:
                while line := await reader.readline():
                    yield json.loads(line)
                await command
                runtime._raise_failure(log.name, 0, words)
            finally:
                command.cancel()
                transport.close()
                if transport in self._transports:  # close() may have been called in the meantime
                    self._transports.remove(transport)

    # ---- life

    async def start(self) -> AsyncContainer:
        await asyncio.to_thread(self._twin.start)
        return self

    async def kill(self, signal: int | str = "TERM", *, all: bool = False) -> None:
        await asyncio.to_thread(lambda: self._twin.kill(signal, all=all))

    async def wait(self, timeout: float | None = None) -> ExitStatus:
        """Waits until the program has exited. On TimeoutExpired it keeps running."""
        runtime, words = self._twin.runtime, ("wait", "--format", "json", self.id)
        out = caller.memory_file()
        try:
            with caller.log_file() as log:
                try:
                    await asyncio.wait_for(self._command(runtime._argv(log.name, *words), os.dup(out)), timeout)
                except TimeoutError:
                    raise TimeoutExpired("wait took longer than %g s" % (timeout or 0)) from None
                runtime._raise_failure(log.name, 0, words)
        finally:
            os.close(out)
        return await asyncio.to_thread(self._twin.wait)  # it has ended: this knows how

    async def _command(self, argv: Sequence[str], stdout: int) -> None:
        """Runs argv until it exits; closes `stdout` immediately. Cancelling it terminates the command."""
        loop = asyncio.get_running_loop()
        answer = self._twin.runtime._begin(argv, stdout)
        ready = asyncio.Event()
        loop.add_reader(answer, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(answer)
            answer.close()

    async def stop(self, timeout: float = 10.0, signal: int | str = "TERM") -> ExitStatus:
        """Stops the program: sends the signal, and SIGKILL if it is still running after `timeout` seconds."""
        return await asyncio.to_thread(self._twin.stop, timeout, signal)

    async def pause(self) -> None:
        await asyncio.to_thread(self._twin.pause)

    async def resume(self) -> None:
        await asyncio.to_thread(self._twin.resume)

    async def update(self, resources: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._twin.update, resources)

    async def delete(self, *, force: bool = False) -> None:
        await asyncio.to_thread(lambda: self._twin.delete(force=force))

    async def mounts(self) -> list[Mount]:
        return await asyncio.to_thread(self._twin.mounts)

    async def add_mount(self, destination: str, source: Path | None = None, *, type: str = "bind", options: Sequence[str] = ()) -> None:
        """As Container.add_mount()."""
        await asyncio.to_thread(lambda: self._twin.add_mount(destination, source, type=type, options=options))

    async def remove_mount(self, destination: str) -> None:
        await asyncio.to_thread(self._twin.remove_mount, destination)

    async def checkpoint(self, image_path: Path, *, leave_running: bool = False, options: Sequence[str] = ()) -> None:
        """As Container.checkpoint()."""
        await asyncio.to_thread(lambda: self._twin.checkpoint(image_path, leave_running=leave_running, options=options))

    async def exec(
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
        """Like Container.exec()."""
        files = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await asyncio.to_thread(
            lambda: self._twin.exec(args, env=env, cwd=cwd, user=user, options=options, input=input, timeout=timeout, check=check, **files)
        )
