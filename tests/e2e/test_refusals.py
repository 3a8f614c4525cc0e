"""Requests that must not reach a backend, and what each is told."""

import asyncio
import json

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, Fields, connect
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

MESSAGE_ERROR = 0x10E


def _ask(port: int, fields: Fields, body: bytes = b"") -> Exchange:
    """Send exactly these fields, then a decent request, which must be served."""

    async def scenario() -> Exchange:
        async with connect(port) as client:
            exchange = client.open_raw(fields, end=not body)
            if body:
                client.send(exchange, body, end=True)
            await client.over(exchange)
            assert (await client.get("/asgi/headers")).status == 200
            return exchange

    return asyncio.run(scenario())


def _control(port: int, **other: bytes) -> dict[str, bytes]:
    authority = b"localhost:%d" % port
    fields = {"method": b"GET", "scheme": b"https", "authority": authority, "path": b"/asgi/echo"}
    return {**fields, **other}


def _fields(port: int, *more: tuple[bytes, bytes], **other: bytes) -> Fields:
    control = _control(port, **other).items()
    return [*((b":" + name.encode(), value) for name, value in control if value), *more]


def _is_refused(exchange: Exchange, status: int) -> bool:
    """Say whether it was answered with `status`, or its stream broken off as malformed."""
    answered = exchange.status == status and exchange.ended
    return answered or (not exchange.head and exchange.reset == MESSAGE_ERROR)


SMUGGLED: dict[str, tuple[bytes, bytes]] = {
    "newline in a value": (b"x-a", b"b\r\nhost: evil"),
    "bare newline in a value": (b"x-a", b"b\nc"),
    "nul in a value": (b"x-a", b"b\x00c"),
    "space before a value": (b"x-a", b" b"),
    "space after a value": (b"x-a", b"b "),
    "upper case in a name": (b"X-Upper", b"1"),
    "space in a name": (b"x a", b"1"),
    "colon in a name": (b"x:a", b"1"),
    "newline in a name": (b"x\na", b"1"),
    "unknown pseudo-header": (b":proxy", b"1"),
    "pseudo-header of responses": (b":status", b"200"),
    "second :path": (b":path", b"/other"),
    "second :method": (b":method", b"POST"),
    "connection": (b"connection", b"close"),
    "keep-alive": (b"keep-alive", b"timeout=5"),
    "proxy-connection": (b"proxy-connection", b"close"),
    "transfer-encoding": (b"transfer-encoding", b"chunked"),
    "upgrade": (b"upgrade", b"websocket"),
    "te other than trailers": (b"te", b"gzip"),
    "content-length that is no number": (b"content-length", b"1, 2"),
    "negative content-length": (b"content-length", b"-1"),
    "content-length with a sign": (b"content-length", b"+0"),
    "host that differs": (b"host", b"evil.example"),
}


@pytest.mark.parametrize("attack", SMUGGLED)
def test_smuggling_is_refused(front: SpookyProcess, attack: str) -> None:
    exchange = _ask(front.port, _fields(front.port, SMUGGLED[attack]))
    assert _is_refused(exchange, 400), exchange


CONTROL: dict[str, dict[str, bytes]] = {
    "no :method": {"method": b""},
    "no :scheme": {"scheme": b""},
    "no :path": {"path": b""},
    "no :authority and no host": {"authority": b""},
    "space in :method": {"method": b"GET /x HTTP/1.1"},
    "newline in :method": {"method": b"GET\r\nx: y"},
    "newline in :path": {"path": b"/a\r\nx: y"},
    "space in :path": {"path": b"/a HTTP/1.1"},
    "nul in :path": {"path": b"/a\x00"},
    ":path that is no path": {"path": b"asgi/echo"},
    "fragment in :path": {"path": b"/asgi/echo#x"},
    "userinfo in :authority": {"authority": b"user@localhost"},
    "space in :authority": {"authority": b"local host"},
    "path in :authority": {"authority": b"localhost/asgi"},
    "port out of range": {"authority": b"localhost:99999999"},
}


@pytest.mark.parametrize("attack", CONTROL)
def test_broken_control_data_is_refused(front: SpookyProcess, attack: str) -> None:
    exchange = _ask(front.port, _fields(front.port, **CONTROL[attack]))
    assert _is_refused(exchange, 400), exchange


