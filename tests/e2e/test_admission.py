"""Limits on what is in flight, as a backend sees them that counts."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from spooky.protocol.cid import slot_of
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.holding import HoldingBackend
from tests.e2e.operator import reload
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream
from tests.e2e.test_status import snapshot

pytestmark = pytest.mark.e2e

POLL_S = 0.01
WAIT_S = 10.0


@pytest.fixture
def backend() -> HoldingBackend:
    return HoldingBackend()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; AssertionError naming `what` if it does not."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {WAIT_S:g} s: {what}") from None


def hold(client: H3Client, count: int, *fields: tuple[bytes, bytes]) -> list[Exchange]:
    return [client.open("GET", "/hold", fields) for _ in range(count)]


def over(exchanges: list[Exchange]) -> list[Exchange]:
    return [exchange for exchange in exchanges if exchange.is_over]


def limited(backend: HoldingBackend, **admission: Any) -> dict[str, Any]:
    return {"one": upstream(backend.address, path="/hold", admission=admission)}


def errors_of(running: SpookyProcess, count: int) -> Iterator[tuple[str, str]]:
    for record in running.access_records(count):
        if record["error"]:
            yield record["error"], record["detail"]


def test_some_go_some_wait_and_the_rest_are_refused(
    spooky: Spooky, backend: HoldingBackend
) -> None:
    running = spooky({"upstream": limited(backend, max_in_flight=4, queue=8, queue_timeout="10s")})

    async def scenario() -> list[Exchange]:
        async with backend.serving(), connect(running.port) as client:
            exchanges = hold(client, 20)
            await client.until(lambda: len(over(exchanges)) == 8, "eight refusals")
            await until(lambda: len(backend.held) == 4, "four at the backend")
            for served in range(1, 13):
                backend.let_go()
                # As many as were let go, and never more than four at once.
                there = min(12, served + 4)
                await until(partial(backend.has_seen, there), "the next one")
            return [await client.over(exchange) for exchange in exchanges]

    exchanges = asyncio.run(scenario())
    assert backend.most == 4
    assert [one.status for one in exchanges] == [200] * 12 + [503] * 8
    assert {one.header(b"retry-after") for one in exchanges[12:]} <= {b"1", b"2"}
    assert all(len([n for n, _ in one.head if n == b"retry-after"]) == 1 for one in exchanges[12:])
    detail = "upstream one has 4 in flight, 8 waiting"
    assert list(errors_of(running, 20)) == [("overloaded", detail)] * 8


def test_the_limit_is_that_of_all_workers(spooky: Spooky, backend: HoldingBackend) -> None:
    """Clients of both workers: together they exceed the limit by one at most, and all get on."""
    running = spooky(
        {
            "worker_processes": 2,
            "upstream": limited(backend, max_in_flight=4, queue=200, queue_timeout="10s"),
        }
    )
    backend.delay = 0.02

    async def scenario() -> list[int]:
        async with backend.serving(), AsyncExitStack() as stack:
            clients: list[H3Client] = []
            while len(clients) < 8 or len({slot_of(one.server_cid) for one in clients}) < 2:
                clients.append(await stack.enter_async_context(connect(running.port)))
            exchanges = [(client, one) for client in clients for one in hold(client, 10)]
            return [(await client.over(one)).status for client, one in exchanges]

    assert set(asyncio.run(scenario())) == {200}
    assert len(backend.connections) >= 2
    assert 4 <= backend.most <= 5


def test_what_clients_give_up_is_given_back(spooky: Spooky, backend: HoldingBackend) -> None:
    """Resets of those inside and of those who wait, and a client that closes its connection."""
    running = spooky(
        {
            "admission": {"max_in_flight": 6, "queue": 20},
            "upstream": limited(backend, max_in_flight=4, queue=8, queue_timeout="10s"),
        }
    )

    async def scenario() -> None:
        async with backend.serving(), connect(running.port) as client:
            exchanges = hold(client, 12)
            await until(lambda: len(backend.held) == 4, "four at the backend")
            for exchange in exchanges[2:4] + exchanges[6:8]:
                client.stop(exchange, 0x10C)
            await until(lambda: len(backend.arrived) == 6, "two others in their place")
            async with connect(running.port) as other:
                hold(other, 2)
                await other.get("/none")
            for exchange in exchanges[:2] + exchanges[4:6] + exchanges[8:]:
                client.stop(exchange, 0x10C)
            await until(lambda: not backend.held, "none at the backend")
            again = hold(client, 20)
            await client.until(lambda: len(over(again)) == 8, "eight refusals")
            await until(lambda: len(backend.held) == 4, "four at the backend")

    asyncio.run(scenario())
    assert backend.most == 4


def test_who_waits_obeys_its_own_time_and_the_queues(
    spooky: Spooky, backend: HoldingBackend
) -> None:
    settings = limited(backend, max_in_flight=1, queue=8)
    settings["two"] = upstream(
        backend.address,
        path="/two",
        admission={"max_in_flight": 1, "queue": 8, "queue_timeout": "10s"},
        timeouts={"total": "400ms"},
    )
    running = spooky({"upstream": settings, "admission": {"queue_timeout": "200ms"}})

    async def scenario() -> list[int]:
        async with backend.serving(), connect(running.port) as client:
            hold(client, 1)
            late = await client.over(hold(client, 1)[0], 2.0)
            first, second = (client.open("GET", "/two/hold") for _ in range(2))
            ends = [late, await client.over(first), await client.over(second)]
            return [one.status for one in ends]

    assert asyncio.run(scenario()) == [503, 504, 504]
    reasons = dict(errors_of(running, 4))
    assert reasons["overloaded"].startswith("no slot within 0.2 s: upstream one has 1 in flight")
    assert len(backend.arrived) == 2


def test_content_waits_with_its_request(spooky: Spooky, backend: HoldingBackend) -> None:
    running = spooky({"upstream": limited(backend, max_in_flight=1, queue=1, queue_timeout="10s")})
    size = 3 << 20

    async def scenario() -> Exchange:
        async with backend.serving(), connect(running.port) as client:
            hold(client, 1)
            await until(lambda: len(backend.held) == 1, "the first one")
            upload = client.open("POST", "/hold", end=False)
            client.send(upload, bytes(size), end=True)
            await client.get("/none")
            # No more than a window is taken of what has nowhere to go.
            assert client.unsent(upload) >= size - (512 << 10)
            backend.delay = 0.0
            backend.let_go()
            return await client.over(upload)

    upload = asyncio.run(scenario())
    assert upload.status == 200
    assert json.loads(upload.kept) == {"received": size}


def test_the_least_important_are_shed_first(spooky: Spooky, backend: HoldingBackend) -> None:
    """The fuller, the fewer classes: 7 goes first, then 3; 0 waits, if need be in the place of
    one that is less important."""
    running = spooky(
        {
            "upstream": limited(
                backend,
                max_in_flight=2,
                queue=2,
                queue_timeout="10s",
                shed_from=0.4,
                priority="normal",
                priority_header="Priority",
                trust_priority=True,
            )
        }
    )

    async def scenario() -> list[int]:
        async with backend.serving(), connect(running.port) as client:
            hold(client, 2)
            await until(lambda: len(backend.held) == 2, "two at the backend")
            (least,) = hold(client, 1, (b"priority", b"u=7"))
            await client.over(least)
            normal = hold(client, 1)
            await client.get("/none")
            (late,) = hold(client, 1)
            await client.over(late)
            urgent = hold(client, 2, (b"priority", b"u=0, i"))
            await client.over(normal[0])
            backend.delay = 0.0
            backend.let_go(2)
            ends = [await client.over(one) for one in urgent]
            return [one.status for one in (least, late, normal[0], *ends)]

    assert asyncio.run(scenario()) == [503, 503, 503, 200, 200]
    reasons = [detail for _, detail in errors_of(running, 8) if detail]
    assert "class 7 is shed, as upstream one is 50% full" in reasons
    assert "class 3 is shed, as upstream one is 75% full" in reasons
    assert "class 3 gave its place to class 0: upstream one has 2 in flight, 2 waiting" in reasons


def test_a_client_does_not_raise_itself(spooky: Spooky, backend: HoldingBackend) -> None:
    running = spooky(
        {
            "upstream": limited(
                backend,
                max_in_flight=10,
                shed_from=0.1,
                priority="low",
                priority_header="priority",
            )
        }
    )

    async def scenario() -> list[int]:
        async with backend.serving(), connect(running.port) as client:
            hold(client, 4)
            await until(lambda: len(backend.held) == 4, "four at the backend")
            (urgent,) = hold(client, 1, (b"priority", b"u=0"))
            return [(await client.over(urgent)).status]

    assert asyncio.run(scenario()) == [503]


def test_the_adaptive_limit_falls_and_rises_with_the_backend(
    spooky: Spooky, backend: HoldingBackend
) -> None:
    adaptive = {"type": "aimd", "min": 2, "start": 16, "max": 16, "latency": "100ms"}
    running = spooky(
        {"upstream": limited(backend, adaptive=adaptive, queue=200, queue_timeout="20s")}
    )

    async def scenario() -> list[int]:
        seen = []
        async with backend.serving(), connect(running.port) as client:
            for delay, count in ((0.01, 32), (0.15, 60), (0.15, 12), (0.005, 300), (0.005, 32)):
                backend.delay, backend.most = delay, 0
                for start in range(0, count, 60):
                    batch = hold(client, min(60, count - start))
                    ends = [await client.over(one) for one in batch]
                    assert {one.status for one in ends} == {200}
                seen.append(backend.most)
        return seen

    well, _, slow, _, again = asyncio.run(scenario())
    assert well == 16
    assert slow <= 4
    # One late answer on a busy machine cuts 16 to 11.
    assert again >= 11


def test_a_backend_that_is_full_is_passed_over(spooky: Spooky) -> None:
    backends = [HoldingBackend(), HoldingBackend()]
    limits = {"max_in_flight": 2, "max_connections": 1}
    one = upstream(
        *(backend.address for backend in backends),
        backend_limits=limits,
        admission={"queue": 2, "queue_timeout": "10s"},
    )
    running = spooky({"upstream": {"one": one}, "limits": {"backend_streams": 1}})

    async def scenario() -> list[Exchange]:
        async with AsyncExitStack() as stack:
            for backend in backends:
                backend.delay = 0.2
                await stack.enter_async_context(backend.serving())
            client = await stack.enter_async_context(connect(running.port))
            exchanges = hold(client, 10)
            return [await client.over(exchange) for exchange in exchanges]

    exchanges = asyncio.run(scenario())
    assert [one.status for one in exchanges] == [200] * 6 + [503] * 4
    assert [len(backend.connections) for backend in backends] == [1, 1]
    assert [len(backend.arrived) for backend in backends] == [3, 3]
    (detail,) = {detail for _, detail in errors_of(running, 10)}
    assert detail == "upstream one has 4 in flight, 2 waiting, and no backend has room"


def test_the_limit_holds_over_reloads_and_deaths(spooky: Spooky, backend: HoldingBackend) -> None:
    """What the old generation has counts for the new one; what a dead worker had, does not."""
    running = spooky({"upstream": limited(backend, max_in_flight=2), "drain_timeout": "10s"})

    async def ask(count: int) -> list[int]:
        async with connect(running.port) as client:
            return [(await client.over(one)).status for one in hold(client, count)]

    def in_flight() -> int:
        (limit,) = snapshot(running)["limits"]
        assert (limit["name"], limit["most"]) == ("upstream one", 2)
        return int(limit["in_flight"])

    async def scenario() -> list[list[int]]:
        (old,) = running.workers()
        async with backend.serving(), connect(running.port) as client:
            hold(client, 2)
            await until(lambda: len(backend.held) == 2, "two at the backend")
            reloaded = await asyncio.to_thread(reload, running)
            assert reloaded.status == 0, reloaded
            refused = await ask(1)
            assert await asyncio.to_thread(in_flight) == 2
            old.kill()
            await until(lambda: not backend.held and not old.is_running(), "the death")
            await asyncio.to_thread(wait_until, lambda: in_flight() == 0, WAIT_S, "a free limit")
            backend.delay = 0.0
            return [refused, await ask(2)]

    assert asyncio.run(scenario()) == [[503], [200, 200]]
