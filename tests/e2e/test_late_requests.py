"""Clients that connected before a drain, and ask only after it has begun.

Many clients give a first request up that is refused: it is served where the connection is. Those
that have asked before find the GOAWAY and go elsewhere, unless the connection goes just then.
"""

import asyncio
import signal

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import connect
from tests.e2e.processes import wait_until
from tests.e2e.reload_load import generation, reload
from tests.e2e.reload_sessions import STACKS
from tests.e2e.reload_tally import Tally
from tests.e2e.spooky_process import SpookyProcess, upstream
from tests.e2e.udp_relay import relaying

pytestmark = pytest.mark.e2e


@pytest.fixture
def running(spooky: Spooky, asgi: Backend) -> SpookyProcess:
    return spooky({"upstream": {"one": upstream(asgi.address)}, "drain_timeout": "10s"})


async def _reload(running: SpookyProcess) -> None:
    running.signal(signal.SIGHUP)
    await asyncio.to_thread(wait_until, lambda: generation(running) == 2, 10.0, "a reload")


def test_client_that_never_asks(running: SpookyProcess) -> None:
    """It does not hold the drain up for long."""

    async def scenario() -> None:
        async with connect(running.port) as client:
            await _reload(running)
            await client.until(lambda: client.terminated is not None, "the end", 8.0)
            assert client.goaways

    asyncio.run(scenario())


def test_first_request_that_comes_late(running: SpookyProcess) -> None:
    """A client that has just connected came for something, and may be slow to say so."""

    async def scenario() -> int:
        async with connect(running.port) as client:
            await _reload(running)
            with pytest.raises(AssertionError, match="the end"):
                await client.until(lambda: client.terminated is not None, "the end", 2.5)
            return (await client.get("/asgi/status?code=204")).status

    assert asyncio.run(scenario()) == 204


@pytest.mark.parametrize("late_s", [0.4, 3.0])
def test_handshake_that_a_drain_interrupts(running: SpookyProcess, late_s: float) -> None:
    """The client's second flight is kept back until the drain has begun, and longer."""

    async def ask(port: int) -> int:
        async with connect(port) as client:
            return (await client.get("/asgi/status?code=204")).status

    async def scenario() -> None:
        async with relaying(running.port) as relay:
            relay.hold_after(1)
            asking = asyncio.create_task(ask(relay.port))
            await asyncio.to_thread(wait_until, lambda: relay.holds, 5.0, "the first flight")
            await _reload(running)
            await asyncio.wait([asking], timeout=late_s)
            assert not asking.done()
            relay.release()
            assert await asking == 204

    asyncio.run(scenario())
    assert running.access_records(1)[0]["status"] == 204


@pytest.mark.parametrize("stack", list(STACKS))
def test_next_request_after_a_while(running: SpookyProcess, stack: str) -> None:
    """Whenever it comes, it is answered, on another connection than the one that had GOAWAY.

    Many clients read what has come only when they are to ask.
    """
    count = 24

    async def one(
        number: int, tally: Tally, ready: asyncio.Barrier, reloaded: asyncio.Event
    ) -> None:
        session = STACKS[stack](running.target, tally)
        path = "/asgi/status?code=204"
        assert (await session.get(path, 5.0)).status == 204
        await ready.wait()
        await reloaded.wait()
        await asyncio.sleep(number / 20)  # up to 1.2 s, whatever happens meanwhile
        assert (await session.get(path, 5.0)).status == 204
        await session.close()

    async def scenario() -> None:
        tally, ready, reloaded = Tally(stack), asyncio.Barrier(count + 1), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(one(number, tally, ready, reloaded))
            await ready.wait()
            await asyncio.to_thread(reload, running)
            reloaded.set()
        # Those who asked soon went on where they were.
        assert tally.connections > count
        assert tally.losses() == []

    asyncio.run(scenario())
