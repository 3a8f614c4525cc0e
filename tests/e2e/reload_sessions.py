"""Sessions of three client stacks that keep one connection each, as long as it lasts.

A session answers a GET, whichever connection it takes, and enters in the tally what connections
it opened and how they ended. The aioquic session keeps to RFC 9114 section 5.2 by itself: after a
GOAWAY the next request goes to a new connection, and what the server did not process is repeated
there, once. The other two stacks do what they do, and what they report is counted.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

import niquests
from curl_cffi import CurlInfo, requests
from curl_cffi.const import CurlHttpVersion
from curl_cffi.requests.exceptions import RequestException

from tests.e2e.clients import Target, curl_options
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.reload_tally import Tally

NO_ERROR, REJECTED = 0x100, 0x10B
HANDSHAKE_CODES = {7, 35, 96}
"""libcurl: could not connect, TLS failed, QUIC handshake failed."""
GOODBYE_S = 10.0


class FailedRequestError(Exception):
    """A request that the client did not get a whole answer to; says why."""


class LostHandshakeError(FailedRequestError):
    """No connection came about."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response."""

    status: int
    length: int
    sha256: str


class Session(Protocol):
    """One user of a client stack."""

    async def get(self, path: str, seconds: float) -> Reply:
        """Ask and wait for the whole response; FailedRequestError."""

    async def close(self) -> None:
        """Let the connection go."""


OpenSession: TypeAlias = Callable[[Target, Tally], Session]


class AioquicSession:
    """aioquic, with the manners of RFC 9114 section 5.2."""

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = tally
        self._client: H3Client | None = None
        self._stack = AsyncExitStack()
        self._left: list[asyncio.Task[None]] = []

    async def get(self, path: str, seconds: float) -> Reply:
        """Ask, a second time if the first was not processed."""
        exchange, client = await self._ask(path, seconds)
        if _is_unprocessed(exchange, client):
            self._tally.repeated += 1
            exchange, client = await self._ask(path, seconds)
        if not exchange.ended:
            raise FailedRequestError(_reason(exchange, client))
        return Reply(exchange.status, exchange.received, exchange.hasher.hexdigest())

    async def _ask(self, path: str, seconds: float) -> tuple[Exchange, H3Client]:
        client = self._client
        if client is None or client.goaways or client.terminated:
            client = await self._connect()
        exchange = client.open("GET", path)
        try:
            await client.over(exchange, seconds)
        except AssertionError:
            raise FailedRequestError(f"nothing within {seconds:g} s") from None
        return exchange, client

    async def _connect(self) -> H3Client:
        stack = AsyncExitStack()
        try:
            client = await stack.enter_async_context(connect(self._target.port))
        except (ConnectionError, TimeoutError, OSError) as error:
            raise LostHandshakeError(f"{type(error).__name__}: {error}") from None
        self._tally.connections += 1
        self._client, self._stack = client, stack
        self._left.append(asyncio.create_task(self._watch(client, stack)))
        return client

    async def _watch(self, client: H3Client, stack: AsyncExitStack) -> None:
        """Note how a connection ends, unless we end it."""
        await client.until(lambda: client.terminated is not None, "the end", 1e6)
        end = client.terminated
        assert end is not None
        if end.error_code == NO_ERROR and client.goaways:
            self._tally.goodbyes += 1
        else:
            said = "after GOAWAY" if client.goaways else "without GOAWAY"
            self._tally.cuts[f"closed {end.error_code:#x} {end.reason_phrase!r} {said}"] += 1
        await stack.aclose()

    async def close(self) -> None:
        """Close the present connection; those with a GOAWAY are the server's to close."""
        if self._client is not None and not self._client.goaways:
            self._left.pop().cancel()
            await self._stack.aclose()
        if self._left:
            _, open_still = await asyncio.wait(self._left, timeout=GOODBYE_S)
            for task in open_still:
                task.cancel()
                self._tally.cuts[f"still open {GOODBYE_S:g} s after GOAWAY"] += 1


def _is_unprocessed(exchange: Exchange, client: H3Client) -> bool:
    if exchange.ended:
        return False
    if exchange.reset == REJECTED:
        return True
    return client.goaway_id is not None and exchange.stream >= client.goaway_id


def _reason(exchange: Exchange, client: H3Client) -> str:
    if exchange.reset is not None:
        return f"reset {exchange.reset:#x}"
    end = client.terminated
    assert end is not None
    said = f"GOAWAY {client.goaway_id}" if client.goaways else "no GOAWAY"
    return f"connection closed {end.error_code:#x} {end.reason_phrase!r}, {said}"


class CurlSession:
    """libcurl, which keeps a connection as long as it thinks that it lives."""

    def __init__(self, target: Target, tally: Tally) -> None:
        self._tally = tally
        self._url = f"https://localhost:{target.port}"
        self._session: Any = requests.AsyncSession(
            http_version=CurlHttpVersion.V3ONLY,
            verify=cast("bool", str(target.cert)),
            curl_options=curl_options(target.port),
            curl_infos=[CurlInfo.NUM_CONNECTS],
        )

    async def get(self, path: str, seconds: float) -> Reply:
        """Ask."""
        try:
            response = await self._session.get(self._url + path, timeout=seconds)
        except RequestException as error:
            reason = f"curl {int(error.code)}: {str(error).partition(' See http')[0]}"
            if int(error.code) in HANDSHAKE_CODES:
                raise LostHandshakeError(reason) from None
            raise FailedRequestError(reason) from None
        assert response.http_version == 30
        self._tally.connections += response.infos[CurlInfo.NUM_CONNECTS]
        body = response.content
        return Reply(response.status_code, len(body), hashlib.sha256(body).hexdigest())

    async def close(self) -> None:
        """Close."""
        await self._session.close()


class Qh3Session:
    """niquests on qh3."""

    def __init__(self, target: Target, tally: Tally) -> None:
        self._tally = tally
        self._url = f"https://localhost:{target.port}"
        self._session: Any = niquests.AsyncSession(disable_http1=True, disable_http2=True)
        self._session.trust_env = False
        self._session.verify = str(target.cert)
        cache = niquests.structures.AsyncQuicSharedCache(max_size=None)
        cache.add_domain("localhost", target.port)
        self._session.quic_cache_layer = cache

    async def get(self, path: str, seconds: float) -> Reply:
        """Ask."""
        try:
            response = await self._session.get(self._url + path, timeout=seconds)
        except (niquests.exceptions.RequestException, OSError) as error:
            reason = _brief(error)
            # Of a request that was broken off, niquests says by which code.
            if isinstance(error, niquests.exceptions.ConnectionError) and "Stream" not in reason:
                raise LostHandshakeError(reason) from None
            raise FailedRequestError(reason) from None
        assert response.http_version == 30
        # Nothing was established for a request on a connection that was there.
        self._tally.connections += bool(response.conn_info.established_latency)
        body = response.content
        return Reply(response.status_code, len(body), hashlib.sha256(body).hexdigest())

    async def close(self) -> None:
        """Close."""
        await self._session.close()


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


STACKS: dict[str, OpenSession] = {
    "aioquic": AioquicSession,
    "curl": CurlSession,
    "qh3": Qh3Session,
}
