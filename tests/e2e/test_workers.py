"""Processes that die or are told to stop, while requests are under way."""

import asyncio
import signal
import time
from collections import Counter
from typing import cast

import psutil
import pytest
from curl_cffi import requests
from curl_cffi.const import CurlHttpVersion

from spooky.worker.farewell import RELOAD_QUIET_S
from tests.e2e.backends import Backend
from tests.e2e.clients import curl_options
from tests.e2e.conftest import Spooky
from tests.e2e.content import MIB
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.memory import MemoryWatch
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

BACK_IN_SERVICE_S = 2.0
REQUEST_REJECTED = 0x10B
CONNECTIONS = 24


def _start(spooky: Spooky, backend: Backend, workers: int, **more: object) -> SpookyProcess:
    one = {"one": upstream(backend.address)}
    running = spooky({"worker_processes": workers, "upstream": one, **more})
    running.wait_until_serving(workers)
    return running


async def _still_serves(client: H3Client) -> bool:
    """Say whether a connection answers a request within a second."""
    exchange = client.open("GET", "/asgi/status?code=204")
    try:
        await client.over(exchange, 1.0)
    except AssertionError:
        return False
    return exchange.status == 204


async def _until_served(port: int) -> None:
    """Open new connections until one is served."""
    async with asyncio.timeout(BACK_IN_SERVICE_S):
        while True:
            async with connect(port) as fresh:
                if await _still_serves(fresh):
                    return


async def _with_connections(port: int, kill: psutil.Process) -> list[bool]:
    """Open many connections, kill a worker; tell which of them serve on."""
    contexts = [connect(port) for _ in range(CONNECTIONS)]
    clients = [await context.__aenter__() for context in contexts]
    try:
        assert all([await _still_serves(client) for client in clients])
        kill.kill()
        serving = list(await asyncio.gather(*(_still_serves(client) for client in clients)))
        await _until_served(port)
        return serving
    finally:
        for context in contexts:
            await context.__aexit__(None, None, None)


def test_worker_killed(spooky: Spooky, asgi: Backend) -> None:
    """Its own connections are lost, the others undisturbed, a replacement is there at once."""
    running = _start(spooky, asgi, 2)
    victim, other = running.workers()
    serving = asyncio.run(_with_connections(running.port, victim))
    assert 0 < serving.count(True) < CONNECTIONS, serving
    wait_until(lambda: len(running.workers()) == 2, BACK_IN_SERVICE_S, "a replacement")
    assert other in running.workers()
    running.wait_until_serving(2)


