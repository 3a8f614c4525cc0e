"""Probes of other kinds through the whole program: gRPC, over TLS as well, and TLS handshakes."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.e2e.certificates import Identity, make_identity
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import connect
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import Settings, SpookyProcess, upstream
from tests.keeper.well_or_not import SERVING_STATUS, serving

pytestmark = pytest.mark.e2e

PACE = {"interval": "200ms", "timeout": "200ms", "cooldown": "200ms", "max_cooldown": "200ms"}
SEEN_S = 8.0
SERVICE = "shop.Cart"
SERVING, NOT_SERVING = 1, 2


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("trusted"), "localhost")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("strange"), "localhost")


async def goes_and_comes_back(
    running: SpookyProcess, feels: Callable[[bool], None], why: str
) -> None:
    """Have the only backend be not well, then well again; requests follow."""

    async def answered(status: int, words: str, times: int) -> None:
        seen = f" is {words}"
        await asyncio.to_thread(
            wait_until, lambda: running.log().count(seen) == times, SEEN_S, words
        )
        async with connect(running.port) as client:
            assert (await client.get("/text")).status == status

    await answered(200, "healthy: ", 1)
    feels(False)
    await answered(503, f"unhealthy: {why}", 1)
    feels(True)
    await answered(200, "healthy: ", 2)


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_grpc_server_that_does_not_serve_gets_no_requests(
    spooky: Spooky, trusted: Identity, is_tls: bool
) -> None:
    def feels(well: bool) -> None:
        SERVING_STATUS[SERVICE] = SERVING if well else NOT_SERVING

    async def scenario() -> None:
        async with serving(trusted if is_tls else None) as port:
            check = {"type": "grpc", "service": SERVICE, **PACE}
            web = upstream(f"http{'s' * is_tls}://127.0.0.1:{port}", health_check=check)
            tls = {"tls": {"ca": str(trusted.cert)}} if is_tls else {}
            running = await asyncio.to_thread(spooky, settings(web | tls))
            await goes_and_comes_back(running, feels, "it says NOT_SERVING")

    feels(True)
    asyncio.run(scenario())
    del SERVING_STATUS[SERVICE]


def settings(web: Settings) -> Settings:
    """Complete them: there is but one backend, which is not to be asked when it is not well."""
    return {"upstream": {"web": {"panic_threshold": 0, **web}}}


@asynccontextmanager
async def door(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Shake hands, and no more; gives the port."""

    async def enter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(enter, "127.0.0.1", 0, ssl=context)
    yield int(server.sockets[0].getsockname()[1])
    server.close()


def test_a_backend_with_a_certificate_that_nobody_trusts_gets_no_requests(
    spooky: Spooky, trusted: Identity, strange: Identity
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def feels(well: bool) -> None:
        one = trusted if well else strange
        context.load_cert_chain(one.cert, one.key)

    async def scenario() -> None:
        async with serving(trusted) as port, door(context) as probed:
            check = {"type": "tls", "port": probed, **PACE}
            web = upstream(f"https://127.0.0.1:{port}", health_check=check)
            web["tls"] = {"ca": str(trusted.cert)}
            running = await asyncio.to_thread(spooky, settings(web))
            await goes_and_comes_back(running, feels, "its certificate is not accepted")

    feels(True)
    asyncio.run(scenario())