def test_pseudo_header_after_a_field_is_refused(front: SpookyProcess) -> None:
    fields = _fields(front.port)
    exchange = _ask(front.port, [*fields[:3], (b"x-a", b"b"), fields[3]])
    assert _is_refused(exchange, 400)


@pytest.mark.parametrize(("announced", "sent"), [(5, 10), (10, 5), (0, 1)])
def test_content_length_that_lies_is_refused(
    front: SpookyProcess, announced: int, sent: int
) -> None:
    length = (b"content-length", b"%d" % announced)
    fields = _fields(front.port, length, method=b"POST", path=b"/asgi/sha256")
    exchange = _ask(front.port, fields, b"x" * sent)
    assert _is_refused(exchange, 400), exchange


def test_two_lengths_are_refused(front: SpookyProcess) -> None:
    lengths = [(b"content-length", b"1"), (b"content-length", b"2")]
    exchange = _ask(front.port, _fields(front.port, *lengths, method=b"POST"), b"xx")
    assert _is_refused(exchange, 400)


def test_pseudo_header_in_trailers_is_refused(front: SpookyProcess) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            exchange = client.open("POST", "/scripted/hang", end=False)
            client.send(exchange, b"content")
            client.send_trailers(exchange, [(b":path", b"/other")])
            await client.over(exchange)
            assert (await client.get("/asgi/headers")).status == 200
            return exchange

    assert _is_refused(asyncio.run(scenario()), 400)


def test_host_alone_serves_as_authority(front: SpookyProcess) -> None:
    host = (b"host", b"localhost:%d" % front.port)
    exchange = _ask(front.port, _fields(front.port, host, authority=b"", path=b"/asgi/headers"))
    assert exchange.status == 200


def test_equal_host_and_authority_pass(front: SpookyProcess) -> None:
    host = (b"host", b"localhost:%d" % front.port)
    exchange = _ask(front.port, _fields(front.port, host, path=b"/asgi/headers"))
    assert exchange.status == 200
    told = json.loads(exchange.kept)["headers"]
    assert [value for name, value in told if name == "host"] == [f"localhost:{front.port}"]


def test_connect_is_not_supported(front: SpookyProcess) -> None:
    fields = [(b":method", b"CONNECT"), (b":authority", b"localhost:22")]
    exchange = _ask(front.port, fields, b"SSH")
    assert exchange.status in {400, 404, 501}
    assert exchange.ended


@pytest.mark.parametrize("path", ["/", "/asgix", "/nghttp", "/no/such"])
def test_no_route(front: SpookyProcess, path: str) -> None:
    exchange = _ask(front.port, _fields(front.port, path=path.encode()))
    assert (exchange.status, exchange.ended) == (404, True)
    assert exchange.header(b"content-type")


@pytest.mark.parametrize(
    "fields",
    [[(b"x-big", b"x" * 40_000)], [(b"x-many", b"y")] * 200, [(b"cookie", b"a=b")] * 5000],
    ids=["one large field", "many fields", "very many fields"],
)
def test_header_section_too_large(front: SpookyProcess, fields: Fields) -> None:
    exchange = _ask(front.port, _fields(front.port, *fields))
    assert (exchange.status, exchange.ended) == (431, True)


@pytest.mark.parametrize("announced", [True, False])
def test_content_too_large(spooky: Spooky, asgi: Backend, announced: bool) -> None:
    one = {"one": upstream(asgi.address)}
    running = spooky({"upstream": one, "limits": {"request_body_bytes": "10KiB"}})
    length = [(b"content-length", b"10241")] if announced else []
    fields = _fields(running.port, *length, method=b"POST", path=b"/asgi/sha256")
    exchange = _ask(running.port, fields, b"x" * 10_241)
    assert (exchange.status, exchange.ended) == (413, True)
    exchange = _ask(running.port, _fields(running.port, method=b"POST"), b"x" * 10_240)
    assert (exchange.status, exchange.received) == (200, 10_240)


def test_error_tells_the_request_id(front: SpookyProcess) -> None:
    fields = _fields(front.port, (b"accept", b"application/json"), path=b"/no/route")
    exchange = _ask(front.port, fields)
    request_id = exchange.header(b"x-request-id")
    assert request_id
    assert request_id in exchange.kept
    json.loads(exchange.kept)
