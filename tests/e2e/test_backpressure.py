"""Back-pressure: what one side does not take, the other may not send; memory stays bounded.

256 MiB up to a backend that reads 1 MiB/s and 256 MiB down to a client that reads 1 MiB/s, each
watched for 15 seconds and then broken off, while another client's requests are timed.
"""

import asyncio
import hashlib
import itertools
import time
import uuid

import pytest

from tests.e2e.backends import HUGE, Backend
from tests.e2e.clients import curl
from tests.e2e.conftest import Spooky
from tests.e2e.content import BLOCK, MIB
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.memory import MemoryWatch
from tests.e2e.scripted_seen import seen
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WATCH_S = 15.0
GROWTH = 16 * MIB
SLOWEST_S = 2.0
REQUEST_CANCELLED = 0x10C
OTHERS = ("/nghttpd/64k", "/asgi/bytes?n=1024", "/scripted/send?n=1024")


async def _others(port: int, until: float, watch: MemoryWatch) -> list[float]:
    """Make requests one after the other, on their own connection; return how long each took."""
    loop = asyncio.get_running_loop()
    durations: list[float] = []
    async with connect(port) as client:
        for path in itertools.cycle(OTHERS):
            start = loop.time()
            if start > until:
                return durations
            exchange = await client.get(path)
            assert exchange.status == 200
            durations.append(loop.time() - start)
            watch.sample()
            # A pace, so that the generator does not take the processor from what it measures.
            await asyncio.sleep(0.02)
    raise AssertionError


def _check_others(durations: list[float], watch: MemoryWatch) -> None:
    print(f"others: {len(durations)} requests, slowest {max(durations):.3f} s; grew {watch}")
    assert len(durations) > 50
    assert max(durations) < SLOWEST_S
    assert watch.growth < GROWTH


def _warm_up(front: SpookyProcess) -> MemoryWatch:
    """Let imports and first connections be paid for before memory is watched."""
    for path in ("/nghttpd/16m", "/asgi/bytes?n=1048576"):
        assert curl(front.target, "GET", path).status == 200
    return MemoryWatch(front.workers())


def test_upload_to_a_slow_backend(front: SpookyProcess) -> None:
    watch = _warm_up(front)
    token = uuid.uuid4().hex
    pieces = itertools.repeat(BLOCK, HUGE // len(BLOCK))

    async def push(client: H3Client, exchange: Exchange) -> None:
        await client.upload(exchange, pieces, WATCH_S * 2)

    async def scenario() -> tuple[list[float], int]:
        until = asyncio.get_running_loop().time() + WATCH_S
        async with connect(front.port) as client:
            path = f"/scripted/read-slowly?rate={MIB}&mark={token}"
            exchange = client.open("POST", path, end=False)
            async with asyncio.TaskGroup() as tasks:
                uploading = tasks.create_task(push(client, exchange))
                durations = await _others(front.port, until, watch)
                uploading.cancel()
            assert not exchange.is_over
            received = int((await seen(client, token))["received"])
            client.reset(exchange, REQUEST_CANCELLED)
            return durations, received

    durations, received = asyncio.run(scenario())
    # The backend got what it asked for, no more than its own window ahead, and no less.
    assert 0.5 * WATCH_S * MIB < received < (WATCH_S + 4) * MIB
    _check_others(durations, watch)


def test_slow_upload_is_not_spoilt_by_waiting(front: SpookyProcess) -> None:
    """What was held back on the way arrives complete, and in order."""
    length, rate = 3 * MIB, MIB

    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            path = f"/scripted/read-slowly?rate={rate}"
            exchange = client.open("POST", path, end=False)
            await client.upload(exchange, [BLOCK] * (length // len(BLOCK)), WATCH_S)
            return await client.over(exchange)

    expected = hashlib.sha256(BLOCK * (length // len(BLOCK))).hexdigest()
    exchange = asyncio.run(scenario())
    assert exchange.status == 200
    assert expected.encode() in exchange.kept


@pytest.mark.parametrize("path", ["/nghttpd/huge", "/caddy/huge"])
def test_download_by_a_slow_client(front: SpookyProcess, path: str) -> None:
    watch = _warm_up(front)

    async def scenario() -> tuple[list[float], Exchange]:
        until = asyncio.get_running_loop().time() + WATCH_S
        async with connect(front.port, paced=True) as client:
            exchange = client.open("GET", path)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.read_slowly(exchange, MIB, WATCH_S))
                durations = await _others(front.port, until, watch)
            assert not exchange.is_over
            client.stop(exchange, REQUEST_CANCELLED)
            return durations, exchange

    durations, exchange = asyncio.run(scenario())
    assert 0.5 * WATCH_S * MIB < exchange.received < (WATCH_S + 2) * MIB
    _check_others(durations, watch)


def test_steady_slow_reader_is_not_idle(spooky: Spooky, scripted: Backend) -> None:
    """Few octets at a time make no room in the buffer for long, but they are progress."""
    one = upstream(scripted.address, timeouts={"idle": "1s"})
    running = spooky({"upstream": {"one": one}})

    async def scenario() -> Exchange:
        async with connect(running.port, paced=True) as client:
            exchange = client.open("GET", f"/scripted/send?n={8 * MIB}")
            await client.read_slowly(exchange, MIB // 16, 4.0)
            assert not exchange.is_over
            client.stop(exchange, REQUEST_CANCELLED)
            return exchange

    assert asyncio.run(scenario()).reset is None


def test_download_goes_on_after_standing_still(front: SpookyProcess) -> None:
    """A client that reads nothing for a second gets all of it afterwards."""
    length = 2 * MIB

    async def scenario() -> Exchange:
        async with connect(front.port, paced=True) as client:
            exchange = client.open("GET", f"/scripted/send?n={length}")
            await client.read_slowly(exchange, 0, 1.0)
            assert 0 < exchange.received <= MIB
            await client.read_slowly(exchange, 8 * MIB, 5.0)
            return await client.over(exchange)

    start = time.monotonic()
    exchange = asyncio.run(scenario())
    assert (exchange.received, exchange.ended) == (length, True)
    assert time.monotonic() - start < WATCH_S


def test_many_slow_clients_cost_one_window_each(front: SpookyProcess) -> None:
    """32 downloads of 256 MiB that nobody reads hold at most their configured buffers."""
    watch = _warm_up(front)
    downloads, window = 32, 256 * 1024

    async def scenario() -> None:
        async with connect(front.port, paced=True) as client:
            exchanges = [client.open("GET", "/nghttpd/huge") for _ in range(downloads)]
            for exchange in exchanges:
                await client.head(exchange)
            await client.read_slowly(exchanges[0], 0, 5.0)
            watch.sample()
            assert not any(exchange.is_over for exchange in exchanges)

    asyncio.run(scenario())
    # Twice the window: Spooky's buffer for the client, and what the backend sent ahead.
    assert watch.growth < GROWTH + downloads * 2 * window, str(watch)
