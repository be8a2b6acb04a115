"""The asynchronous API: AsyncRuntime and AsyncContainer, with the methods of Runtime and Container as coroutines.

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
from pyrunc.api.runtime import Path, Runtime


class AsyncRuntime:
    """Runtime for asyncio, with the same arguments; `runtime` is the underlying Runtime."""

    def __init__(
        self, path: Path | None = None, *, root: Path | None = None, options: Sequence[str] = (), timeout: float | None = 60.0
    ) -> None:
        self.runtime = Runtime(path, root=root, options=options, timeout=timeout)

    def __repr__(self) -> str:
        return "Async%r" % self.runtime

    async def __aenter__(self) -> AsyncRuntime:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.to_thread(self.runtime.close)

    async def create(self, bundle: Bundle | Path, id: str | None = None, *, stream: bool = False, **options: Any) -> AsyncContainer:
        """Like Runtime.create(). stream: `stdout` and `stderr` of the container become streams that can be read while it runs."""
        if not stream:
            return AsyncContainer(await asyncio.to_thread(self.runtime.create, bundle, id, **options))
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        try:
            made = await asyncio.to_thread(self.runtime.create, bundle, id, stdout=pipes[0][1], stderr=pipes[1][1], **options)
        except BaseException:
            for ours, _theirs in pipes:
                os.close(ours)
            raise
        finally:
            for _ours, theirs in pipes:
                os.close(theirs)
        found = AsyncContainer(made)
        found.stdout, found.stderr = [(await found._reader(ours))[0] for ours, _theirs in pipes]
        return found

    async def restore(self, bundle: Bundle | Path, image_path: Path, id: str | None = None, **options: Any) -> AsyncContainer:
        return AsyncContainer(await asyncio.to_thread(self.runtime.restore, bundle, image_path, id, **options))

    async def run(self, bundle: Bundle | Path, id: str | None = None, **options: Any) -> Completed:
        """Like Runtime.run()."""
        return await asyncio.to_thread(self.runtime.run, bundle, id, **options)

    async def container(self, id: str) -> AsyncContainer:
        return AsyncContainer(await asyncio.to_thread(self.runtime.container, id))

    async def containers(self) -> list[AsyncContainer]:
        return [AsyncContainer(one) for one in await asyncio.to_thread(self.runtime.containers)]

    async def validate(self, bundle: Bundle | Path, *, strict: bool = False) -> list[Problem]:
        return await asyncio.to_thread(lambda: self.runtime.validate(bundle, strict=strict))

    async def plan(self, bundle: Bundle | Path, id: str = "plan") -> dict[str, Any]:
        return await asyncio.to_thread(self.runtime.plan, bundle, id)

    async def features(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.runtime.features)

    async def version(self) -> str:
        return await asyncio.to_thread(self.runtime.version)


class AsyncContainer:
    """Container for asyncio. As an asynchronous context manager it kills and deletes the container."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.stdout: asyncio.StreamReader | None = None  # with create(stream=True)
        self.stderr: asyncio.StreamReader | None = None
        self._transports: list[asyncio.BaseTransport] = []

    def __repr__(self) -> str:
        return "Async%r" % self.container

    @property
    def id(self) -> str:
        return self.container.id

    async def __aenter__(self) -> AsyncContainer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self.delete(force=True)
        except NotFoundError:
            return
        finally:
            self.close()

    def close(self) -> None:
        """Closes output and streams. The container is not affected."""
        while self._transports:
            self._transports.pop().close()
        self.container.close()

    async def _reader(self, fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
        """A stream that reads from a pipe, and the transport that closes it."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(fd, "rb", buffering=0)
        transport, _protocol = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._transports.append(transport)
        return reader, transport

    # ---- queries

    async def state(self) -> State:
        return await asyncio.to_thread(self.container.state)

    async def status(self) -> str:
        """creating, created, running, paused or stopped."""
        return (await self.state()).status

    async def stats(self) -> Stats:
        return await asyncio.to_thread(self.container.stats)

    async def processes(self) -> list[int]:
        return await asyncio.to_thread(self.container.processes)

    async def diff(self) -> list[Difference]:
        return await asyncio.to_thread(self.container.diff)

    async def events(self, interval: float = 5.0) -> AsyncGenerator[dict[str, Any]]:
        """Statistics every `interval` seconds, and an event whenever memory runs out, until the container exits: {"type": "stats" or "oom",
        "id", "data"}."""
        words = ("events", "--interval", "%dms" % max(1, int(interval * 1000)), self.id)
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        runtime = self.container.runtime
        reader, transport = await self._reader(ours)
        with caller.log_file() as log:
            command = asyncio.ensure_future(self._command(runtime.argv(log.name, *words), theirs))
            try:
                while line := await reader.readline():
                    yield json.loads(line)
                await command
                runtime.raise_failure(log.name, 0, words)
            finally:
                command.cancel()
                transport.close()
                if transport in self._transports:  # close() may have been called in the meantime
                    self._transports.remove(transport)

    # ---- life

    async def start(self) -> AsyncContainer:
        await asyncio.to_thread(self.container.start)
        return self

    async def kill(self, signal: int | str = "TERM", *, all: bool = False) -> None:
        await asyncio.to_thread(lambda: self.container.kill(signal, all=all))

    async def wait(self, timeout: float | None = None) -> ExitStatus:
        """Waits until the program has exited. On TimeoutExpired it keeps running."""
        runtime, words = self.container.runtime, ("wait", "--format", "json", self.id)
        out = caller.memory_file()
        try:
            with caller.log_file() as log:
                try:
                    await asyncio.wait_for(self._command(runtime.argv(log.name, *words), os.dup(out)), timeout)
                except TimeoutError:
                    raise TimeoutExpired("wait took longer than %g s" % (timeout or 0)) from None
                runtime.raise_failure(log.name, 0, words)
        finally:
            os.close(out)
        return await asyncio.to_thread(self.container.wait)  # it has exited: this returns its status

    async def _command(self, argv: Sequence[str], stdout: int) -> None:
        """Runs argv until it exits; closes `stdout` immediately. Cancelling it terminates the command."""
        loop = asyncio.get_running_loop()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            answer = self.container.runtime.caller.begin({"do": "run", "argv": list(argv)}, [null, stdout, null])
        finally:
            os.close(null)
            os.close(stdout)
        ready = asyncio.Event()
        loop.add_reader(answer, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(answer)
            answer.close()

    async def stop(self, timeout: float = 10.0, signal: int | str = "TERM") -> ExitStatus:
        """Stops the program: sends the signal, and SIGKILL if it is still running after `timeout` seconds."""
        return await asyncio.to_thread(self.container.stop, timeout, signal)

    async def pause(self) -> None:
        await asyncio.to_thread(self.container.pause)

    async def resume(self) -> None:
        await asyncio.to_thread(self.container.resume)

    async def update(self, resources: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self.container.update, resources)

    async def delete(self, *, force: bool = False) -> None:
        await asyncio.to_thread(lambda: self.container.delete(force=force))

    async def mounts(self) -> list[Mount]:
        return await asyncio.to_thread(self.container.mounts)

    async def add_mount(self, destination: str, source: Path | None = None, **options: Any) -> None:
        await asyncio.to_thread(lambda: self.container.add_mount(destination, source, **options))

    async def remove_mount(self, destination: str) -> None:
        await asyncio.to_thread(self.container.remove_mount, destination)

    async def checkpoint(self, image_path: Path, **options: Any) -> None:
        await asyncio.to_thread(lambda: self.container.checkpoint(image_path, **options))

    async def exec(self, args: Sequence[str], **options: Any) -> Completed:
        """Like Container.exec()."""
        return await asyncio.to_thread(lambda: self.container.exec(args, **options))
