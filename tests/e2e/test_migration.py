"""Clients whose address changes in the middle of a download, with four workers.

The kernel's own choice would be another worker for three in four of the changes. Every download
must come whole.
"""

import asyncio
import signal
from collections.abc import Sequence

import pytest

from tests.e2e import steering as modes
from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.migration import (
    MOVES,
    Move,
    Outcome,
    address_change,
    by_aioquic,
    by_other,
    download,
    port_change,
)
from tests.e2e.reload_load import generation
from tests.e2e.reload_sessions import CurlSession, Qh3Session
from tests.e2e.spooky_process import SpookyProcess, upstream
from tests.e2e.udp_relay import UdpRelay

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 4


def _start(spooky: Spooky, asgi: Backend, steering: str) -> SpookyProcess:
    settings = {"worker_processes": WORKERS, "drain_timeout": "30s", "steering": steering}
    running = spooky({**settings, "upstream": {"one": upstream(asgi.address)}})
    running.wait_until_serving(WORKERS)
    return running


def _check(outcomes: Sequence[Outcome], moves: int) -> None:
    failed = [outcome for outcome in outcomes if outcome.problem]
    done = sum(outcome.moves for outcome in outcomes)
    print(f"\n{done} changes in {len(outcomes)} downloads, {len(failed)} failed")
    assert not failed, failed
    assert done >= moves


@modes.both
def test_two_hundred_changes(spooky: Spooky, asgi: Backend, steering: str) -> None:
    running = _start(spooky, asgi, steering)

    async def scenario() -> list[Outcome]:
        return await asyncio.gather(
            *(by_aioquic(running, port_change) for _ in range(6)),
            *(by_aioquic(running, address_change) for _ in range(6)),
            *(by_other(running, port_change, CurlSession) for _ in range(2)),
            *(by_other(running, address_change, CurlSession) for _ in range(2)),
            *(by_other(running, port_change, Qh3Session) for _ in range(2)),
            *(by_other(running, address_change, Qh3Session) for _ in range(2)),
        )

    _check(asyncio.run(scenario()), 200)


@modes.both
@pytest.mark.parametrize("move", [port_change, address_change])
def test_changes_during_and_after_a_reload(
    spooky: Spooky, asgi: Backend, steering: str, move: Move
) -> None:
    """The reload comes after a third of the changes; the old workers keep their connections."""
    running = _start(spooky, asgi, steering)
    moves = 0

    async def counted(relay: UdpRelay, number: int) -> None:
        nonlocal moves
        moves += 1
        if moves == 10 * MOVES // 3:
            running.signal(signal.SIGHUP)
        await move(relay, number)

    async def scenario() -> list[Outcome]:
        return await asyncio.gather(*(by_aioquic(running, counted) for _ in range(10)))

    _check(asyncio.run(scenario()), 100)
    assert generation(running) == 2


@modes.both
@pytest.mark.parametrize("reload", [False, True])
def test_active_migration(spooky: Spooky, asgi: Backend, steering: str, reload: bool) -> None:
    """A new connection ID with each new path (RFC 9000 section 9.5), every other from elsewhere."""
    running = _start(spooky, asgi, steering)

    async def one(index: int) -> Outcome:
        done = 0

        async def move(client: H3Client, number: int) -> None:
            nonlocal done
            if reload and index == number == 3:
                running.signal(signal.SIGHUP)
            before = client.server_cid
            await client.move(f"127.0.0.{2 + number}" if number % 2 else "")
            assert client.server_cid != before
            done += 1

        try:
            async with connect(running.port) as client:
                problem = await download(client, lambda number: move(client, number))
        except (AssertionError, ConnectionError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Outcome("aioquic", done, problem)

    async def scenario() -> list[Outcome]:
        return await asyncio.gather(*(one(index) for index in range(10)))

    _check(asyncio.run(scenario()), 100)
    assert generation(running) == 1 + reload
