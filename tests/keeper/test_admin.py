"""What the admin endpoint says, and what it does not put up with."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import h11
import pytest

from spooky import __version__
from spooky.keeper import admin
from spooky.keeper.admin import AdminEndpoint, answer
from spooky.shm.instance import Admission, Cell, Serving
from spooky.shm.processes import Column, ProcessState
from spooky.shm.segment import SharedMemory

FIRST = 4
"""Where the slots of the serving generation begin."""


def memory_of(*states: ProcessState, admission: Admission = Admission.OPEN) -> SharedMemory:
    """An instance whose serving generation, the third, has workers in these states."""
    memory = SharedMemory.create(4)
    # The mapping keeps the memory.
    os.close(memory.fd)
    memory.instance.promote(Serving(3, FIRST, len(states)), 0)
    memory.instance.set(Cell.ADMISSION, admission)
    for number, state in enumerate(states):
        row = memory.processes.row(FIRST + number)
        row.begin(3)
        row.set(Column.STATE, state)
    return memory


READY = (ProcessState.READY, ProcessState.READY)
HALF = (ProcessState.READY, ProcessState.STARTING)


@pytest.mark.parametrize(
    ("states", "admission", "status", "text", "ready"),
    [
        (READY, Admission.OPEN, 200, "ready", 2),
        (HALF, Admission.OPEN, 503, "not ready", 1),
        (READY, Admission.STOPPING, 503, "stopping", 2),
        (READY, Admission.DRAINED, 503, "drained", 2),
        (HALF, Admission.DRAINED, 503, "drained", 1),
    ],
)
def test_readiness(
    states: tuple[ProcessState, ...], admission: Admission, status: int, text: str, ready: int
) -> None:
    made = answer(memory_of(*states, admission=admission), "GET", "/ready")
    assert made.status == status
    assert made.fields == {
        "status": text,
        "generation": 3,
        "workers": 2,
        "workers_ready": ready,
    }


def test_only_ready_workers_of_the_serving_generation_count() -> None:
    memory = memory_of(*READY)
    # Workers of the generation before, the same slot taken by another, and the keeper.
    for number, generation in [(FIRST - 1, 2), (FIRST, 2), (FIRST + 2, 3), (256, 3)]:
        row = memory.processes.row(number)
        row.begin(generation)
        row.set(Column.STATE, ProcessState.READY)
    assert answer(memory, "GET", "/ready").fields["workers_ready"] == 1


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/health?verbose=1", 200),
        ("POST", "/health", 405),
        ("DELETE", "/ready", 405),
        ("GET", "/", 404),
        ("GET", "/healthy", 404),
        ("GET", "/health/", 404),
        ("POST", "/metrics", 404),
        ("OPTIONS", "*", 404),
    ],
)
def test_what_there_is(method: str, target: str, status: int) -> None:
    assert answer(memory_of(*HALF), method, target).status == status


Ask = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[int, AdminEndpoint]]:
    served = AdminEndpoint(memory_of(*READY))
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], served
        await asyncio.wait_for(served.idle.wait(), 10)


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def exchange(request: bytes) -> tuple[int, dict[str, str], bytes]:
    async def main() -> bytes:
        async with endpoint() as (port, _):
            return await ask(port, request)

    head, _, body = asyncio.run(main()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines[1:])}
    return int(lines[0].split()[1]), fields, body


def test_a_get_over_the_wire() -> None:
    status, fields, body = exchange(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    assert json.loads(body) == {"status": "ok", "version": __version__}
    assert fields["content-type"] == "application/json"
    assert fields["content-length"] == str(len(body))
    assert fields["connection"] == "close"
    assert fields["date"].endswith("GMT")


def test_a_head_has_the_fields_and_no_body() -> None:
    status, fields, body = exchange(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, body) == (200, b"")
    assert int(fields["content-length"]) > 0


def test_http_1_0_is_answered() -> None:
    assert exchange(b"GET /ready HTTP/1.0\r\n\r\n")[0] == 200


def test_a_wrong_method_is_told_the_right_ones() -> None:
    status, fields, _ = exchange(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
    assert (status, fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x00\xff\x16\x03\x01garbage\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    ],
)
def test_malformed_requests_are_refused(request_bytes: bytes, status: int) -> None:
    assert exchange(request_bytes)[0] == status


def test_random_changes_to_a_request_never_raise() -> None:
    memory = memory_of(*READY)
    luck = random.Random(7)
    whole = b"GET /health?a=b HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n"
    answered = 0
    for _ in range(3000):
        octets = bytearray(luck.choice([whole, whole.replace(b"GET", b"CONNECT")]))
        for _ in range(luck.randint(1, 4)):
            octets[luck.randrange(len(octets))] = luck.randrange(256)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=admin.HEAD_BYTES)
        connection.receive_data(bytes(octets))
        data = admin.respond(connection, memory)
        answered += data is not None
        assert not data or data.startswith(b"HTTP/1.1 ")
    assert answered > 1000


def test_a_client_that_leaves_is_forgotten() -> None:
    async def main() -> None:
        async with endpoint() as (port, served):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /hea")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            assert b" 200 " in await ask(port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(served.idle.wait(), 2)

    asyncio.run(main())


def test_a_slow_client_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "REQUEST_TIMEOUT_S", 0.2)

    async def main() -> None:
        async with endpoint() as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nHos")
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()

    asyncio.run(main())


def test_too_many_connections_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "CONNECTIONS", 2)

    async def main() -> None:
        async with endpoint() as (port, _):
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            assert await ask(port, b"") == b""
            for _, writer in held:
                writer.close()

    asyncio.run(main())
