"""Methods, statuses, trailers, interim responses and content of all sizes, by every client.

Three client stacks, three servers of other people behind Spooky: nghttpd, Caddy and Hypercorn.
"""

import asyncio
import json
import uuid

import pytest
from curl_cffi import requests
from curl_cffi.const import CurlHttpVersion

from tests.e2e.backends import SIZES
from tests.e2e.clients import CLIENTS, TIMEOUT_S, Fetch, curl_options
from tests.e2e.content import KIB, content, digest
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.spooky_process import SpookyProcess

pytestmark = pytest.mark.e2e

BACKENDS = ("nghttpd", "caddy", "asgi")
UPLOADS = {"nghttpd": "/nghttpd/up", "caddy": "/caddy/app/echo", "asgi": "/asgi/echo"}
DOWNLOADS = {"nghttpd": "/nghttpd/{file}", "caddy": "/caddy/{file}", "asgi": "/asgi/bytes?n={n}"}
ONE_LARGE = {("curl", "nghttpd"), ("curl", "asgi"), ("qh3", "caddy"), ("aioquic", "asgi")}
"""Each client and each backend once or more with 16 MiB, not each with each: those take seconds."""


def _cases() -> list[tuple[str, str, str]]:
    return [
        (client, backend, size)
        for client in CLIENTS
        for backend in BACKENDS
        for size in SIZES
        if size != "16m" or (client, backend) in ONE_LARGE
    ]


@pytest.fixture(params=CLIENTS)
def fetch(request: pytest.FixtureRequest) -> Fetch:
    return CLIENTS[request.param]


@pytest.mark.parametrize(("client", "backend", "size"), _cases())
def test_download(front: SpookyProcess, client: str, backend: str, size: str) -> None:
    path = DOWNLOADS[backend].format(file=size, n=SIZES[size])
    answer = CLIENTS[client](front.target, "GET", path, b"")
    assert (answer.status, answer.length) == (200, SIZES[size])
    assert answer.sha256 == digest(SIZES[size])


@pytest.mark.parametrize(("client", "backend", "size"), _cases())
def test_upload_comes_back(front: SpookyProcess, client: str, backend: str, size: str) -> None:
    method = "PUT" if size == "64k" else "POST"
    path = UPLOADS[backend]
    if client == "qh3" and path.endswith("/echo"):
        # niquests gives up when the response begins before the request has ended.
        path += "-later"
    answer = CLIENTS[client](front.target, method, path, content(SIZES[size]))
    assert (answer.status, answer.length) == (200, SIZES[size])
    assert answer.sha256 == digest(SIZES[size])


@pytest.mark.parametrize("backend", ["caddy/app", "asgi"])
def test_upload_is_counted_by_the_backend(front: SpookyProcess, fetch: Fetch, backend: str) -> None:
    answer = fetch(front.target, "POST", f"/{backend}/sha256", content(300 * KIB))
    assert json.loads(answer.text) == {"sha256": digest(300 * KIB), "length": 300 * KIB}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_method_reaches_the_backend(front: SpookyProcess, fetch: Fetch, method: str) -> None:
    answer = fetch(front.target, method, "/asgi/headers?a=1&b=%20", b"")
    assert answer.status == 200
    if method == "HEAD":
        assert answer.length == 0
        assert int(answer.headers["content-length"]) > 0
    else:
        told = json.loads(answer.text)
        assert (told["method"], told["path"], told["query"]) == (
            method,
            "/asgi/headers",
            "a=1&b=%20",
        )


@pytest.mark.parametrize("path", ["/nghttpd/64k", "/caddy/64k", "/asgi/bytes?n=65536"])
def test_head_has_the_length_but_no_content(front: SpookyProcess, fetch: Fetch, path: str) -> None:
    answer = fetch(front.target, "HEAD", path, b"")
    assert (answer.status, answer.length) == (200, 0)
    assert answer.headers["content-length"] == "65536"


@pytest.mark.parametrize("code", [200, 201, 204, 205, 206, 301, 304, 400, 404, 418, 500, 503, 599])
def test_status_and_fields_come_through(front: SpookyProcess, fetch: Fetch, code: int) -> None:
    # A redirect without a Location is one that no client can follow.
    answer = fetch(front.target, "GET", f"/asgi/status?code={code}", b"")
    assert (answer.status, answer.length) == (code, 0)
    assert answer.headers["x-answer"] == "yes"


def test_not_modified(front: SpookyProcess) -> None:
    async def scenario() -> tuple[Exchange, Exchange]:
        async with connect(front.port) as client:
            first = await client.get("/caddy/64k")
            etag = first.header(b"etag")
            assert etag
            return first, await client.get("/caddy/64k", [(b"if-none-match", etag)])

    first, second = asyncio.run(scenario())
    assert (first.status, first.received) == (200, 64 * KIB)
    assert (second.status, second.received, second.ended) == (304, 0, True)


