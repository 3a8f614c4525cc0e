"""Clients of three independent stacks behind one small interface.

curl_cffi is libcurl on ngtcp2 and nghttp3, niquests is qh3 (Rust), aioquic is in `h3_client`.
All verify the server's certificate except aioquic, and all speak HTTP/3 only: there is nothing
to fall back to.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import niquests
from curl_cffi import CurlOpt, requests
from curl_cffi.const import CurlHttpVersion

from tests.e2e.h3_client import Fields, connect

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """A Spooky to talk to: `localhost:port` at 127.0.0.1, with this certificate."""

    port: int
    cert: Path


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. Names of fields are in lower case."""

    status: int
    headers: dict[str, str]
    length: int
    sha256: str
    text: str
    """The content as text, where it is no longer than 64 KiB."""
    trailers: dict[str, str] | None = None
    """None: the client's interface does not tell."""


def _answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    trailers: dict[str, str] | None = None,
) -> Answer:
    return Answer(
        status=status,
        headers={name.lower(): value for name, value in headers.items()},
        length=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        text=body.decode(errors="replace") if len(body) <= 1 << 16 else "",
        trailers=trailers,
    )


def curl_options(port: int) -> dict[CurlOpt, Any]:
    """Options that lead the name localhost to IPv4 and nowhere else."""
    return {CurlOpt.RESOLVE: [f"localhost:{port}:127.0.0.1"]}


def curl(target: Target, method: str, path: str, body: bytes = b"") -> Answer:
    """Ask by libcurl."""
    with requests.Session(
        http_version=CurlHttpVersion.V3ONLY,
        verify=cast("bool", str(target.cert)),  # curl_cffi takes a path, whatever it declares
        curl_options=curl_options(target.port),
        timeout=TIMEOUT_S,
    ) as session:
        url = f"https://localhost:{target.port}{path}"
        response = session.request(method, url, data=body or None)
        assert response.http_version == 30
        headers = {name: value or "" for name, value in response.headers.items()}
        return _answer(response.status_code, headers, response.content)


def qh3(target: Target, method: str, path: str, body: bytes = b"") -> Answer:
    """Ask by niquests."""
    with niquests.Session(disable_http1=True, disable_http2=True) as session:
        # The environment may name a bundle of authorities, which would go before ours.
        session.trust_env = False
        session.verify = str(target.cert)
        session.quic_cache_layer = niquests.structures.QuicSharedCache(max_size=None)
        session.quic_cache_layer.add_domain("localhost", target.port)
        url = f"https://localhost:{target.port}{path}"
        response: Any = session.request(method, url, data=body or None, timeout=TIMEOUT_S)
        assert response.http_version == 30
        trailers = dict(response.raw.trailers or {})
        return _answer(response.status_code, response.headers, response.content, trailers)


def text(fields: Fields) -> dict[str, str]:
    """Make text of fields, pseudo-header fields left out."""
    return {n.decode(): v.decode("latin1") for n, v in fields if not n.startswith(b":")}


async def _aioquic(target: Target, method: str, path: str, body: bytes) -> Answer:
    async with connect(target.port) as client:
        exchange = client.open(method, path, [(b"te", b"trailers")], end=not body)
        if body:
            pieces = [body[start : start + (1 << 16)] for start in range(0, len(body), 1 << 16)]
            await client.upload(exchange, pieces, TIMEOUT_S)
        await client.over(exchange, TIMEOUT_S)
        assert exchange.ended, f"broken off: {exchange.reset=} {exchange.lost=}"
        return Answer(
            status=exchange.status,
            headers=text(exchange.head),
            length=exchange.received,
            sha256=exchange.hasher.hexdigest(),
            text=bytes(exchange.kept).decode(errors="replace"),
            trailers=text(exchange.trailers),
        )


def aioquic(target: Target, method: str, path: str, body: bytes = b"") -> Answer:
    """Ask by aioquic."""
    return asyncio.run(_aioquic(target, method, path, body))


Fetch: TypeAlias = Callable[[Target, str, str, bytes], Answer]

CLIENTS: dict[str, Fetch] = {"curl": curl, "qh3": qh3, "aioquic": aioquic}
