"""Requests that are tried again: what for, how often, with what content, and never too many."""

import asyncio
import contextlib
import hashlib
import json
import socket
import struct
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame

from spooky.policy.budget import WINDOW_S
from spooky.policy.hedging import FEWEST
from tests.e2e.backends import nghttpd_command, start_backend
from tests.e2e.certificates import Identity
from tests.e2e.conftest import Spooky
from tests.e2e.failing import Failing
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.processes import free_port, wait_until
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

REQUEST_CANCELLED = 0x10C
PREAMBLE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
AGAIN: dict[str, Any] = {"attempts": 3, "statuses": [502, 503]}
UPSTREAMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "again": {"retries": AGAIN},
    "later": {"retries": {**AGAIN, "backoff": {"initial": "24h", "max": "24h"}}},
    "soon": {"retries": {**AGAIN, "backoff": {"initial": "50ms", "max": "100ms"}}},
    "hurry": {"retries": {"per_try_timeout": "200ms"}},
    "hedge": {"hedging": {"delay": "100ms"}},
    "tail": {"hedging": {"delay": "p95"}},
    "spent": {
        "hedging": {"delay": "100ms"},
        "retries": {"budget": {"ratio": 0, "minimum": 0.1}},
    },
    "gated": {"hedging": {"delay": "100ms"}, "admission": {"max_in_flight": 1, "queue": 1}},
    "poor": {"retries": {**AGAIN, "budget": {"ratio": 0, "minimum": 0}}},
}


@pytest.fixture(scope="module")
def running(
    identity: Identity, failing: Failing, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpookyProcess]:
    settings = {
        "upstream": {
            name: upstream(*failing.addresses, path=f"/{name}", **more)
            for name, more in UPSTREAMS.items()
        }
    }
    with running_spooky(settings, identity, tmp_path_factory.mktemp("retries")) as spooky:
        yield spooky


def _ask(
    running: SpookyProcess, method: str, path: str, content: bytes = b""
) -> tuple[Exchange, str]:
    """Make a request with a token of its own; return it and the token."""
    token = uuid.uuid4().hex

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            exchange = client.open(method, f"{path}&mark={token}", end=not content)
            if content:
                client.send(exchange, content, end=True)
            return await client.over(exchange)

    return asyncio.run(scenario()), token


def _access(running: SpookyProcess, token: str) -> dict[str, object]:
    """Return the access record of the request with a token."""
    wait_until(lambda: token in running.access_log.read_text(), 5.0, "the access line")
    (line,) = (line for line in running.access_log.read_text().splitlines() if token in line)
    record: dict[str, object] = json.loads(line)
    return record


# --- statuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/again", "/soon"])
def test_a_listed_status_is_tried_again_at_the_other_backend(
    running: SpookyProcess, failing: Failing, path: str
) -> None:
    exchange, token = _ask(running, "GET", f"{path}/x?fail=1&code=503")
    assert (exchange.status, json.loads(exchange.kept)["token"]) == (200, token)
    first, second = failing.tries(token)
    assert first["port"] != second["port"]
    record = _access(running, token)
    assert (record["retries"], record["error"], record["status"]) == (1, None, 200)


@pytest.mark.parametrize(
    ("method", "path", "tries"),
    [
        ("GET", "/again/x?fail=9&code=502", 3),
        ("GET", "/again/x?fail=9&code=500", 1),
        ("GET", "/plain/x?fail=9&code=503", 1),
        ("POST", "/again/x?fail=9&code=503", 1),
        ("GET", "/poor/x?fail=9&code=503", 1),
    ],
)
def test_a_response_that_is_not_repeated_is_the_client_s(
    running: SpookyProcess, failing: Failing, method: str, path: str, tries: int
) -> None:
    exchange, token = _ask(running, method, path)
    assert exchange.header(b"x-answer") == b"the backend's own"
    assert (exchange.status, bytes(exchange.kept)) == (int(path[-3:]), b"failed")
    assert len(failing.tries(token)) == tries
    assert _access(running, token)["retries"] == tries - 1


def test_content_is_sent_again(running: SpookyProcess, failing: Failing) -> None:
    content = bytes(range(256)) * 200
    exchange, token = _ask(running, "PUT", "/again/x?fail=2&code=503", content)
    digest = hashlib.sha256(content).hexdigest()
    assert (exchange.status, json.loads(exchange.kept)["sha256"]) == (200, digest)
    assert [one["sha256"] for one in failing.tries(token)] == [digest] * 3


def test_content_that_was_not_kept_is_not_sent_again(
    running: SpookyProcess, failing: Failing
) -> None:
    exchange, token = _ask(running, "PUT", "/again/x?fail=9&code=503", bytes(70_000))
    assert (exchange.status, len(failing.tries(token))) == (503, 1)


