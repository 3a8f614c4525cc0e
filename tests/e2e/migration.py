"""Downloads by clients whose address changes on the way, by a relay of the tests or by themselves.

The changes of aioquic's downloads are spread over what it has received, so that none comes too
late; those of the other clients come at a steady pace. Never decides what may fail.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.e2e.clients import Target
from tests.e2e.content import KIB, digest
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.reload_sessions import CurlSession, Qh3Session, Reply
from tests.e2e.reload_tally import Tally
from tests.e2e.spooky_process import SpookyProcess
from tests.e2e.udp_relay import UdpRelay, relaying

MOVES = 10
"""Of each client."""
LENGTH = 256 * KIB
PATH = f"/asgi/slow?n={LENGTH}&chunk=4096&pause=30"
DOWNLOAD_S = 30.0

MOVE_S = 5.0

Move: TypeAlias = Callable[[UdpRelay, int], Awaitable[None]]


async def port_change(relay: UdpRelay, number: int) -> None:
    """NAT rebinding."""
    await relay.move()


async def address_change(relay: UdpRelay, number: int) -> None:
    """Another address each time."""
    await relay.move(f"127.0.0.{2 + number}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a download; `moves` were made while it was under way."""

    client: str
    moves: int
    problem: str


def _problem(status: int, length: int, sha256: str) -> str:
    if (status, length, sha256) == (200, LENGTH, digest(LENGTH)):
        return ""
    return f"status {status}, {length} octets, hash {sha256[:8]}"


async def download(client: H3Client, moving: Callable[[int], Awaitable[None]]) -> str:
    """Download; call `moving` `MOVES` times on the way. Say what went wrong."""
    exchange: Exchange = client.open("GET", PATH)
    for number in range(MOVES):
        part = LENGTH * (number + 1) // (MOVES + 2)
        what = f"octet {part} after {number} moves"
        await client.until(lambda p=part: exchange.received >= p or exchange.is_over, what)  # type: ignore[misc]
        if exchange.is_over:
            return f"over after {number} moves: {client.terminated or exchange.reset}"
        async with asyncio.timeout(MOVE_S):
            await moving(number)
    await client.over(exchange, DOWNLOAD_S)
    return _problem(exchange.status, exchange.received, exchange.hasher.hexdigest())


async def by_aioquic(running: SpookyProcess, move: Move) -> Outcome:
    async with relaying(running.port) as relay:
        try:
            async with connect(relay.port) as client:
                problem = await download(client, lambda number: move(relay, number))
        except (AssertionError, ConnectionError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Outcome("aioquic", relay.moves, problem)


async def by_other(
    running: SpookyProcess, move: Move, session_of: type[CurlSession] | type[Qh3Session]
) -> Outcome:
    """Download by a client that knows nothing; the relay moves at a steady pace meanwhile."""
    async with relaying(running.port) as relay:
        session = session_of(Target(relay.port, running.target.cert), Tally(""))

        async def moves() -> None:
            for number in range(MOVES):
                await asyncio.sleep(0.12)  # about a fifteenth of the download
                await move(relay, number)

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
