"""Processes that are killed or hang, under load, with four workers.

Whose connection it is, the slot in the server's connection ID says. Times count from the kill.
"""

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import psutil
import pytest

from spooky.protocol.cid import slot_of
from tests.e2e import steering as modes
from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.content import KIB, digest
from tests.e2e.h3_client import STATELESS_RESET, Exchange, H3Client, connect
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 4
CONNECTIONS = 40
KNOWN_S = 1.0
"""Within this time the clients of a dead worker must know."""
AGAIN_S = 1.0
"""The replacement is there within the same time; a client that is to find it may have to connect
several times, for others serve new connections as well."""
WORKER_TIMEOUT_S = 2.0
PAUSE_S = 0.03
PING_S = 0.2
REQUEST_S = 10.0


def _start(spooky: Spooky, asgi: Backend, steering: str, **more: object) -> SpookyProcess:
    settings = {"worker_processes": WORKERS, "drain_timeout": "10s", "steering": steering}
    running = spooky({**settings, "upstream": {"one": upstream(asgi.address)}, **more})
    running.wait_until_serving(WORKERS)
    return running


@dataclass(slots=True)
class User:
    """A client that asks again and again on one connection."""

    client: H3Client
    slot: int
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    over_at: float | None = None
    """When its connection was over, by the monotonic clock."""

    async def _over(self, exchange: Exchange) -> None:
        """Wait for the end, and let the server hear of the client meanwhile.

        One that has nothing to send, and nothing to be acknowledged, cannot be told anything.
        """
        for _ in range(round(REQUEST_S / PING_S)):
            with suppress(AssertionError):
                await self.client.over(exchange, PING_S)
                return
            self.client.poke()
        raise AssertionError(f"not within {REQUEST_S:g} s: the end of a request")

    async def ask(self, is_over: asyncio.Event) -> None:
        """Ask until told to stop, or until the connection is over."""
        while not is_over.is_set() and self.over_at is None:
            # The end may also come between two requests, as the answer to an acknowledgement.
            if not self.client.terminated:
                exchange = self.client.open("GET", "/asgi/status?code=204")
                try:
                    await self._over(exchange)
                except AssertionError as error:
                    self.failures.append(str(error))
                self.answered += exchange.status == 204
            if self.client.terminated:
                self.over_at = time.monotonic()
                self.failures.append(self.client.terminated.reason_phrase)
            await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def _users(port: int) -> AsyncIterator[list[User]]:
    """Connect all users, let them ask until the block ends."""
    is_over = asyncio.Event()
    async with AsyncExitStack() as stack:
        users = []
        for _ in range(CONNECTIONS):
            client = await stack.enter_async_context(connect(port))
            users.append(User(client, slot_of(client.server_cid)))
        assert len({user.slot for user in users}) == WORKERS
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(user.ask(is_over))
            await _until(lambda: all(user.answered for user in users), 10.0, "answers for all")
            yield users
            is_over.set()


async def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    await asyncio.to_thread(wait_until, condition, seconds, what)


async def _served_by(port: int, slot: int) -> float:
    """Open connections until one is served in `slot`; say when. Every one must be served."""
    async with asyncio.timeout(REQUEST_S):
        while True:
            async with connect(port) as client:
                exchange = await client.get("/asgi/status?code=204")
                assert exchange.status == 204, client.terminated
                if slot_of(client.server_cid) == slot:
                    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What came of the end of one worker, in seconds after it."""

    told: list[float]
    """When each client of the dead worker knew."""
    reasons: Counter[str]
    slots: set[int]
    """The slots of the clients that failed."""
    unharmed: int
    replaced: float
    """When a new connection was served in the dead worker's slot."""


