"""TLS to backends: what is verified, what is shown, what is told when it fails."""

import ssl
from pathlib import Path

import pytest

from spooky.config.backend_tls import make_client_context
from spooky.config.model import Backend as BackendConfig
from spooky.config.model import UpstreamTls
from spooky.errors import Kind
from spooky.worker.connect import Endpoint
from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity
from tests.e2e.content import digest
from tests.worker.pool_probe import both_loops, get, pooled, run, scripted, serving


def endpoint(port: int, tls: UpstreamTls) -> Endpoint:
    backend = BackendConfig("b", "127.0.0.1", port, tls=True)
    return Endpoint(backend, make_client_context(tls), tls.server_name)


@both_loops
@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("server_name", [None, "backend.test"])
def test_both_sides_show_a_certificate(
    nghttpd_mtls: Backend,
    backend_identity: Identity,
    folder: bool,
    server_name: str | None,
    loop_name: str,
) -> None:
    ca = backend_identity.cert.parent if folder else backend_identity.cert
    tls = UpstreamTls(
        ca=ca,
        server_name=server_name,
        client_cert=backend_identity.cert,
        client_key=backend_identity.key,
    )

    async def test() -> None:
        where = endpoint(nghttpd_mtls.port, tls)
        async with pooled(nghttpd_mtls.port, endpoint=where) as pool:
            exchanges = [get("/1k"), get("/1m")]
            for exchange in exchanges:
                exchange.start(pool)
            assert [await exchange.wait() for exchange in exchanges] == ["ok", "ok"]
            assert exchanges[1].hash.hexdigest() == digest(1 << 20)

    run(test(), loop_name)


@both_loops
@pytest.mark.parametrize(
    ("tls", "detail"),
    [
        (UpstreamTls(), "not accepted: self"),
        (UpstreamTls(ca=Path("ca"), server_name="other.test"), "not accepted: Hostname mismatch"),
    ],
)
def test_a_certificate_that_is_not_accepted(
    nghttpd_mtls: Backend,
    backend_identity: Identity,
    tls: UpstreamTls,
    detail: str,
    loop_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ca = backend_identity.cert if tls.ca else None
    settings = UpstreamTls(ca=ca, server_name=tls.server_name)

    async def test() -> None:
        where = endpoint(nghttpd_mtls.port, settings)
        async with pooled(nghttpd_mtls.port, endpoint=where) as pool:
            exchange = get("/1k")
            exchange.start(pool)
            assert await exchange.wait() is Kind.CONNECT_FAILED
            assert detail in exchange.detail
        (record,) = (one for one in caplog.records if one.name == "spooky.worker.pool")
        assert record.getMessage().endswith(f": cannot connect: {exchange.detail}")

    run(test(), loop_name)


@both_loops
@pytest.mark.parametrize(
    ("protocols", "detail"), [(["http/1.1"], "ALPN h2"), ([], "ALPN h2"), (None, "TLS")]
)
def test_tls_without_http2(
    backend_identity: Identity, protocols: list[str] | None, detail: str, loop_name: str
) -> None:
    async def test() -> None:
        options = {}
        if protocols is not None:
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(backend_identity.cert, backend_identity.key)
            if protocols:
                server.set_alpn_protocols(protocols)
            options["ssl"] = server
        async with serving(scripted(b"HTTP/1.1 400 Bad\r\n\r\n"), **options) as port:
            where = endpoint(port, UpstreamTls(verify=False))
            async with pooled(port, endpoint=where) as pool:
                exchange = get()
                exchange.start(pool)
                assert await exchange.wait() is Kind.CONNECT_FAILED
                assert detail in exchange.detail

    run(test(), loop_name)


def test_verification_can_be_switched_off(backend_identity: Identity) -> None:
    context = make_client_context(UpstreamTls(verify=False))
    assert context.verify_mode is ssl.CERT_NONE
    context = make_client_context(UpstreamTls(ca=backend_identity.cert))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 1
