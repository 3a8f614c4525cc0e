"""What a client is told when a backend, or another client, fails."""

import asyncio
import json
import time
import uuid
from pathlib import Path

import pytest

from tests.e2e.backends import Backend, nghttpd_command, start_hypercorn, start_on, start_scripted
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.processes import free_port
from tests.e2e.scripted_seen import seen
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

REQUEST_CANCELLED = 0x10C
INTERNAL_ERROR = 0x102
CANCELLED_WITHIN_S = 1.0
H2_OF_H3 = [(0x8, 0x10C), (0x2, 0x102), (0xB, 0x107)]
"""HTTP/2 codes of a backend and what they become in HTTP/3: CANCEL, INTERNAL_ERROR, CALM."""


def _get(port: int, path: str, fields: list[tuple[bytes, bytes]] | None = None) -> Exchange:
    async def scenario() -> Exchange:
        async with connect(port) as client:
            return await client.get(path, fields or [])

    return asyncio.run(scenario())


# --- a backend that fails ---------------------------------------------------------------------


def test_backend_killed_in_mid_response(
    spooky: Spooky, asgi: Backend, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with start_scripted(tmp_path_factory.mktemp("victim")) as victim:
        upstreams = {
            "victim": upstream(victim.address, path="/scripted"),
            "other": upstream(asgi.address, path="/asgi"),
        }
        running = spooky({"upstream": upstreams})

        async def scenario() -> tuple[Exchange, Exchange]:
            async with connect(running.port, paced=True) as client:
                broken = client.open("GET", "/scripted/send?n=50000000")
                other = client.open("GET", "/asgi/slow?n=20480&chunk=1024&pause=50")
                await client.until(lambda: broken.received > 100_000, "some content")
                victim.program.kill()
                await client.over(broken)
                return broken, await client.over(other)

        broken, other = asyncio.run(scenario())
    assert (broken.status, broken.ended, broken.reset) == (200, False, INTERNAL_ERROR)
    assert (other.status, other.received, other.ended) == (200, 20480, True)


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_connection_lost_in_mid_response(front: SpookyProcess, after: int) -> None:
    exchange = _get(front.port, f"/scripted/die?after={after}")
    assert (exchange.ended, exchange.reset) == (False, INTERNAL_ERROR)
    assert exchange.received <= after


@pytest.mark.parametrize(("h2", "h3"), H2_OF_H3)
def test_reset_in_mid_response(front: SpookyProcess, h2: int, h3: int) -> None:
    exchange = _get(front.port, f"/scripted/reset?code={h2}&after=1000")
    assert (exchange.ended, exchange.reset) == (False, h3)


def test_reset_before_the_response(front: SpookyProcess) -> None:
    exchange = _get(front.port, "/scripted/reset?code=2")
    assert (exchange.status, exchange.ended) == (502, True)


def test_connection_lost_before_the_response(front: SpookyProcess) -> None:
    async def scenario() -> tuple[Exchange, dict[str, object]]:
        token = uuid.uuid4().hex
        async with connect(front.port) as client:
            exchange = client.open("POST", f"/scripted/die-unread?mark={token}", end=False)
            client.send(exchange, b"not idempotent", end=True)
            await client.over(exchange)
            return exchange, await seen(client, token)

    exchange, told = asyncio.run(scenario())
    assert (exchange.status, exchange.ended) == (502, True)
    assert told["attempts"] == 1


@pytest.mark.parametrize("how", ["refuse-once", "goaway-once"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_that_was_not_processed_is_sent_again(
    front: SpookyProcess, how: str, method: str
) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            path = f"/scripted/{how}?mark={uuid.uuid4().hex}"
            exchange = client.open(method, path, end=method == "GET")
            if method == "POST":
                client.send(exchange, b"x" * 1000, end=True)
            return await client.over(exchange)

    exchange = asyncio.run(scenario())
    assert (exchange.status, json.loads(exchange.kept)) == (200, {"attempts": 2})


def test_a_refusal_does_not_take_a_request_from_the_backend_of_its_key(
    spooky: Spooky, scripted: Backend, tmp_path: Path
) -> None:
    with start_scripted(tmp_path) as other:
        addresses = (scripted.address, other.address)
        by_path = {"type": "ring-hash", "key": "path"}
        running = spooky({"upstream": {"one": upstream(*addresses, load_balancing=by_path)}})

        async def scenario() -> list[Exchange]:
            async with connect(running.port) as client:
                path = f"/refuse-once?mark={uuid.uuid4().hex}"
                return [await client.get(path) for _ in range(2)]

        found = asyncio.run(scenario())
        assert [json.loads(one.kept) for one in found] == [{"attempts": 2}, {"attempts": 3}]
        assert [record["retries"] for record in running.access_records(2)] == [1, 0]


def test_goaway_loses_no_request(front: SpookyProcess) -> None:
    async def scenario() -> list[Exchange]:
        async with connect(front.port) as client:
            exchanges = []
            for i in range(60):
                path = "/scripted/goaway-after" if i % 10 == 9 else "/scripted/send?n=100"
                exchanges.append(client.open("GET", path))
                if i % 3 == 0:
                    await client.over(exchanges[-1])
            for exchange in exchanges:
                await client.over(exchange)
            return exchanges

    assert [exchange.status for exchange in asyncio.run(scenario())] == [200] * 60


def test_backend_that_retires_its_connections(
    spooky: Spooky, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hypercorn says GOAWAY after so many requests, and drops the one that it says it with."""
    folder = tmp_path_factory.mktemp("retiring")
    with start_hypercorn(folder, keep_alive_max_requests=1000) as backend:
        running = spooky({"upstream": {"one": upstream(backend.address)}})

        async def scenario() -> list[int]:
            statuses = []
            async with connect(running.port) as client:
                for _ in range(240):
                    batch = [client.open("GET", "/asgi/status?code=204") for _ in range(10)]
                    for exchange in batch:
                        await client.over(exchange)
                        statuses.append(exchange.status)
            return statuses

        assert asyncio.run(scenario()) == [204] * 2400


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_connect_refused(spooky: Spooky, accept: str) -> None:
    running = spooky({"upstream": {"none": upstream(f"127.0.0.1:{free_port()}")}})
    fields = [(b"accept", accept.encode()), (b"x-request-id", b"tell-tale")]
    exchange = _get(running.port, "/", fields)
    assert (exchange.status, exchange.ended) == (502, True)
    assert b"tell-tale" in exchange.kept
    if accept == "application/json":
        json.loads(exchange.kept)


def test_connect_refused_is_tried_on_another_backend(spooky: Spooky, nghttpd: Backend) -> None:
    dead = f"127.0.0.1:{free_port()}"
    running = spooky({"upstream": {"two": upstream(dead, nghttpd.address)}})
    exchanges = [_get(running.port, "/nghttpd/one") for _ in range(4)]
    assert [exchange.status for exchange in exchanges] == [200] * 4
    assert sum(line["retries"] for line in running.access_records(4)) >= 1


def test_backend_comes_back(
    spooky: Spooky, site: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port, folder = free_port(), tmp_path_factory.mktemp("nghttpd")
    running = spooky({"upstream": {"one": upstream(f"127.0.0.1:{port}")}})
    for _ in range(2):
        assert _get(running.port, "/nghttpd/one").status == 502
        with start_on(port, "nghttpd", folder, nghttpd_command(site, port)):
            assert _get(running.port, "/nghttpd/one").status == 200


# --- a backend that does not answer -----------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "status"), [("response_header", 504), ("total", 504), ("idle", 408)]
)
def test_timeout(spooky: Spooky, scripted: Backend, which: str, status: int) -> None:
    """`idle` strikes where the client does not go on with its content, hence 408."""
    one = upstream(scripted.address, timeouts={which: "500ms"})
    running = spooky({"upstream": {"one": one}})

    async def scenario() -> tuple[Exchange, dict[str, object]]:
        token = uuid.uuid4().hex
        async with connect(running.port) as client:
            loop = asyncio.get_running_loop()
            start = loop.time()
            exchange = client.open("POST", f"/scripted/hang?mark={token}", end=which != "idle")
            if which == "idle":
                client.send(exchange, b"beginning")
            await client.over(exchange, 10)
            assert 0.4 < loop.time() - start < 3.0
            return exchange, await _until_cancelled(client, token)

    exchange, told = asyncio.run(scenario())
    assert (exchange.status, exchange.ended) == (status, True)
    assert told["state"] == "cancelled"


@pytest.mark.parametrize("timeouts", [{"response_header": "500ms"}, {}])
def test_announcements_are_no_response(
    spooky: Spooky, scripted: Backend, timeouts: dict[str, str]
) -> None:
    retries = {} if timeouts else {"per_try_timeout": "500ms"}
    one = upstream(scripted.address, timeouts=timeouts, retries={"attempts": 1, **retries})
    running = spooky({"upstream": {"one": one}})

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            exchange = client.open("POST", "/scripted/announce", end=False)
            client.send(exchange, b"content", end=True)
            return await client.over(exchange, 5)

    exchange = asyncio.run(scenario())
    assert exchange.status == 504
    assert exchange.interim


def test_total_timeout_in_mid_response(spooky: Spooky, asgi: Backend) -> None:
    one = upstream(asgi.address, timeouts={"total": "500ms"})
    running = spooky({"upstream": {"one": one}})
    exchange = _get(running.port, "/asgi/slow?n=102400&chunk=1024&pause=50")
    assert (exchange.status, exchange.ended) == (200, False)
    assert exchange.reset == INTERNAL_ERROR
    assert 0 < exchange.received < 102400


# --- a client that goes away ------------------------------------------------------------------


async def _until_cancelled(
    client: H3Client, token: str, seconds: float = CANCELLED_WITHIN_S
) -> dict[str, object]:
    """Ask the backend until the request with that token was cancelled."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (told := await seen(client, token))["state"] != "cancelled":
        assert loop.time() < deadline, f"not cancelled within {seconds} s: {told}"
    return told


async def _until_begun(client: H3Client, token: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 5.0
    while (await seen(client, token))["state"] == "unknown":
        assert loop.time() < deadline


@pytest.mark.parametrize("how", ["reset", "stop", "both", "close"])
@pytest.mark.parametrize("body", [False, True])
def test_client_gives_up(front: SpookyProcess, how: str, body: bool) -> None:
    async def scenario() -> dict[str, object]:
        token = uuid.uuid4().hex
        async with connect(front.port) as watcher, connect(front.port) as client:
            exchange = client.open("POST", f"/scripted/hang?mark={token}", end=not body)
            if body:
                client.send(exchange, b"beginning")
            await _until_begun(watcher, token)
            if how in {"reset", "both"} and body:
                client.reset(exchange, REQUEST_CANCELLED)
            if how in {"stop", "both"} or not body:
                client.stop(exchange, REQUEST_CANCELLED)
            if how == "close":
                client.close(0x100)
            return await _until_cancelled(watcher, token)

    assert asyncio.run(scenario())["code"] == 0x8


def test_client_gives_up_and_the_application_is_told(front: SpookyProcess) -> None:
    async def state(client: H3Client, token: str) -> str:
        return str(json.loads((await client.get(f"/asgi/seen?mark={token}")).kept))

    async def scenario() -> None:
        token = uuid.uuid4().hex
        async with connect(front.port) as watcher, connect(front.port) as client:
            client.open("GET", f"/asgi/hang?mark={token}")
            deadline = asyncio.get_running_loop().time() + 5
            while await state(watcher, token) != "begun":
                assert asyncio.get_running_loop().time() < deadline
            client.close(0x100)
            deadline = asyncio.get_running_loop().time() + CANCELLED_WITHIN_S
            while await state(watcher, token) != "disconnected":
                assert asyncio.get_running_loop().time() < deadline

    asyncio.run(scenario())


def test_client_gives_up_a_download(front: SpookyProcess) -> None:
    """The stream is freed and the connection serves on."""

    async def scenario() -> Exchange:
        async with connect(front.port, paced=True) as client:
            for _ in range(20):
                exchange = client.open("GET", "/nghttpd/huge")
                await client.until(lambda e=exchange: e.received > 0, "content")  # type: ignore[misc]
                client.stop(exchange, REQUEST_CANCELLED)
                await client.over(exchange)
            return await client.get("/nghttpd/64k")

    exchange = asyncio.run(scenario())
    assert (exchange.status, exchange.received) == (200, 65536)


@pytest.mark.parametrize("octets", [b"\x01", b"\x01\x40\xff\x00\x00"])
def test_head_that_does_not_end(spooky: Spooky, asgi: Backend, octets: bytes) -> None:
    """It is answered, its line in the log has an id, and the connection serves on."""
    limits = {"request_header_timeout": "500ms"}
    running = spooky({"upstream": {"one": upstream(asgi.address)}, "limits": limits})

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            late = client.open_octets(octets, end=False)
            begun = time.monotonic()
            await client.over(late, 5.0)
            assert 0.4 < time.monotonic() - begun < 3.0
            assert (await client.get("/asgi/status?code=204")).status == 204
            return late

    late = asyncio.run(scenario())
    assert (late.status, late.stopped) == (408, 0x100)
    records = running.access_records(2)
    assert (records[0]["status"], records[0]["error"]) == (408, "headers_timeout")
    assert records[0]["request_id"] == (late.header(b"x-request-id") or b"").decode() != ""


@pytest.mark.slow
def test_client_vanishes(spooky: Spooky, scripted: Backend) -> None:
    """Without a word: the connection's idle timeout is what tells."""
    limits = {"client_idle_timeout": "2s"}
    one = {"one": upstream(scripted.address)}
    running = spooky({"upstream": one, "limits": limits})

    async def scenario() -> dict[str, object]:
        token = uuid.uuid4().hex
        async with connect(running.port) as watcher, connect(running.port) as client:
            client.open("GET", f"/scripted/hang?mark={token}")
            await _until_begun(watcher, token)
            client.vanish()
            return await _until_cancelled(watcher, token, 8.0)

    assert asyncio.run(scenario())["code"] == 0x8
