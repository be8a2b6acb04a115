"""The asynchronous API: AsyncRuntime and AsyncContainer. They have the attributes of Runtime and Container, and their methods as coroutines.

Methods that wait for a container (wait(), events(), output) run in the event loop: cancelling them terminates the runtime's command. Other
calls take milliseconds and run in a thread of the loop's executor; so do run() and exec(), which have a `timeout`. Those are made from the
synchronous methods by _threaded() and _wrapped(), which keep signature and description.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from pyrunc.api import caller
from pyrunc.api.bundle import Bundle
from pyrunc.api.container import Container
from pyrunc.api.errors import Json, NotFoundError, TimeoutExpired
from pyrunc.api.results import ExitStatus
from pyrunc.api.runtime import File, Path, Runtime

if TYPE_CHECKING:
    from typing import Concatenate, ParamSpec, Protocol, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")
    S = TypeVar("S", covariant=True)
    Function = TypeVar("Function", bound=Callable[..., object])

    class Twin(Protocol[S]):
        """An AsyncRuntime or AsyncContainer."""

        @property
        def _twin(self) -> S: ...


def _named(function: Function, method: Callable[..., object]) -> Function:
    """Gives a coroutine function the name, signature and description of the synchronous method."""
    functools.update_wrapper(function, method)
    function.__module__, function.__qualname__ = __name__, "Async" + method.__qualname__
    return function


def _threaded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Twin[S], P], Coroutine[object, object, R]]:
    """The method as a coroutine function that calls it in a thread."""

    async def call(self: Twin[S], /, *args: P.args, **options: P.kwargs) -> R:
        return await asyncio.to_thread(method, self._twin, *args, **options)

    return _named(call, method)


def _wrapped(
    method: Callable[Concatenate[Runtime, P], Container],
) -> Callable[Concatenate[AsyncRuntime, P], Coroutine[object, object, AsyncContainer]]:
    """The same for a method that returns a Container, which becomes an AsyncContainer."""

    async def call(self: AsyncRuntime, /, *args: P.args, **options: P.kwargs) -> AsyncContainer:
        return AsyncContainer(self, await asyncio.to_thread(method, self._twin, *args, **options))

    return _named(call, method)


class AsyncRuntime:
    """Runtime for asyncio, with the same arguments."""

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

    close = _threaded(Runtime.close)
    call = _threaded(Runtime.call)
    run = _threaded(Runtime.run)
    validate = _threaded(Runtime.validate)
    plan = _threaded(Runtime.plan)
    features = _threaded(Runtime.features)
    version = _threaded(Runtime.version)
    restore = _wrapped(Runtime.restore)
    container = _wrapped(Runtime.container)

    async def containers(self) -> list[AsyncContainer]:
        """As Runtime.containers()."""
        return [AsyncContainer(self, one) for one in await asyncio.to_thread(self._twin.containers)]

    async def create(  # the parameters of Runtime.create, and `stream`
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

    state = _threaded(Container.state)
    status = _threaded(Container.status)
    pid = _threaded(Container.pid)
    stats = _threaded(Container.stats)
    processes = _threaded(Container.processes)
    mounts = _threaded(Container.mounts)
    diff = _threaded(Container.diff)

    async def events(self, interval: float = 5.0) -> AsyncGenerator[dict[str, Json]]:
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

    kill = _threaded(Container.kill)
    stop = _threaded(Container.stop)
    pause = _threaded(Container.pause)
    resume = _threaded(Container.resume)
    update = _threaded(Container.update)
    delete = _threaded(Container.delete)
    add_mount = _threaded(Container.add_mount)
    remove_mount = _threaded(Container.remove_mount)
    checkpoint = _threaded(Container.checkpoint)
    exec = _threaded(Container.exec)

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
