"""Backends behind TLS: verified by name and authority, and Spooky's own certificate shown."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.backends import Backend, start_hypercorn
from tests.e2e.certificates import Identity, make_identity
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.spooky_process import upstream

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def backend_identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("backend-identity"), "backend.test", "localhost")


@pytest.fixture(scope="module")
def client_identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("client-identity"), "spooky.test")


@pytest.fixture(scope="module")
def tls_backend(
    backend_identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    with start_hypercorn(
        tmp_path_factory.mktemp("tls"),
        certfile=backend_identity.cert,
        keyfile=backend_identity.key,
    ) as backend:
        yield backend


@pytest.fixture(scope="module")
def mutual_backend(
    backend_identity: Identity,
    client_identity: Identity,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Backend]:
    """Talks only to who shows the client's certificate."""
    with start_hypercorn(
        tmp_path_factory.mktemp("mutual"),
        certfile=backend_identity.cert,
        keyfile=backend_identity.key,
        ca_certs=client_identity.cert,
    ) as backend:
        yield backend


def _ask(spooky: Spooky, backend: Backend, **tls: object) -> Exchange:
    one = upstream(f"https://{backend.address}", tls=tls)
    running = spooky({"upstream": {"one": one}})

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            return await client.get("/asgi/bytes?n=100000")

    return asyncio.run(scenario())


def _is_served(exchange: Exchange) -> bool:
    return (exchange.status, exchange.received, exchange.ended) == (200, 100_000, True)


def test_verified_by_our_authority(
    spooky: Spooky, tls_backend: Backend, backend_identity: Identity
) -> None:
    assert _is_served(_ask(spooky, tls_backend, ca=str(backend_identity.cert)))


def test_verified_by_another_name(
    spooky: Spooky, tls_backend: Backend, backend_identity: Identity
) -> None:
    ca = str(backend_identity.cert)
    assert _is_served(_ask(spooky, tls_backend, ca=ca, server_name="backend.test"))


def test_not_verified(spooky: Spooky, tls_backend: Backend) -> None:
    assert _is_served(_ask(spooky, tls_backend, verify=False))


def test_unknown_authority_is_refused(spooky: Spooky, tls_backend: Backend) -> None:
    assert _ask(spooky, tls_backend).status == 502


def test_wrong_name_is_refused(
    spooky: Spooky, tls_backend: Backend, backend_identity: Identity
) -> None:
    ca = str(backend_identity.cert)
    assert _ask(spooky, tls_backend, ca=ca, server_name="other.test").status == 502


def test_our_certificate_is_shown(
    spooky: Spooky,
    mutual_backend: Backend,
    backend_identity: Identity,
    client_identity: Identity,
) -> None:
    shown = {
        "client_cert": str(client_identity.cert),
        "client_key": str(client_identity.key),
    }
    ca = str(backend_identity.cert)
    assert _is_served(_ask(spooky, mutual_backend, ca=ca, **shown))


def test_missing_certificate_is_refused_by_the_backend(
    spooky: Spooky, mutual_backend: Backend, backend_identity: Identity
) -> None:
    assert _ask(spooky, mutual_backend, ca=str(backend_identity.cert)).status == 502


def test_cleartext_to_a_tls_backend(spooky: Spooky, tls_backend: Backend) -> None:
    running = spooky({"upstream": {"one": upstream(tls_backend.address)}})

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            return await client.get("/asgi/headers")

    assert asyncio.run(scenario()).status == 502


def test_tls_to_a_cleartext_backend(spooky: Spooky, asgi: Backend) -> None:
    assert _ask(spooky, asgi, verify=False).status == 502
