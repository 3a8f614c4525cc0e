"""Connections are spread evenly over the workers, and over those alone that serve.

The server's connection ID carries the slot of the worker that has the connection.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from spooky.protocol.cid import is_ours, slot_of
from tests.e2e import steering as modes
from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import connect
from tests.e2e.operator import reload, status
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 4
CONNECTIONS = 1000
DRAINS = 3
HELD = 12
AFTERWARDS = 200
AT_ONCE = 25
SMALLEST, LARGEST = 0.15, 0.35


async def _slots(port: int, connections: int) -> Counter[int]:
    """Open connections, `AT_ONCE` by `AT_ONCE`; count them by slot."""
    counts: Counter[int] = Counter()

    async def one(stack: AsyncExitStack) -> None:
        client = await stack.enter_async_context(connect(port))
        assert is_ours(client.server_cid), client.server_cid.hex()
        counts[slot_of(client.server_cid)] += 1

    for _ in range(connections // AT_ONCE):
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(one(stack))
    return counts


def _start(spooky: Spooky, asgi: Backend, steering: str) -> SpookyProcess:
    one = {"one": upstream(asgi.address)}
    settings = {"worker_processes": WORKERS, "upstream": one, "steering": steering}
    running = spooky({**settings, "drain_timeout": "60s"})
    running.wait_until_serving(WORKERS)
    return running


@modes.both
def test_thousand_connections(spooky: Spooky, asgi: Backend, steering: str) -> None:
    running = _start(spooky, asgi, steering)
    counts = asyncio.run(_slots(running.port, CONNECTIONS))
    shares = {slot: count / CONNECTIONS for slot, count in sorted(counts.items())}
    print(f"\n{steering}: {shares}")
    assert len(counts) == WORKERS, shares
    assert counts.total() == CONNECTIONS
    assert all(SMALLEST <= share <= LARGEST for share in shares.values()), shares


@modes.both
def test_none_reaches_a_draining_worker(spooky: Spooky, asgi: Backend, steering: str) -> None:
    """Three generations drain, held by open requests; new connections go to the fourth."""
    running = _start(spooky, asgi, steering)

    async def hold(stack: AsyncExitStack) -> None:
        for _ in range(HELD):
            client = await stack.enter_async_context(connect(running.port))
            exchange = client.open("POST", "/asgi/echo", end=False)
            client.send(exchange, b"so far")
            await client.until(lambda e=exchange: e.received > 0, "an echo")  # type: ignore[misc]

    async def scenario() -> Counter[int]:
        async with AsyncExitStack() as stack:
            for _ in range(DRAINS):
                await hold(stack)
                assert (await asyncio.to_thread(reload, running)).status == 0
            counts = await _slots(running.port, AFTERWARDS)
            now = await asyncio.to_thread(status, running)
        states = {worker["slot"]: worker["state"] for worker in now["workers"]}
        print(f"\n{steering}: {dict(sorted(counts.items()))} of {states}")
        assert len({w["generation"] for w in now["workers"]}) == DRAINS + 1, states
        assert {states[slot] for slot in counts} == {"ready"}, (counts, states)
        return counts

    counts = asyncio.run(scenario())
    assert len(counts) == WORKERS
    assert counts.total() == AFTERWARDS