# --- time -------------------------------------------------------------------------------------


def test_a_client_that_leaves_takes_the_wait_for_a_retry_with_it(
    running: SpookyProcess, failing: Failing
) -> None:
    async def scenario() -> None:
        async with connect(running.port) as client:
            exchange = client.open("GET", f"/later/x?fail=9&code=503&mark={token}")
            await asyncio.to_thread(wait_until, lambda: bool(failing.tries(token)), 5.0, "a try")
            client.stop(exchange, REQUEST_CANCELLED)
            await asyncio.to_thread(_access, running, token)

    token = uuid.uuid4().hex
    asyncio.run(scenario())
    record = _access(running, token)
    assert (record["retries"], record["error"], len(failing.tries(token))) == (1, "client_reset", 1)


@pytest.mark.parametrize(
    ("method", "status", "tries"), [("GET", 200, 2), ("PUT", 200, 2), ("POST", 504, 1)]
)
def test_a_try_that_takes_too_long_is_given_up(
    running: SpookyProcess, failing: Failing, method: str, status: int, tries: int
) -> None:
    exchange, token = _ask(running, method, "/hurry/x?fail=1&hang=1")
    assert (exchange.status, len(failing.tries(token))) == (status, tries)
    failing.wait_until_cancelled(token, 1)
    assert _access(running, token)["error"] == ("try_timeout" if status == 504 else None)


def test_a_try_has_its_time_from_the_end_of_the_request_on(
    running: SpookyProcess, failing: Failing
) -> None:
    token = uuid.uuid4().hex

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            path = f"/hurry/x?fail=1&code=200&wait=100&mark={token}"
            exchange = client.open("PUT", path, end=False)
            client.send(exchange, b"slow")
            # A client takes its time, longer than a try has.
            await asyncio.sleep(0.4)
            client.send(exchange, b" content", end=True)
            return await client.over(exchange)

    assert asyncio.run(scenario()).status == 200
    assert len(failing.tries(token)) == 1


@pytest.mark.parametrize(("method", "hedged"), [("GET", True), ("PUT", False), ("POST", False)])
def test_a_request_that_takes_long_is_hedged_where_that_is_safe(
    running: SpookyProcess, failing: Failing, method: str, hedged: bool
) -> None:
    exchange, token = _ask(running, method, "/hedge/x?fail=1&code=200&wait=600")
    assert exchange.status == 200
    assert len(failing.tries(token)) == 1 + hedged
    assert (exchange.kept == b"failed") is not hedged
    assert _access(running, token)["retries"] == int(hedged)


def test_a_hedge_is_paid_for_from_the_budget(running: SpookyProcess, failing: Failing) -> None:
    """One within `WINDOW_S` is all that it has."""
    for hedges in (1, 0):
        exchange, token = _ask(running, "GET", "/spent/x?fail=1&code=200&wait=400")
        assert (exchange.status, len(failing.tries(token))) == (200, 1 + hedges)
        assert _access(running, token)["retries"] == hedges


def test_the_slower_of_two_tries_is_cancelled(running: SpookyProcess, failing: Failing) -> None:
    exchange, token = _ask(running, "GET", "/hedge/x?fail=1&hang=1")
    first, second = failing.tries(token)
    assert (exchange.status, first["port"] != second["port"]) == (200, True)
    failing.wait_until_cancelled(token, 1)


def test_a_fast_request_is_not_hedged(running: SpookyProcess, failing: Failing) -> None:
    exchange, token = _ask(running, "GET", "/hedge/x?a=b")
    assert (exchange.status, len(failing.tries(token))) == (200, 1)
    assert _access(running, token)["retries"] == 0


def test_a_request_that_did_not_end_with_its_head_is_not_hedged(
    running: SpookyProcess, failing: Failing
) -> None:
    """Not even if it had ended before it was let in: the hedge would hear of no end."""
    first, token = uuid.uuid4().hex, uuid.uuid4().hex

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            client.open("POST", f"/gated/x?fail=1&code=200&wait=500&mark={first}")
            await asyncio.to_thread(wait_until, lambda: bool(failing.tries(first)), 5.0, "a try")
            held = client.open("GET", f"/gated/x?fail=1&code=200&wait=400&mark={token}", end=False)
            client.send(held, b"", end=True)
            return await client.over(held)

    assert asyncio.run(scenario()).status == 200
    assert _access(running, token)["retries"] == 0


