"""`import pyrunc` with asyncio: streams, events, and a cancelled wait."""

import os

import pytest

import harness
import pyrunc as api
from test_python_api import new_id  # noqa: F401  # a fixture


@pytest.mark.kernel
def test_asyncio(pyrunc, make_bundle, new_id, no_leaks):  # noqa: F811
    """Output while it runs, events, a cancelled wait, and several containers at once."""
    import asyncio

    bundles = [
        make_bundle({"/linux/cgroupsPath": harness.ABSENT}, args=["/bin/sh", "-c", "echo one; read x; echo $x two; exit 3"])
        for _ in range(3)
    ]

    async def life(runtime, bundle):
        read, write = os.pipe2(os.O_CLOEXEC)
        container = await runtime.create(bundle, new_id(), stream=True, stdin=read)
        os.close(read)
        async with container:
            await container.start()
            assert await container.stdout_stream.readline() == b"one\n"
            events = container.events(interval=0.01)
            assert (await anext(events))["type"] == "stats"
            await events.aclose()
            with pytest.raises(api.TimeoutExpired):
                await container.wait(timeout=0.05)
            waiting = asyncio.ensure_future(container.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            assert await container.status() == "running"
            os.write(write, b"and\n")
            os.close(write)
            assert await container.stdout_stream.read() == b"and two\n"
            return (await container.wait()).status

    async def main():
        async with api.AsyncRuntime(pyrunc.path, root=pyrunc.root) as runtime:
            found = await asyncio.gather(*(life(runtime, bundle) for bundle in bundles))
            assert found == [3, 3, 3] and await runtime.containers() == []

    asyncio.run(asyncio.wait_for(main(), harness.WATCHDOG))


@pytest.mark.kernel
def test_two_streams_of_events(pyrunc, make_bundle, new_id, no_leaks):  # noqa: F811
    """Each of them ends separately and only releases its own resources."""
    import asyncio

    async def main():
        async with api.AsyncRuntime(pyrunc.path, root=pyrunc.root) as runtime:
            async with await runtime.create(make_bundle({}, args=harness.WAIT_FOR_TERM), new_id()) as container:
                await container.start()
                first, second = container.events(interval=0.01), container.events(interval=0.01)
                assert [(await anext(stream))["type"] for stream in (first, second)] == ["stats", "stats"]
                await first.aclose()
                for _ in range(20):
                    assert (await anext(second))["type"] == "stats"
                await second.aclose()
                assert (await container.stop()).status == 0

    asyncio.run(asyncio.wait_for(main(), harness.WATCHDOG))
