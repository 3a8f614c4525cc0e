"""Garbage from both sides: the worker says nothing rash, logs no traceback and serves on.

10,000 datagrams of each kind, in batches with a check of life between them: a receive buffer that
overflows would hide most of them.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Iterator

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion

from tests.e2e.clients import curl
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.spooky_process import SpookyProcess

pytestmark = pytest.mark.e2e

COUNT = 10_000
BATCH = 200
INITIALS = 50
"""Real first flights that are broken in many ways each: their encryption is what takes time."""


def _random(rng: random.Random) -> Iterator[bytes]:
    while True:
        yield rng.randbytes(rng.choice([0, 1, 2, 7, 20, 21, 40, 200, 1199, 1200, 1452, 2000]))


def _random_long_header(rng: random.Random) -> Iterator[bytes]:
    """Random after a first octet and a version that look right."""
    while True:
        version = rng.choice([b"\0\0\0\1", b"\x6b\x33\x43\xcf", b"\0\0\0\0", b"\x1a\x2a\x3a\x4a"])
        first = bytes([0xC0 | rng.randrange(64)])
        lengths = bytes([rng.choice([0, 1, 8, 11, 20, 21, 255])])
        yield first + version + lengths + rng.randbytes(rng.choice([30, 300, 1194]))


def _initials(rng: random.Random) -> list[bytes]:
    found = []
    for _ in range(INITIALS):
        version = rng.choice([QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2])
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], server_name="localhost", original_version=version
        )
        client = QuicConnection(configuration=configuration)
        client.connect(("127.0.0.1", 1), 0.0)
        found += [data for data, _ in client.datagrams_to_send(0.0)]
    return found


def _truncated(rng: random.Random) -> Iterator[bytes]:
    initials = _initials(rng)
    while True:
        whole = rng.choice(initials)
        yield whole[: rng.randrange(len(whole))]


def _mutated(rng: random.Random) -> Iterator[bytes]:
    initials = _initials(rng)
    while True:
        data = bytearray(rng.choice(initials))
        for _ in range(rng.choice([1, 1, 2, 10])):
            # The header is where a flipped bit means something; the rest fails to decrypt.
            end = rng.choice([1, 6, 30, 60, len(data)])
            data[rng.randrange(end)] ^= 1 << rng.randrange(8)
        yield bytes(data)


def _spliced(rng: random.Random) -> Iterator[bytes]:
    """Two Initials, or one and garbage, in one datagram."""
    initials = _initials(rng)
    while True:
        head = rng.choice(initials)[: rng.choice([50, 600, 1200])]
        yield head + rng.choice([rng.randbytes(100), rng.choice(initials)[:400]])


KINDS: dict[str, Callable[[random.Random], Iterator[bytes]]] = {
    "random": _random,
    "random after a long header": _random_long_header,
    "truncated Initials": _truncated,
    "mutated Initials": _mutated,
    "spliced Initials": _spliced,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_garbage_to_the_port(front: SpookyProcess, kind: str) -> None:
    datagrams = KINDS[kind](random.Random(kind))
    before = front.workers()

    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", front.port))
            async with connect(front.port) as client:
                for _ in range(COUNT // BATCH):
                    for _ in range(BATCH):
                        sock.send(next(datagrams))
                    assert (await client.get("/asgi/status?code=204")).status == 204

    asyncio.run(scenario())
    assert curl(front.target, "GET", "/asgi/status?code=204").status == 204
    assert front.workers() == before
    front.check_log()


FRAMES = {
    "unknown frame, then nothing": (b"\x21\x04abcd", True),
    "nothing": (b"", True),
    "DATA before HEADERS": (b"\x00\x04abcd", True),
    "SETTINGS on a request stream": (b"\x04\x00", True),
    "GOAWAY on a request stream": (b"\x07\x01\x00", True),
    "reserved frame of HTTP/2": (b"\x06\x00", True),
    "half a HEADERS frame": (b"\x01\x40\x50" + b"\x00" * 10, True),
    "HEADERS of garbage": (b"\x01\x20" + bytes(range(0xE0, 0x100)), True),
    "an endless varint": (b"\xff" * 64, False),
    "HEADERS that refer to nothing": (b"\x01\x04\x05\x00\x80\x80", True),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_garbage_on_a_request_stream(front: SpookyProcess, kind: str) -> None:
    """The stream or the connection may end; another connection must not notice."""
    data, end = FRAMES[kind]

    async def scenario() -> Exchange:
        async with connect(front.port) as bystander, connect(front.port) as client:
            client.open_octets(data, end=end)
            for _ in range(5):
                exchange = await bystander.get("/asgi/bytes?n=1000")
                assert exchange.status == 200
            return exchange

    assert asyncio.run(scenario()).received == 1000
    front.check_log()


BROKEN = [
    *("garbage", "truncated", "oversized", "bad-hpack", "data-first"),
    *(
        f"raw-head?kind={kind}"
        for kind in (
            *("no-status", "bad-status", "upper-case", "connection", "newline", "two-lengths"),
            *("late-pseudo", "switching"),
        )
    ),
]


@pytest.mark.parametrize("how", BROKEN)
def test_garbage_from_a_backend(front: SpookyProcess, how: str) -> None:
    """502, and the next request to the same backend is served."""

    async def scenario() -> tuple[Exchange, Exchange]:
        async with connect(front.port) as client:
            return await client.get(f"/scripted/{how}"), await client.get("/scripted/send?n=10")

    broken, next_one = asyncio.run(scenario())
    assert (broken.status, broken.ended) == (502, True)
    assert (next_one.status, next_one.received) == (200, 10)
    front.check_log()


def test_content_shorter_than_announced_is_no_success(front: SpookyProcess) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            return await client.get("/scripted/raw-head?kind=short-body")

    exchange = asyncio.run(scenario())
    assert exchange.status == 502 or (exchange.reset is not None and not exchange.ended)