async def _end_one(port: int, end: Callable[[], float]) -> Aftermath:
    """End a worker by `end`, which says when that was; look at what its clients see."""
    async with _users(port) as users:
        moment = await asyncio.to_thread(end)
        await _until(lambda: any(user.over_at for user in users), REQUEST_S, "a lost connection")
        slot = next(user.slot for user in users if user.over_at)
        replaced = await _served_by(port, slot)
        others = [user for user in users if user.slot != slot]
        seen = [user.answered for user in others]
        doomed = [user for user in users if user.slot == slot]
        await _until(lambda: all(user.over_at for user in doomed), REQUEST_S, "news for all")
        await _until(
            lambda: all(u.answered > n for u, n in zip(others, seen, strict=True)),
            REQUEST_S,
            "answers for the others",
        )
    failed = [user for user in users if user.failures]
    return Aftermath(
        told=[user.over_at - moment for user in doomed if user.over_at],
        reasons=Counter(reason for user in failed for reason in user.failures),
        slots={user.slot for user in failed},
        unharmed=len(users) - len(failed),
        replaced=replaced - moment,
    )


def _check(aftermath: Aftermath, steering: str, within_s: float) -> None:
    print(f"\n{steering}: {aftermath}")
    assert len(aftermath.slots) == 1, aftermath
    assert aftermath.unharmed == CONNECTIONS - len(aftermath.told), aftermath
    assert set(aftermath.reasons) == {STATELESS_RESET}, aftermath
    assert max(aftermath.told) < within_s, aftermath
    assert aftermath.replaced < within_s + AGAIN_S, aftermath


@modes.both
def test_worker_killed(spooky: Spooky, asgi: Backend, steering: str) -> None:
    running = _start(spooky, asgi, steering)
    victim = running.workers()[1]

    def kill() -> float:
        victim.kill()
        return time.monotonic()

    _check(asyncio.run(_end_one(running.port, kill)), steering, KNOWN_S)
    running.wait_until_serving(WORKERS)


@modes.both
def test_worker_hangs(spooky: Spooky, asgi: Backend, steering: str) -> None:
    """Its clients wait until it is killed, and are told then."""
    timeout = {"worker_timeout": f"{WORKER_TIMEOUT_S:g}s"}
    running = _start(spooky, asgi, steering, **timeout)
    victim = running.workers()[1]

    def hang() -> float:
        victim.suspend()
        return time.monotonic()

    _check(asyncio.run(_end_one(running.port, hang)), steering, WORKER_TIMEOUT_S + 2.0)
    running.wait_until_serving(WORKERS)


def test_keeper_killed(spooky: Spooky, asgi: Backend) -> None:
    """Nobody notices but who asks the admin port, and that not for long."""
    running = _start(spooky, asgi, "kernel")
    keeper = running.children("keeper")[0]

    async def scenario() -> list[User]:
        async with _users(running.port) as users:
            keeper.kill()
            await _until(
                lambda: running.children("keeper") not in ([], [keeper]) and running.is_ready(),
                10.0,
                "a new keeper that answers",
            )
        return users

    users = asyncio.run(scenario())
    assert [user.failures for user in users if user.failures] == []


def _is_free(port: int) -> bool:
    """Say whether a UDP port can be bound by somebody who shares it with nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_master_killed(spooky: Spooky, asgi: Backend) -> None:
    """Workers finish what is open, then leave, and the port is free again."""
    running = _start(spooky, asgi, "kernel")
    running.expected_status = -signal.SIGKILL
    left = psutil.Process(running.program.process.pid).children(recursive=True)
    length = 64 * KIB

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(running.port)) for _ in range(12)]
            path = f"/asgi/slow?n={length}&chunk=2048&pause=60"
            open_ones = [(client, client.open("GET", path)) for client in clients]
            for client, exchange in open_ones:
                await client.until(lambda e=exchange: e.received > 0, "a beginning")  # type: ignore[misc]
            running.signal(signal.SIGKILL)
            for client, exchange in open_ones:
                await client.over(exchange)
                assert client.goaways
                assert exchange.hasher.hexdigest() == digest(length)

    asyncio.run(scenario())
    gone, alive = psutil.wait_procs(left, timeout=10.0)
    assert alive == [], running.log()[-2000:]
    assert len(gone) == WORKERS + 1
    assert _is_free(running.port)
