"""Backends with no room, or that never speak: bounded queues, and an answer in time."""

import asyncio
import socket

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.spooky_process import upstream

pytestmark = pytest.mark.e2e

ONE_STREAM = {"backend_connections": 1, "backend_streams": 1}


def test_full_queue(spooky: Spooky, scripted: Backend) -> None:
    """One request is with the backend and two wait for it: the others are told to come back."""
    limits = {**ONE_STREAM, "backend_queue": 2}
    running = spooky({"upstream": {"one": upstream(scripted.address)}, "limits": limits})

    async def scenario() -> tuple[list[Exchange], list[Exchange]]:
        async with connect(running.port) as client:
            # Until the connection to the backend is there, the first of them waits, too.
            assert (await client.get("/scripted/send?n=10")).status == 200
            exchanges = [client.open("GET", "/scripted/hang") for _ in range(8)]
            await client.until(lambda: sum(e.is_over for e in exchanges) >= 5, "five refusals")
            refused = [exchange for exchange in exchanges if exchange.is_over]
            kept = [exchange for exchange in exchanges if not exchange.is_over]
            for exchange in kept:
                client.stop(exchange, 0x10C)
                await client.over(exchange)
            # What was given up makes room again.
            return refused, [await client.get("/scripted/send?n=10") for _ in range(3)]

    refused, later = asyncio.run(scenario())
    assert [exchange.status for exchange in refused] == [503] * 5
    assert all(exchange.header(b"retry-after") for exchange in refused)
    assert [exchange.status for exchange in later] == [200] * 3


def test_queue_timeout(spooky: Spooky, scripted: Backend) -> None:
    one = upstream(scripted.address, timeouts={"queue": "300ms"})
    running = spooky({"upstream": {"one": one}, "limits": ONE_STREAM})

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            client.open("GET", "/scripted/hang")
            return await client.over(client.open("GET", "/scripted/send?n=10"), 3.0)

    assert asyncio.run(scenario()).status in {503, 504}


def test_queue_is_worked_off(spooky: Spooky, scripted: Backend) -> None:
    """More requests than streams: all are served, in turn, none fails."""
    limits = {"backend_connections": 2, "backend_streams": 3}
    running = spooky({"upstream": {"one": upstream(scripted.address)}, "limits": limits})

    async def scenario() -> list[Exchange]:
        async with connect(running.port) as client:
            exchanges = [client.open("GET", "/scripted/send?n=20000") for _ in range(100)]
            return [await client.over(exchange) for exchange in exchanges]

    exchanges = asyncio.run(scenario())
    assert {(e.status, e.received, e.ended) for e in exchanges} == {(200, 20_000, True)}


def test_backend_that_never_speaks(spooky: Spooky) -> None:
    """The kernel takes the connection, nobody answers: the connect timeout covers that."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        one = upstream(address, timeouts={"connect": "500ms"})
        running = spooky({"upstream": {"one": one}})

        async def scenario() -> Exchange:
            async with connect(running.port) as client:
                return await client.over(client.open("GET", "/"), 5.0)

        exchange = asyncio.run(scenario())
    assert (exchange.status, exchange.ended) == (504, True)