def test_a_hedge_that_fails_leaves_the_first_try_alone(spooky: Spooky, failing: Failing) -> None:
    addresses = (failing.addresses[0], f"127.0.0.1:{free_port()}")
    by_path = {"type": "rendezvous", "key": "path"}
    delay = {"delay": "100ms"}
    hedged = upstream(*addresses, hedging=delay, load_balancing=by_path, passive_health="off")
    running = spooky({"upstream": {"one": hedged}})

    async def scenario() -> list[Exchange]:
        async with connect(running.port) as client:
            paths = [f"/{n}?fail=1&code=200&wait=400&mark={uuid.uuid4().hex}" for n in range(8)]
            exchanges = [client.open("GET", path) for path in paths]
            return [await client.over(exchange) for exchange in exchanges]

    # Those that go to the port where nobody listens first are tried again, the others hedged.
    assert {exchange.status for exchange in asyncio.run(scenario())} == {200}
    records = running.access_records(8)
    assert {(record["backend"], record["retries"]) for record in records} == {("b0", 1)}


def test_the_wait_for_a_hedge_is_learnt_from_recent_requests(
    running: SpookyProcess, failing: Failing
) -> None:
    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            for _ in range(FEWEST // 10):
                batch = [client.open("GET", "/tail/x?a=b") for _ in range(10)]
                for exchange in batch:
                    await client.over(exchange)
            return await client.get(f"/tail/x?fail=1&hang=1&mark={token}")

    token = uuid.uuid4().hex
    assert asyncio.run(scenario()).status == 200
    assert len(failing.tries(token)) == 2


# --- connections ------------------------------------------------------------------------------


async def _reset_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a connection as far as its first request, and reset it."""
    writer.write(SettingsFrame(0).serialize())
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readexactly(len(PREAMBLE))
        kind = None
        while kind != HeadersFrame.type:
            length = int.from_bytes(await reader.readexactly(3))
            kind = (await reader.readexactly(6))[0]
            await reader.readexactly(length)
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def test_connections_that_are_reset_are_not_seen_by_clients(
    spooky: Spooky, failing: Failing
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        addresses = (f"127.0.0.1:{listener.getsockname()[1]}", failing.addresses[0])
        running = spooky({"upstream": {"one": upstream(*addresses)}})

        async def scenario() -> list[int]:
            async with (
                await asyncio.start_server(_reset_each, sock=listener),
                connect(running.port) as client,
            ):
                return [(await client.get("/x?mark=reset")).status for _ in range(20)]

        assert asyncio.run(scenario()) == [200] * 20
    retried = [record["retries"] for record in running.access_records(20)]
    assert sum(map(int, retried)) >= 5


def test_a_backend_that_is_killed_is_not_seen_by_clients(
    spooky: Spooky, site: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(
                start_backend("nghttpd", tmp_path, lambda port: nghttpd_command(site, port))
            )
            for _ in range(2)
        )
        running = spooky({"upstream": {"one": upstream(one.address, other.address)}})

        async def scenario() -> list[int]:
            async with connect(running.port) as client:
                statuses = []
                for number in range(60):
                    if number == 20:
                        one.program.kill()
                    batch = [client.open("GET", "/nghttpd/one") for _ in range(3)]
                    statuses += [(await client.over(exchange)).status for exchange in batch]
                return statuses

        assert set(asyncio.run(scenario())) == {200}


# --- the storm --------------------------------------------------------------------------------


def test_a_storm_is_not_made_worse(spooky: Spooky, failing: Failing) -> None:
    """All backends fail: attempts, counted at the backends, stay under the budget's bound."""
    requests, ratio, minimum = 400, 0.25, 0.5
    budget = {"ratio": ratio, "minimum": minimum}
    retries = {"attempts": 5, "statuses": [503], "budget": budget}
    running = spooky(
        {
            "worker_processes": 2,
            "upstream": {"one": upstream(*failing.addresses, retries=retries)},
        }
    )
    token = uuid.uuid4().hex

    async def client_of(count: int) -> list[int]:
        statuses = []
        async with connect(running.port) as client:
            for _ in range(count // 10):
                path = f"/x?fail=1000000&code=503&mark={token}"
                batch = [client.open("GET", path) for _ in range(10)]
                statuses += [(await client.over(exchange)).status for exchange in batch]
        return statuses

    async def scenario() -> list[list[int]]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await asyncio.gather(*(client_of(requests // 4) for _ in range(4)))
        assert loop.time() - began < WINDOW_S
        return found

    statuses = [status for one in asyncio.run(scenario()) for status in one]
    assert statuses == [503] * requests
    attempts = len(failing.tries(token))
    assert (
        requests * (1 + ratio) * 0.9 < attempts <= requests * (1 + ratio) + minimum * 2 * WINDOW_S
    )