def test_only_worker_killed_under_load(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 1)
    victim = running.workers()[0]
    counts: Counter[bool] = Counter()

    async def load(until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            async with connect(running.port) as client:
                while loop.time() < until and await _still_serves(client):
                    counts[victim.is_running()] += 1

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        tasks = [asyncio.create_task(load(start + 5.0)) for _ in range(4)]
        loop.call_later(1.0, victim.kill)
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert counts[True] > 50, counts
    assert counts[False] > 50, counts


def test_keeper_killed(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 1)
    keeper = running.children("keeper")[0]
    workers = running.workers()
    keeper.kill()
    wait_until(lambda: running.children("keeper") not in ([], [keeper]), 10.0, "a new keeper")
    wait_until(running.is_ready, 10.0, "readiness")
    assert running.workers() == workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_graceful_stop_finishes_requests(
    spooky: Spooky, asgi: Backend, number: signal.Signals
) -> None:
    """GOAWAY, the requests under way to their end, then exit status 0."""
    running = _start(spooky, asgi, 1, drain_timeout="10s")

    async def scenario() -> tuple[Exchange, H3Client]:
        async with connect(running.port) as client:
            exchange = client.open("GET", "/asgi/slow?n=30720&chunk=1024&pause=50")
            await client.until(lambda: exchange.received > 0, "the response to begin")
            running.signal(number)
            await client.until(lambda: client.goaways > 0, "GOAWAY", 2.0)
            return await client.over(exchange), client

    exchange, _ = asyncio.run(scenario())
    assert (exchange.status, exchange.received, exchange.ended) == (200, 30720, True)
    assert running.program.wait(5.0) == 0


def test_requests_after_goaway_are_served_until_the_last_call(
    spooky: Spooky, asgi: Backend
) -> None:
    """Then H3_REQUEST_REJECTED says that nobody acted on them (RFC 9114 section 5.2)."""
    running = _start(spooky, asgi, 1, drain_timeout="2s")

    async def scenario() -> tuple[Exchange, Exchange, Exchange]:
        async with connect(running.port) as client:
            slow = client.open("GET", "/asgi/slow?n=30720&chunk=1024&pause=50")
            await client.until(lambda: slow.received > 0, "the response to begin")
            running.signal(signal.SIGTERM)
            await client.until(lambda: client.goaways > 0, "GOAWAY", 2.0)
            served = await client.get("/asgi/status?code=204")
            await client.until(lambda: client.goaways > 1, "the final GOAWAY", 2.0)
            late = await client.get("/asgi/status?code=204")
            return served, late, await client.over(slow)

    served, late, slow = asyncio.run(scenario())
    assert served.status == 204
    assert (late.status, late.reset) == (0, REQUEST_REJECTED)
    assert (slow.received, slow.ended) == (30720, True)
    assert running.program.wait(5.0) == 0


def test_client_that_ignores_goaway_is_served_on(spooky: Spooky, asgi: Backend) -> None:
    """A reload closes none of its connections under its hands, as long as it keeps asking."""
    running = _start(spooky, asgi, 1, drain_timeout="20s")

    async def scenario() -> None:
        async with connect(running.port) as client:
            assert await _still_serves(client)
            running.signal(signal.SIGHUP)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(10.0):
                while not client.goaways:
                    assert await _still_serves(client)
            end = loop.time() + 3 * RELOAD_QUIET_S
            while loop.time() < end:
                assert await _still_serves(client)
                assert client.goaways == 1
            await client.until(lambda: client.terminated is not None, "the close", 5.0)
            assert client.goaways == 2
            assert client.terminated is not None
            assert client.terminated.error_code == 0x100

    asyncio.run(scenario())


def _reload(running: SpookyProcess) -> None:
    """Reload, and wait until the old generation is gone."""
    old = running.workers()

    def is_done() -> bool:
        now = running.workers()
        return len(now) == len(old) and not set(now) & set(old)

    running.signal(signal.SIGHUP)
    wait_until(is_done, 20.0, "the new generation alone")


def test_pooled_connections_lose_nothing_to_a_reload(spooky: Spooky, asgi: Backend) -> None:
    """libcurl tries no more than five connections of its pool that turn out to be going away."""
    running = _start(spooky, asgi, 2, drain_timeout="10s")
    statuses: Counter[int] = Counter()
    url = f"https://localhost:{running.port}/asgi/status?code=204"

    async def scenario() -> None:
        async with requests.AsyncSession(
            http_version=CurlHttpVersion.V3ONLY,
            verify=cast("bool", str(running.target.cert)),
            curl_options=curl_options(running.port),
            timeout=10,
            max_clients=16,
        ) as session:
            going = True

            async def load() -> None:
                while going:
                    statuses[(await session.get(url)).status_code] += 1

            tasks = [asyncio.create_task(load()) for _ in range(16)]
            for _ in range(2):
                # Until those that it leaves in its pool are quiet.
                await asyncio.sleep(RELOAD_QUIET_S * 1.2)
                await asyncio.to_thread(_reload, running)
            going = False
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert set(statuses) == {204}
    assert statuses[204] > 200


def test_new_connections_lose_nothing_to_reloads(spooky: Spooky, asgi: Backend) -> None:
    """Whenever its handshake is complete: the first request of a connection is served."""
    running = _start(spooky, asgi, 2, drain_timeout="10s")
    ended: Counter[tuple[int, int | None]] = Counter()
    going = True

    async def load() -> None:
        while going:
            async with connect(running.port) as client:
                exchange = await client.get("/asgi/status?code=204")
                ended[exchange.status, exchange.reset] += 1

    async def scenario() -> None:
        nonlocal going
        tasks = [asyncio.create_task(load()) for _ in range(12)]
        for _ in range(3):
            await asyncio.to_thread(_reload, running)
        going = False
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert ended[204, None] > 30
    assert set(ended) == {(204, None)}, ended


@pytest.mark.parametrize("octets", [b"\x01", b"\x01\x40\xff\x00\x00"])
def test_half_a_head_does_not_hold_a_stop_up(spooky: Spooky, asgi: Backend, octets: bytes) -> None:
    running = _start(spooky, asgi, 1, drain_timeout="30s")

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            exchange = client.open_octets(octets, end=False)
            assert await _still_serves(client)
            running.signal(signal.SIGTERM)
            await client.until(lambda: client.terminated is not None, "the end", 3.0)
            return exchange

    assert asyncio.run(scenario()).reset == REQUEST_REJECTED
    assert running.program.wait(5.0) == 0


def test_closed_connections_leave_no_memory_behind(spooky: Spooky, asgi: Backend) -> None:
    """Some 90 KiB each, if they waited for the garbage collector."""
    running = _start(spooky, asgi, 1)

    async def churn(count: int) -> None:
        for _ in range(count):
            async with connect(running.port) as client:
                assert (await client.get("/asgi/status?code=204")).status == 204

    async def many(count: int) -> None:
        await asyncio.gather(*(churn(count // 8) for _ in range(8)))

    asyncio.run(many(80))
    watch = MemoryWatch(running.workers())
    asyncio.run(many(480))
    assert watch.sample() < 6 * MIB, str(watch)


def test_drain_timeout_ends_what_will_not_end(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 1, drain_timeout="1s")

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            exchange = client.open("GET", "/asgi/hang")
            await client.until(lambda: client.unsent(exchange) == 0, "the request to be out")
            running.signal(signal.SIGTERM)
            return await client.over(exchange, 10.0)

    start = time.monotonic()
    exchange = asyncio.run(scenario())
    assert exchange.is_over
    assert exchange.status in {0, 503}
    assert running.program.wait(10.0) == 0
    assert time.monotonic() - start < 10.0


def test_second_signal_stops_at_once(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 1, drain_timeout="60s")
    workers = running.workers()

    async def scenario() -> None:
        async with connect(running.port) as client:
            exchange = client.open("GET", "/asgi/hang")
            await client.until(lambda: client.unsent(exchange) == 0, "the request to be out")
            running.signal(signal.SIGTERM)
            await client.until(lambda: client.goaways > 0, "GOAWAY", 2.0)
            running.signal(signal.SIGTERM)
            await asyncio.to_thread(running.program.wait, 5.0)

    asyncio.run(scenario())
    assert not any(worker.is_running() for worker in workers)


def test_reload_loses_nothing(spooky: Spooky, asgi: Backend) -> None:
    """Old connections finish what they have; new ones are served by the new generation."""
    running = _start(spooky, asgi, 2, drain_timeout="10s")
    old = running.workers()

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            slow = client.open("GET", "/asgi/slow?n=40960&chunk=1024&pause=50")
            await client.until(lambda: slow.received > 0, "the response to begin")
            running.signal(signal.SIGHUP)
            await client.until(lambda: client.goaways > 0, "GOAWAY", 10.0)
            await _until_served(running.port)
            return await client.over(slow)

    exchange = asyncio.run(scenario())
    assert (exchange.received, exchange.ended) == (40960, True)
    wait_until(
        lambda: len(running.workers()) == 2 and not set(running.workers()) & set(old),
        15.0,
        "the new generation alone",
    )


def test_client_that_changes_its_port_stays_with_its_worker(spooky: Spooky, asgi: Backend) -> None:
    """The kernel gives a port to any of the workers; the connection ID names the right one.

    With four workers, a dozen ports are all the right one's by chance once in 16 million runs.
    """
    running = _start(spooky, asgi, 4)

    async def run() -> None:
        async with connect(running.port) as client:
            for _ in range(12):
                await client.move()
                assert await _still_serves(client)

    asyncio.run(run())