def test_range(front: SpookyProcess) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            return await client.get("/caddy/64k", [(b"range", b"bytes=100-299")])

    exchange = asyncio.run(scenario())
    assert exchange.status == 206
    assert bytes(exchange.kept) == content(64 * KIB)[100:300]


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/nghttpd/one", "x-checked", "nghttpd"),
        ("/nghttpd/64k", "x-checked", "nghttpd"),
        ("/asgi/trailers?n=70000", "x-sha256", digest(70000)),
        ("/caddy/app/trailers?n=70000", "x-sha256", digest(70000)),
        ("/scripted/report", "x-checked", "scripted"),
    ],
)
def test_trailers_of_the_response(front: SpookyProcess, path: str, name: str, value: str) -> None:
    answer = CLIENTS["aioquic"](front.target, "GET", path, b"")
    assert answer.status == 200
    assert answer.trailers == {name: value}


def test_trailers_of_the_response_reach_another_stack(front: SpookyProcess) -> None:
    answer = CLIENTS["qh3"](front.target, "GET", "/nghttpd/64k", b"")
    assert answer.trailers == {"x-checked": "nghttpd"}


def test_trailers_of_the_request(front: SpookyProcess) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            exchange = client.open("POST", "/scripted/report", end=False)
            client.send(exchange, content(100_000))
            client.send_trailers(exchange, [(b"x-sum", b"17"), (b"x-more", b"yes")])
            return await client.over(exchange)

    told = json.loads(asyncio.run(scenario()).kept)
    assert (told["length"], told["sha256"]) == (100_000, digest(100_000))
    assert told["trailers"] == [["x-sum", "17"], ["x-more", "yes"]]


def test_interim_responses(front: SpookyProcess) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            fields = [(b"expect", b"100-continue")]
            exchange = client.open("POST", "/scripted/interim", fields, end=False)
            await client.until(lambda: len(exchange.interim) == 2, "100 and 103")
            client.send(exchange, content(1000), end=True)
            return await client.over(exchange)

    exchange = asyncio.run(scenario())
    assert [dict(fields)[b":status"] for fields in exchange.interim] == [b"100", b"103"]
    assert dict(exchange.interim[1])[b"link"] == b"</a.css>; rel=preload"
    assert exchange.status == 200
    assert json.loads(exchange.kept)["length"] == 1000


@pytest.mark.parametrize("path", ["/asgi/hints", "/caddy/app/hints"])
def test_early_hints(front: SpookyProcess, path: str) -> None:
    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            return await client.get(path)

    exchange = asyncio.run(scenario())
    assert [dict(fields)[b":status"] for fields in exchange.interim] == [b"103"]
    assert dict(exchange.interim[0])[b"link"] == b"</style.css>; rel=preload; as=style"
    assert (exchange.status, bytes(exchange.kept)) == (200, b'{"hinted": true}')


@pytest.mark.parametrize("client", ["curl", "qh3"])
def test_clients_of_other_stacks_bear_early_hints(front: SpookyProcess, client: str) -> None:
    answer = CLIENTS[client](front.target, "GET", "/asgi/hints", b"")
    assert (answer.status, answer.text) == (200, '{"hinted": true}')


def test_answer_before_the_content(front: SpookyProcess) -> None:
    """RFC 9114 section 4.1: a whole response, then STOP_SENDING with H3_NO_ERROR."""

    async def scenario() -> Exchange:
        async with connect(front.port) as client:
            exchange = client.open("POST", "/scripted/early", end=False)
            client.send(exchange, content(1000))
            await client.over(exchange)
            await client.until(lambda: exchange.stopped is not None, "STOP_SENDING")
            return exchange

    exchange = asyncio.run(scenario())
    assert (exchange.status, bytes(exchange.kept), exchange.ended) == (403, b"not wanted", True)
    assert exchange.stopped == 0x100


@pytest.mark.parametrize("backend", BACKENDS)
def test_100_requests_at_once_on_one_connection_by_aioquic(
    front: SpookyProcess, backend: str
) -> None:
    path = DOWNLOADS[backend].format(file="64k", n=64 * KIB)

    async def scenario() -> list[Exchange]:
        async with connect(front.port) as client:
            exchanges = [client.open("GET", path) for _ in range(100)]
            for exchange in exchanges:
                await client.over(exchange, TIMEOUT_S)
            return exchanges

    exchanges = asyncio.run(scenario())
    assert {(e.status, e.hasher.hexdigest()) for e in exchanges} == {(200, digest(64 * KIB))}


@pytest.mark.parametrize("path", ["/asgi/sha256", "/caddy/app/sha256"])
def test_100_uploads_at_once_on_one_connection_by_curl(front: SpookyProcess, path: str) -> None:
    async def scenario() -> list[requests.Response]:
        async with requests.AsyncSession[requests.Response](
            http_version=CurlHttpVersion.V3ONLY,
            verify=False,
            curl_options=curl_options(front.port),
            max_clients=100,
            timeout=TIMEOUT_S,
        ) as session:
            url = f"https://localhost:{front.port}{path}"
            sends = [
                session.post(f"{url}?i={uuid.uuid4()}", data=content(n * 1000))
                for n in range(1, 101)
            ]
            return list(await asyncio.gather(*sends))

    for n, response in enumerate(asyncio.run(scenario()), 1):
        assert json.loads(response.text) == {"sha256": digest(n * 1000), "length": n * 1000}
