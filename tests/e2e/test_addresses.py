"""Addresses and versions: answers leave from where the client wrote to; IPv6; QUIC v2."""

import asyncio

import pytest
from aioquic.quic.packet import QuicProtocolVersion

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

VERSION_1, VERSION_2 = int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2)


def _start(spooky: Spooky, backend: Backend, address: str) -> SpookyProcess:
    one = {"one": upstream(backend.address)}
    return spooky({"listen": {"address": address}, "upstream": one})


async def _check(client: H3Client) -> None:
    exchange = await client.get("/asgi/bytes?n=300000")
    assert (exchange.status, exchange.received, exchange.ended) == (200, 300_000, True)


@pytest.mark.parametrize(
    ("listen", "write_to"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2"),
        ("::1", "::1"),
        ("::", "::1"),
    ],
)
def test_answer_comes_from_the_address_written_to(
    spooky: Spooky, asgi: Backend, listen: str, write_to: str
) -> None:
    """The client's socket is connected: the kernel drops answers from any other address."""
    running = _start(spooky, asgi, listen)

    async def scenario() -> None:
        async with connect(running.port, host=write_to) as client:
            await _check(client)

    asyncio.run(scenario())
    peer = running.access_records(1)[0]["client"].removeprefix("::ffff:")
    assert peer == ("::1" if write_to == "::1" else "127.0.0.1")


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_quic_version(front: SpookyProcess, version: int) -> None:
    async def scenario() -> int:
        async with connect(front.port, versions=[version]) as client:
            await _check(client)
            return client.version

    assert asyncio.run(scenario()) == version


def test_unknown_version_is_negotiated(front: SpookyProcess) -> None:
    """RFC 9000 section 6: a client that first tries another version is told which there are."""

    async def scenario() -> int:
        async with connect(front.port, versions=[0x1A2A3A4A, VERSION_1]) as client:
            await _check(client)
            return client.version

    assert asyncio.run(scenario()) == VERSION_1


def test_client_that_moves_to_another_port(front: SpookyProcess) -> None:
    """A connection survives a change of the client's address (RFC 9000 section 9)."""

    async def scenario() -> None:
        async with connect(front.port) as client:
            await _check(client)
            await client.move()
            await _check(client)

    asyncio.run(scenario())
