"""Clients whose address changes in the middle of a download, with four workers.

The kernel's own choice would be another worker for three in four of the changes. Every download
must come whole. The changes are spread over what the client has received, so none comes late.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from tests.e2e.backends import Backend
from tests.e2e.clients import Target
from tests.e2e.conftest import Spooky
from tests.e2e.content import KIB, digest
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.reload_load import generation
from tests.e2e.reload_sessions import CurlSession, Qh3Session, Reply
from tests.e2e.reload_tally import Tally
from tests.e2e.spooky_process import SpookyProcess, upstream
from tests.e2e.udp_relay import UdpRelay, relaying

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 4
MOVES = 10
"""Of each client."""
LENGTH = 256 * KIB
PATH = f"/asgi/slow?n={LENGTH}&chunk=4096&pause=30"
DOWNLOAD_S = 30.0

Move: TypeAlias = Callable[[UdpRelay, int], None]


def port_change(relay: UdpRelay, number: int) -> None:
    """NAT rebinding."""
    relay.move()


def address_change(relay: UdpRelay, number: int) -> None:
    """Another address each time."""
    relay.move(f"127.0.0.{2 + number}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a download; `moves` were made while it was under way."""

    client: str
    moves: int
    problem: str


def _start(spooky: Spooky, asgi: Backend) -> SpookyProcess:
    one = {"one": upstream(asgi.address)}
    running = spooky({"worker_processes": WORKERS, "upstream": one, "drain_timeout": "30s"})
    running.wait_until_serving(WORKERS)
    return running


def _problem(status: int, length: int, sha256: str) -> str:
    if (status, length, sha256) == (200, LENGTH, digest(LENGTH)):
        return ""
    return f"status {status}, {length} octets, hash {sha256[:8]}"


async def _download(client: H3Client, moving: Callable[[int], object]) -> str:
    """Download; call `moving` `MOVES` times on the way. Say what went wrong."""
    exchange: Exchange = client.open("GET", PATH)
    for number in range(MOVES):
        part = LENGTH * (number + 1) // (MOVES + 2)
        what = f"octet {part} after {number} moves"
        await client.until(lambda p=part: exchange.received >= p or exchange.is_over, what)  # type: ignore[misc]
        if exchange.is_over:
            return f"over after {number} moves: {client.terminated or exchange.reset}"
        done = moving(number)
        if asyncio.iscoroutine(done):
            await done
    await client.over(exchange, DOWNLOAD_S)
    return _problem(exchange.status, exchange.received, exchange.hasher.hexdigest())


async def _by_aioquic(running: SpookyProcess, move: Move) -> Outcome:
    async with relaying(running.port) as relay:
        try:
            async with connect(relay.port) as client:
                problem = await _download(client, lambda number: move(relay, number))
        except (AssertionError, ConnectionError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Outcome("aioquic", relay.moves, problem)


async def _by_other(
    running: SpookyProcess, move: Move, session_of: type[CurlSession] | type[Qh3Session]
) -> Outcome:
    """Download by a client that knows nothing; the relay moves at a steady pace meanwhile."""
    async with relaying(running.port) as relay:
        session = session_of(Target(relay.port, running.target.cert), Tally(""))

        async def moves() -> None:
            for number in range(MOVES):
                await asyncio.sleep(0.12)  # about a fifteenth of the download
                move(relay, number)

        async with asyncio.TaskGroup() as group:
            mover = group.create_task(moves())
            try:
                reply: Reply = await session.get(PATH, DOWNLOAD_S)
                problem = _problem(reply.status, reply.length, reply.sha256)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            problem = problem if mover.done() else f"{problem}, over before the last move"
            mover.cancel()
        await session.close()
        return Outcome(session_of.__name__, relay.moves, problem)


def _check(outcomes: Sequence[Outcome], moves: int) -> None:
    failed = [outcome for outcome in outcomes if outcome.problem]
    done = sum(outcome.moves for outcome in outcomes)
    print(f"\n{done} changes in {len(outcomes)} downloads, {len(failed)} failed")
    assert not failed, failed
    assert done >= moves


def test_two_hundred_changes(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi)

    async def scenario() -> list[Outcome]:
        return await asyncio.gather(
            *(_by_aioquic(running, port_change) for _ in range(6)),
            *(_by_aioquic(running, address_change) for _ in range(6)),
            *(_by_other(running, port_change, CurlSession) for _ in range(2)),
            *(_by_other(running, address_change, CurlSession) for _ in range(2)),
            *(_by_other(running, port_change, Qh3Session) for _ in range(2)),
            *(_by_other(running, address_change, Qh3Session) for _ in range(2)),
        )

    _check(asyncio.run(scenario()), 200)


@pytest.mark.parametrize("move", [port_change, address_change])
def test_changes_during_and_after_a_reload(spooky: Spooky, asgi: Backend, move: Move) -> None:
    """The reload comes after a third of the changes; the old workers keep their connections."""
    running = _start(spooky, asgi)
    moves = 0

    def counted(relay: UdpRelay, number: int) -> None:
        nonlocal moves
        moves += 1
        if moves == 10 * MOVES // 3:
            running.signal(signal.SIGHUP)
        move(relay, number)

    async def scenario() -> list[Outcome]:
        return await asyncio.gather(*(_by_aioquic(running, counted) for _ in range(10)))

    _check(asyncio.run(scenario()), 100)
    assert generation(running) == 2


@pytest.mark.parametrize("reload", [False, True])
def test_active_migration(spooky: Spooky, asgi: Backend, reload: bool) -> None:
    """A new connection ID with each new path (RFC 9000 section 9.5), every other from elsewhere."""
    running = _start(spooky, asgi)

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
                problem = await _download(client, lambda number: move(client, number))
        except (AssertionError, ConnectionError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Outcome("aioquic", done, problem)

    async def scenario() -> list[Outcome]:
        return await asyncio.gather(*(one(index) for index in range(10)))

    _check(asyncio.run(scenario()), 100)
    assert generation(running) == 1 + reload
