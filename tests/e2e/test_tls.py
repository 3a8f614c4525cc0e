"""Certificates chosen by server name, and requests for names that a connection does not serve."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity, make_identity
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e


def _pair(identity: Identity) -> dict[str, str]:
    return {"cert": str(identity.cert), "key": str(identity.key)}


@pytest.fixture
def many_names(
    spooky: Spooky, asgi: Backend, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> SpookyProcess:
    """Default localhost; a.example.com exactly; *.example.com; other.test by its certificate."""
    folder: Path = tmp_path_factory.mktemp("names")
    certificates = [
        {"server_name": name, **_pair(make_identity(folder, name))}
        for name in ("a.example.com", "*.example.com")
    ]
    certificates.append(_pair(make_identity(folder, "other.test", "more.other.test")))
    tls = {**_pair(identity), "certificates": certificates}
    return spooky({"listen": {"tls": tls}, "upstream": {"one": upstream(asgi.address)}})


def _names(port: int, server_name: str) -> list[str]:
    async def scenario() -> list[str]:
        async with connect(port, name=server_name) as client:
            assert (await client.get("/asgi/headers")).status == 200
            return client.server_names

    return asyncio.run(scenario())


def test_certificate_by_server_name(many_names: SpookyProcess) -> None:
    shown = {
        name: _names(many_names.port, name)[0]
        for name in (
            *("localhost", "a.example.com", "A.Example.COM", "b.example.com"),
            *("more.other.test", "unknown.test", "x.y.example.com", "example.com"),
        )
    }
    assert shown == {
        "localhost": "localhost",
        "a.example.com": "a.example.com",
        "A.Example.COM": "a.example.com",
        "b.example.com": "*.example.com",
        "more.other.test": "other.test",
        "unknown.test": "localhost",
        "x.y.example.com": "localhost",
        "example.com": "localhost",
    }


@pytest.mark.parametrize(
    ("authority", "status"),
    [
        (b"a.example.com", 200),
        (b"other.test", 421),
        (b"localhost", 421),
        (b"A.EXAMPLE.COM", 200),
    ],
)
def test_misdirected_request(many_names: SpookyProcess, authority: bytes, status: int) -> None:
    """A name with another certificate must be asked for on a connection of its own."""

    async def scenario() -> Exchange:
        async with connect(many_names.port, name="a.example.com") as client:
            client.authority = authority
            return await client.get("/asgi/headers")

    exchange = asyncio.run(scenario())
    assert (exchange.status, exchange.ended) == (status, True)


def test_unknown_host_on_the_default_certificate_is_served(front: SpookyProcess) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            client.authority = b"any.test"
            return await client.get("/asgi/headers")

    assert asyncio.run(scenario()).status == 200
