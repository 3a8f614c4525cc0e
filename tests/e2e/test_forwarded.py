"""Fields that Spooky adds, removes and leaves alone, as the backend and the client see them."""

import asyncio
import json
import re

import pytest

from tests.e2e.h3_client import Exchange, Fields, connect
from tests.e2e.spooky_process import SpookyProcess

pytestmark = pytest.mark.e2e


def _exchange(front: SpookyProcess, path: str, fields: Fields) -> Exchange:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            return await client.get(path, fields)

    exchange = asyncio.run(scenario())
    assert exchange.status == 200
    return exchange


def _seen(front: SpookyProcess, *fields: tuple[bytes, bytes]) -> dict[str, list[str]]:
    """Ask; return all values of each field that reached the backend."""
    exchange = _exchange(front, "/asgi/headers", list(fields))
    seen: dict[str, list[str]] = {}
    for name, value in json.loads(exchange.kept)["headers"]:
        seen.setdefault(name, []).append(value)
    return seen


def test_forwarded_fields(front: SpookyProcess) -> None:
    seen = _seen(front)
    authority = f"localhost:{front.port}"
    assert seen["host"] == [authority]
    assert seen["x-forwarded-for"] == ["127.0.0.1"]
    assert seen["x-forwarded-proto"] == ["https"]
    assert seen["x-forwarded-host"] == [authority]
    forwarded = seen["forwarded"][-1]
    assert re.search(r"\bfor=\"?127\.0\.0\.1", forwarded)
    assert "proto=https" in forwarded
    assert f'host="{authority}"' in forwarded
    assert re.fullmatch(r"3(\.0)? \S+", seen["via"][-1])


def test_request_id_is_made(front: SpookyProcess) -> None:
    first, second = _seen(front)["x-request-id"], _seen(front)["x-request-id"]
    assert len(first) == len(second) == 1
    assert re.fullmatch(r"[0-9a-zA-Z-]{16,64}", first[0])
    assert first != second


def test_request_id_is_kept(front: SpookyProcess) -> None:
    fields = [(b"x-request-id", b"abc-123")]
    exchange = _exchange(front, "/asgi/headers", fields)
    assert ["x-request-id", "abc-123"] in json.loads(exchange.kept)["headers"]
    assert exchange.header(b"x-request-id") == b"abc-123"


def test_hop_by_hop_fields_do_not_pass(front: SpookyProcess) -> None:
    seen = _seen(front, (b"te", b"trailers"), (b"accept", b"a/b"), (b"accept", b"c/d"))
    assert seen["te"] == ["trailers"]
    assert seen["accept"] == ["a/b", "c/d"]
    for name in ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"):
        assert name not in seen


def test_cookies_reach_the_backend(front: SpookyProcess) -> None:
    seen = _seen(front, (b"cookie", b"a=1"), (b"cookie", b"b=2"))
    assert "; ".join(seen["cookie"]) == "a=1; b=2"


def test_fields_of_the_response_are_left_alone(front: SpookyProcess) -> None:
    exchange = _exchange(front, "/asgi/alt-svc", [])
    assert exchange.header(b"alt-svc") == b'h3=":8443"; ma=60'
    cookies = [value for name, value in exchange.head if name == b"set-cookie"]
    assert cookies == [b"a=1", b"b=2"]
    via = [value for name, value in exchange.head if name == b"via"]
    assert b"1.1 inner" in via[0]
    assert exchange.header(b"server") == b"hypercorn-h2"


def test_no_alt_svc_of_our_own(front: SpookyProcess) -> None:
    assert _exchange(front, "/asgi/headers", []).header(b"alt-svc") is None
