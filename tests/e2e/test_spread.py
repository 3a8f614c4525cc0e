"""Connections are spread evenly over the workers.

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
from tests.e2e.spooky_process import upstream

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 4
CONNECTIONS = 1000
AT_ONCE = 25
SMALLEST, LARGEST = 0.15, 0.35


async def _slots(port: int) -> Counter[int]:
    """Open the connections, `AT_ONCE` by `AT_ONCE`; count them by slot."""
    counts: Counter[int] = Counter()

    async def one(stack: AsyncExitStack) -> None:
        client = await stack.enter_async_context(connect(port))
        assert is_ours(client.server_cid), client.server_cid.hex()
        counts[slot_of(client.server_cid)] += 1

    for _ in range(CONNECTIONS // AT_ONCE):
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(one(stack))
    return counts


@modes.both
def test_thousand_connections(spooky: Spooky, asgi: Backend, steering: str) -> None:
    one = {"one": upstream(asgi.address)}
    settings = {"worker_processes": WORKERS, "upstream": one, "steering": steering}
    running = spooky(settings)
    running.wait_until_serving(WORKERS)
    counts = asyncio.run(_slots(running.port))
    shares = {slot: count / CONNECTIONS for slot, count in sorted(counts.items())}
    print(f"\n{steering}: {shares}")
    assert len(counts) == WORKERS, shares
    assert counts.total() == CONNECTIONS
    assert all(SMALLEST <= share <= LARGEST for share in shares.values()), shares
