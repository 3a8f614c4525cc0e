"""What clients come up against: every bound is reached, told of, counted, and harms nobody else."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from spooky.protocol.cid import slot_of
from spooky.shm.segment import attach_to
from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity
from tests.e2e.clients import curl
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.operator import reload, status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

NO_BOUND = {"connections": 0, "connections_per_address": 0, "handshakes": 0}
IDLE_S, GRACE_S, TOTAL_S = 0.6, 1.0, 2.5
RATE = 1000
KIB = 1024
CANCELLED = 0x10C


def _counts(running: SpookyProcess) -> dict[str, int]:
    """Read the counts where `spooky status` reads them."""
    return attach_to(running.program.process.pid).bounds.totals()


def _told(running: SpookyProcess) -> dict[str, int]:
    """Ask `spooky status` which bounds were reached."""
    return {name: times for name, times in status(running)["bounds"].items() if times}


# --- requests ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tight(
    identity: Identity,
    scripted: Backend,
    asgi: Backend,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SpookyProcess]:
    """A Spooky whose bounds are near."""
    timeouts = {"idle": f"{IDLE_S}s", "total": f"{TOTAL_S}s"}
    settings = {
        "upstream": {
            "scripted": upstream(scripted.address, path="/scripted", timeouts=timeouts),
            "asgi": upstream(asgi.address, path="/asgi"),
        },
        "limits": {
            "streams_per_connection": 4,
            "request_header_bytes": "4KiB",
            "request_header_count": 20,
            "request_header_timeout": "400ms",
            "request_body_bytes": "10KiB",
            "request_body_rate": RATE,
            "response_rate": "1MiB",
            "rate_grace": f"{GRACE_S}s",
            "response_buffer": "1MiB",
            "client_idle_timeout": "3500ms",
        },
    }
    with running_spooky(settings, identity, tmp_path_factory.mktemp("tight")) as running:
        yield running


async def _large_section(client: H3Client) -> None:
    exchange = await client.get("/asgi/headers", [(b"x-large", b"x" * 4096)])
    assert exchange.status == 431


async def _many_lines(client: H3Client) -> None:
    exchange = await client.get("/asgi/headers", [(b"x-many", b"y")] * 21)
    assert exchange.status == 431


async def _section_that_does_not_end(client: H3Client) -> None:
    exchange = client.open_octets(b"\x01", end=False)
    assert (await client.over(exchange)).status == 408


async def _large_content(client: H3Client) -> None:
    exchange = client.open("POST", "/asgi/sha256", end=False)
    client.send(exchange, b"x" * (10 * KIB + 1))
    assert (await client.over(exchange)).status == 413


async def _slow_content(client: H3Client) -> None:
    """An octet comes often enough not to be idle; what came quickly at first gives some time."""
    exchange = client.open("POST", "/scripted/hang", end=False)
    client.send(exchange, b"x" * (RATE // 2))
    began = time.monotonic()
    while not exchange.is_over:
        client.send(exchange, b"x")
        with suppress(AssertionError):
            await client.over(exchange, IDLE_S / 6)
    assert exchange.status == 408
    assert time.monotonic() - began > GRACE_S + 0.5


async def _no_content(client: H3Client) -> None:
    exchange = client.open("POST", "/scripted/hang", end=False)
    assert (await client.over(exchange)).status == 408


async def _no_end(client: H3Client) -> None:
    assert (await client.get("/scripted/hang")).status == 504


async def _more_streams(client: H3Client) -> None:
    for _ in range(5):
        client.open("POST", "/asgi/sha256", end=False)


async def _silence(client: H3Client) -> None:
    client.vanish()


REACHED: dict[str, Callable[[H3Client], Awaitable[None]]] = {
    "request_header_bytes": _large_section,
    "request_header_count": _many_lines,
    "request_header_timeout": _section_that_does_not_end,
    "request_body_bytes": _large_content,
    "request_body_rate": _slow_content,
    "idle_timeout": _no_content,
    "total_timeout": _no_end,
    "streams_per_connection": _more_streams,
    "client_idle_timeout": _silence,
}


@pytest.mark.parametrize("name", REACHED)
def test_a_bound_is_reached_and_counted(tight: SpookyProcess, name: str) -> None:
    before = _counts(tight)

    async def scenario() -> None:
        async with connect(tight.port) as client:
            await REACHED[name](client)
            await asyncio.to_thread(
                wait_until, lambda: _counts(tight)[name] > before[name], 5.0, name
            )
        async with connect(tight.port) as other:
            assert (await other.get("/asgi/status?code=204")).status == 204

    asyncio.run(scenario())
    counts = _counts(tight)
    assert counts[name] == before[name] + 1
    others = {one for one in counts if counts[one] != before[one]}
    assert others <= {name, "client_idle_timeout"}
    if name != "client_idle_timeout":
        line = f"bound reached: {name}, 1 times"
        wait_until(lambda: line in tight.log(), 5.0, line)


def test_status_tells_of_all_of_them(tight: SpookyProcess) -> None:
    async def scenario() -> None:
        async with connect(tight.port) as client:
            await _many_lines(client)

    asyncio.run(scenario())
    told = status(tight)["bounds"]
    assert told["request_header_count"] > 0
    # Meanwhile a connection may have become idle.
    idle = told["client_idle_timeout"]
    assert told == {**_counts(tight), "client_idle_timeout": idle}


def _error_of(running: SpookyProcess, path: str) -> str | None:
    """Wait for the line of a request in the access log; say what went wrong with it."""

    def found() -> list[dict[str, str | None]]:
        lines = running.access_log.read_text().splitlines()
        return [one for line in lines if (one := json.loads(line))["path"] == path]

    wait_until(lambda: len(found()) == 1, 5.0, f"a line for {path}")
    return found()[0].get("error")


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_slow_reader_is_given_up(tight: SpookyProcess, handed_over: bool) -> None:
    """Whether the backend still has some of it, or has given all and the request is over."""
    before = _counts(tight)["response_rate"]
    size = 700 * KIB if handed_over else 4096 * KIB

    async def scenario() -> tuple[Exchange, int]:
        async with connect(tight.port, paced=True) as client:
            exchange = client.open("GET", f"/asgi/bytes?n={size}")
            # It reads on, but slowly.
            await client.read_slowly(exchange, 20 * KIB, 6.0)
            return exchange, (await client.get("/asgi/status?code=204")).status

    exchange, other = asyncio.run(scenario())
    assert (exchange.status, exchange.reset, other) == (200, CANCELLED, 204)
    assert exchange.received < 600 * KIB
    assert _counts(tight)["response_rate"] == before + 1
    error = _error_of(tight, f"/asgi/bytes?n={size}")
    assert error == (None if handed_over else "slow_reader")


# --- connections ------------------------------------------------------------------------------


def _start(spooky: Spooky, asgi: Backend, workers: int, **limits: int) -> SpookyProcess:
    running = spooky(
        {
            "worker_processes": workers,
            "drain_timeout": "2s",
            "upstream": {"one": upstream(asgi.address)},
            "limits": {**NO_BOUND, **limits},
        }
    )
    running.wait_until_serving(workers)
    return running


async def _enter(stack: AsyncExitStack, port: int, source: str = "") -> H3Client:
    client = await stack.enter_async_context(connect(port, source=source))
    assert (await client.get("/asgi/status?code=204")).status == 204
    return client


async def _is_refused(port: int, source: str = "") -> bool:
    try:
        async with connect(port, source=source):
            return False
    except ConnectionError:
        return True


async def _fill(stack: AsyncExitStack, port: int, most: int) -> list[H3Client]:
    """Connect until the instance takes no more; the workers together took `most`."""
    clients: list[H3Client] = []
    async with asyncio.timeout(15.0):
        while len(clients) < most:
            with suppress(ConnectionError):
                clients.append(await _enter(stack, port))
    assert await _is_refused(port)
    return clients


def test_connections_of_all_workers(spooky: Spooky, asgi: Backend) -> None:
    """The count is right after a worker was killed, and after a reload."""
    most = 6
    running = _start(spooky, asgi, 2, connections=most)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            clients = await _fill(stack, running.port, most)
            pids = {one["slot"]: one["pid"] for one in status(running)["workers"]}
            slot = slot_of(clients[0].server_cid)
            left = [one for one in clients if slot_of(one.server_cid) != slot]
            os.kill(pids[slot], signal.SIGKILL)
            await asyncio.to_thread(running.wait_until_serving, 2)
            # As many as the dead worker had find room again, and no more.
            clients = left + await _fill(stack, running.port, most - len(left))
            assert (await asyncio.to_thread(reload, running)).status == 0
            # The old workers are quiet, and close what they have.
            for client in clients:
                await client.until(lambda c=client: c.terminated is not None, "the end")  # type: ignore[misc]
            await _fill(stack, running.port, most)

    asyncio.run(scenario())
    told = _told(running)
    assert set(told) == {"connections"}
    assert told["connections"] >= 3
    assert "bound reached: connections, " in running.log()


def test_connections_of_an_address(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 2, connections_per_address=3)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            clients = [await _enter(stack, running.port) for _ in range(3)]
            assert [await _is_refused(running.port) for _ in range(4)] == [True] * 4
            await _enter(stack, running.port, "127.0.0.2")
            clients[0].close(0x100)
            await _fill(stack, running.port, 1)

    asyncio.run(scenario())
    told = _told(running)
    assert set(told) == {"connections_per_address"}
    refused = told["connections_per_address"]
    wait_until(
        lambda: status(running)["intake"]["connections_refused"] == refused, 5.0, "as many refused"
    )


def _first_flight(port: int) -> list[bytes]:
    """Make the first datagrams of a client that will never go on."""
    configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
    quic = QuicConnection(configuration=configuration)
    quic.connect(("127.0.0.1", port), now=0.0)
    return [data for data, _ in quic.datagrams_to_send(now=0.0)]


def _knock(running: SpookyProcess, times: int) -> dict[str, int]:
    """Begin so many connections and go on with none; say what became of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(times):
            for data in _first_flight(running.port):
                sock.sendto(data, ("127.0.0.1", running.port))

        def intake() -> dict[str, int]:
            return dict(status(running)["intake"])

        def seen() -> bool:
            now = intake()
            return now["connections_opened"] + now["connections_refused"] >= times

        wait_until(seen, 8.0, "all of them were seen")
        return intake()


def test_handshakes_in_progress(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 1, handshakes=3)
    seen = _knock(running, 8)
    assert (seen["connections_opened"], seen["connections_refused"]) == (3, 5)
    assert asyncio.run(_is_refused(running.port))
    assert _told(running) == {"handshakes": 6}


def test_new_connections_within_a_second(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 1, connections_per_second=2)
    seen = _knock(running, 20)
    refused = seen["connections_refused"]
    assert refused >= 10
    assert _told(running) == {"connections_per_second": refused}
    # In the next second there is room again.
    wait_until(
        lambda: not asyncio.run(_is_refused(running.port)), 5.0, "a connection that is begun"
    )
    assert curl(running.target, "GET", "/asgi/status?code=204").status == 204
