"""Routes that ask for more than host and path, and what they do, as clients and backends see it."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from curl_cffi import requests
from curl_cffi.const import CurlHttpVersion

from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity
from tests.e2e.clients import CLIENTS, TIMEOUT_S, curl_options
from tests.e2e.h3_client import connect
from tests.e2e.processes import free_port, wait_until
from tests.e2e.scripted_seen import seen
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

Answer = requests.Response
CLIENTS_OF_SPLIT = 120


def says(name: str, **asks: Any) -> dict[str, Any]:
    """A route that tells its own name."""
    return {**asks, "respond": {"body": name}}


CONDITIONS = [
    says("any", path_prefix="/if"),
    says("post", path_prefix="/if", methods=["POST", "PUT"]),
    says("debug", path_prefix="/if", headers={"X-Debug": {"present": True}}),
    says("post debug", path_prefix="/if", methods=["POST"], headers={"x-debug": "1"}),
    says("mobile", path_prefix="/if", headers={"user-agent": {"regex": "(?i).*mobile.*+"}}),
    says("beta", path_prefix="/if", cookies={"beta": "yes"}),
    says("v2", path_prefix="/if", query={"v": {"prefix": "2."}}),
    says("urgent", path_prefix="/if", query={"urgent": {"present": True}}, priority=10),
    says("deep", path_prefix="/if/deep", headers={"x-debug": {"present": False}}),
    says("no robot", path_prefix="/not", headers={"x-robot": {"exact": "yes", "invert": True}}),
]

SECURE = {
    "remove": ["x-request-id"],
    "set": {"strict-transport-security": "max-age=9", "cache-control": "max-age=9"},
    "add": {"access-control-allow-origin": "*", "content-type": "a/b"},
}


def _settings(asgi: Backend, scripted: Backend, deaf: int, folder: Path) -> dict[str, Any]:
    """Put the routes together; `deaf` is a port where connections get no answer."""
    (folder / "page.html").write_text("<p>ok\n")
    main = upstream(asgi.address)
    main["route"] = [
        {"path_prefix": "/asgi"},
        {"path_prefix": "/old", "rewrite": {"prefix": "/asgi/new", "host": "inner.test:81"}},
        {"path_prefix": "/u", "rewrite": {"regex": "/u/([^/]+)/(.*)", "to": r"/asgi/\1/\2"}},
        {
            "path_prefix": "/rules",
            "request_headers": {
                "remove": ["x-secret"],
                "set": {"via": "me", "x-who": "${client_ip} ${host}${path} ${upstream}"},
                "add": {"accept": "c/d"},
            },
            "response_headers": {
                "remove": ["via"],
                "set": {"server": "front", "x-request-id": "<${request_id}>"},
                "add": {"set-cookie": "c=3"},
            },
        },
        {"path_prefix": "/mirrored", "mirror": {"upstream": "scripted"}},
        {"path_prefix": "/unmirrored", "mirror": {"upstream": "scripted", "percent": 0}},
        {"path_prefix": "/deaf", "mirror": {"upstream": "deaf"}},
        {"path_prefix": "/closed", "mirror": {"upstream": "closed"}},
    ]
    closed = upstream(f"127.0.0.1:{free_port()}", path="/down")
    closed["route"] = [{"path_prefix": "/down", "response_headers": SECURE}]
    split = {"upstreams": {"main": 70, "scripted": 30}, "key": "header:x-user"}
    rules: list[dict[str, Any]] = [
        *CONDITIONS,
        {"path_prefix": "/split", "split": split, "rewrite": {"prefix": "/any"}},
        {"path_prefix": "/gone", "redirect": {"status": 308, "host": "a.test", "prefix": "/n"}},
        {"path_prefix": "/plain", "redirect": {"scheme": "http", "path": "/p"}},
        {"path_prefix": "/page", "respond": {"file": "page.html", "content_type": "text/html"}},
        {
            "path_prefix": "/none",
            "respond": {"status": 204},
            "response_headers": {"add": {"x-path": "${path}"}},
        },
    ]
    return {
        "upstream": {
            "main": main,
            "scripted": upstream(scripted.address, path="/scripted"),
            "deaf": {"backends": [{"address": f"127.0.0.1:{deaf}"}]},
            "closed": closed,
        },
        "routes": rules,
        "limits": {"retry_body_bytes": "64KiB"},
    }


@pytest.fixture(scope="module")
def routed(
    identity: Identity,
    asgi: Backend,
    scripted: Backend,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SpookyProcess]:
    folder = tmp_path_factory.mktemp("routed")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = _settings(asgi, scripted, silent.getsockname()[1], folder)
        with running_spooky(settings, identity, folder) as running:
            yield running


class Curl:
    """libcurl on one connection, which follows no redirect."""

    def __init__(self, front: SpookyProcess) -> None:
        self._base = f"https://localhost:{front.port}"
        self._session: requests.Session[Answer] = requests.Session(
            http_version=CurlHttpVersion.V3ONLY,
            verify=cast("bool", str(front.target.cert)),
            curl_options=curl_options(front.port),
            timeout=TIMEOUT_S,
            allow_redirects=False,
        )

    def ask(
        self,
        path: str,
        fields: Mapping[str, str] | None = None,
        method: Any = "GET",
        body: bytes = b"",
    ) -> Answer:
        answer = self._session.request(
            method, f"{self._base}{path}", headers=fields, data=body or None
        )
        assert answer.http_version == 30
        return answer

    def close(self) -> None:
        self._session.close()


@pytest.fixture(scope="module")
def client(routed: SpookyProcess) -> Iterator[Curl]:
    curl = Curl(routed)
    yield curl
    curl.close()


def _fields(answer: Answer) -> dict[str, list[str]]:
    """What reached the application of Hypercorn, by name."""
    found: dict[str, list[str]] = {}
    for name, value in json.loads(answer.text)["headers"]:
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    ("method", "path", "fields", "expected"),
    [
        ("GET", "/if", {}, "any"),
        ("POST", "/if", {}, "post"),
        ("PUT", "/if/x", {}, "post"),
        ("DELETE", "/if", {}, "any"),
        ("GET", "/if", {"x-debug": "0"}, "debug"),
        ("POST", "/if", {"x-debug": "1"}, "post debug"),
        ("PUT", "/if", {"x-debug": "1"}, "post"),
        ("GET", "/if", {"user-agent": "A Mobile thing"}, "mobile"),
        ("GET", "/if", {"cookie": "a=b; beta=yes"}, "beta"),
        ("GET", "/if", {"cookie": "a=b; beta=yes2"}, "any"),
        ("GET", "/if?v=2.7", {}, "v2"),
        ("GET", "/if?v=%32.7", {}, "v2"),
        ("GET", "/if?v=27", {}, "any"),
        ("POST", "/if?urgent", {"x-debug": "1"}, "urgent"),
        ("GET", "/if/deep", {}, "deep"),
        # Where the route with the longest prefix does not fit, the next prefix is tried.
        ("GET", "/if/deep", {"x-debug": "1"}, "debug"),
        ("GET", "/not", {}, "no robot"),
        ("GET", "/not", {"x-robot": "no"}, "no robot"),
    ],
)
def test_the_route_that_fits(
    client: Curl, method: str, path: str, fields: dict[str, str], expected: str
) -> None:
    answer = client.ask(path, fields, method)
    assert (answer.status_code, answer.text) == (200, expected)


def test_no_route_fits(client: Curl) -> None:
    assert client.ask("/not", {"x-robot": "yes"}).status_code == 404


@pytest.mark.parametrize("name", ["curl", "qh3"])
def test_a_fixed_answer_to_other_clients(routed: SpookyProcess, name: str) -> None:
    answer = CLIENTS[name](routed.target, "POST", "/if", b"x" * 70_000)
    assert (answer.status, answer.text) == (200, "post")


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/gone/x?y=1&z", 308, "https://a.test/n/x?y=1&z"),
        ("/gone", 308, "https://a.test/n"),
        ("/plain/x?q", 302, "http://localhost/p?q"),
    ],
)
def test_redirects(client: Curl, path: str, status: int, location: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        answer = client.ask(path, method=method, body=b"content" if method == "POST" else b"")
        assert (answer.status_code, answer.headers["location"]) == (status, location)
        assert answer.content == b""
        assert answer.headers["x-request-id"]


def test_fixed_answers(client: Curl, routed: SpookyProcess) -> None:
    answer = client.ask("/page")
    assert (answer.status_code, answer.text) == (200, "<p>ok\n")
    assert answer.headers["content-type"] == "text/html"
    head = client.ask("/page", method="HEAD")
    assert (head.headers["content-length"], head.content) == ("6", b"")
    # What was read with the configuration is what is answered.
    (routed.folder / "page.html").write_text("other")
    assert client.ask("/page").text == "<p>ok\n"
    none = client.ask("/none/x?y")
    assert (none.status_code, none.headers["x-path"]) == (204, "/none/x")
    assert "content-length" not in none.headers


def test_rewritten_paths_and_hosts(client: Curl, routed: SpookyProcess) -> None:
    answer = client.ask("/old/%61/headers?q=1")
    told, fields = json.loads(answer.text), _fields(answer)
    assert (told["path"], told["query"]) == ("/asgi/new/a/headers", "q=1")
    assert fields["host"] == ["inner.test:81"]
    assert fields["x-forwarded-host"] == [f"localhost:{routed.port}"]
    assert json.loads(client.ask("/u/me/headers").text)["path"] == "/asgi/me/headers"
    assert json.loads(client.ask("/asgi/headers").text)["path"] == "/asgi/headers"


def test_header_rules(client: Curl) -> None:
    sent = {"x-secret": "s", "accept": "a/b", "x-who": "forged", "x-request-id": "abc"}
    answer = client.ask("/rules/headers", sent)
    fields = _fields(answer)
    assert "x-secret" not in fields
    assert fields["via"] == ["me"]
    assert fields["x-who"] == ["127.0.0.1 localhost/rules/headers main"]
    assert fields["accept"] == ["a/b", "c/d"]
    assert "via" not in answer.headers
    assert answer.headers["server"] == "front"
    assert answer.headers["x-request-id"] == "<abc>"
    assert client.ask("/rules/alt-svc").headers.get_list("set-cookie") == ["a=1", "b=2", "c=3"]


def test_header_rules_of_the_route_of_a_failure(client: Curl) -> None:
    answer = client.ask("/down")
    assert (answer.status_code, answer.headers["content-type"]) == (
        502,
        "text/plain; charset=utf-8",
    )
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["strict-transport-security"] == "max-age=9"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "x-request-id" not in answer.headers


def test_a_split_is_sticky_and_shares_by_weight(client: Curl) -> None:
    def side(user: int) -> int:
        # Hypercorn's application has no such action, the scripted server has.
        return client.ask("/split/report", {"x-user": f"user-{user}"}).status_code

    sides = [side(user) for user in range(CLIENTS_OF_SPLIT)]
    assert set(sides) == {404, 200}
    # Four standard deviations around 30 %.
    assert abs(sides.count(200) - 0.3 * CLIENTS_OF_SPLIT) < 4 * (0.21 * CLIENTS_OF_SPLIT) ** 0.5
    assert [side(user) for user in range(20)] == sides[:20]
    unknown = {client.ask("/split/report").status_code for _ in range(10)}
    assert len(unknown) == 1


def _mirrored(routed: SpookyProcess, path: str, token: str, body: bytes) -> dict[str, Any]:
    """Send content; return what the scripted server then knows of the request."""

    async def scenario() -> dict[str, Any]:
        async with connect(routed.port) as client:
            fields = [(b"x-request-id", token.encode())]
            exchange = client.open("POST", f"{path}/sha256?mark={token}", fields, end=not body)
            if body:
                await client.upload(exchange, [body[:1000], body[1000:]], TIMEOUT_S)
            await client.over(exchange, TIMEOUT_S)
            assert exchange.status == 200
            assert json.loads(exchange.kept)["length"] == len(body)
            # A request that is copied for sure, after it: what is to come has come by then.
            await client.get(f"/mirrored/headers?mark=after-{token}")
            while True:
                after = await seen(client, f"after-{token}")
                if after["state"] == "ended":
                    return await seen(client, token)
                await asyncio.sleep(0.01)

    return asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_S))


@pytest.mark.parametrize("length", [0, 1, 60_000])
def test_copies_of_requests(routed: SpookyProcess, length: int) -> None:
    token = f"copy-{length}"
    body = bytes(length)
    told = _mirrored(routed, "/mirrored", token, body)
    assert (told["state"], told["received"]) == ("ended", length)
    fields = told["fields"]
    assert fields[":method"] == "POST"
    assert fields[":path"] == f"/mirrored/sha256?mark={token}"
    assert fields[":authority"] == f"localhost:{routed.port}"
    assert fields["x-request-id"] == f"{token}-shadow"
    assert fields["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(("path", "length"), [("/mirrored", 65_537), ("/unmirrored", 10)])
def test_what_is_not_copied(routed: SpookyProcess, path: str, length: int) -> None:
    told = _mirrored(routed, path, f"none{path}", bytes(length))
    assert told == {"state": "unknown"}


@pytest.mark.parametrize("shadow", ["closed", "deaf"])
def test_a_shadow_that_does_not_answer_is_not_felt(routed: SpookyProcess, shadow: str) -> None:
    """With more requests than there may be copies."""

    async def scenario() -> list[int]:
        async with connect(routed.port) as client:
            return [(await client.get(f"/{shadow}/headers")).status for _ in range(150)]

    begun = time.monotonic()
    assert set(asyncio.run(scenario())) == {200}
    # The connection that the copies wait for is given up after 5 s.
    assert time.monotonic() - begun < 4


def test_what_the_access_log_says(routed: SpookyProcess, client: Curl) -> None:
    client.ask("/gone", {"x-request-id": "logged-gone"})
    client.ask("/split/report", {"x-request-id": "logged-split"})

    def found() -> dict[str, dict[str, Any]]:
        lines = map(json.loads, routed.access_log.read_text().splitlines())
        return {line["request_id"]: line for line in lines}

    wait_until(lambda: "logged-split" in found(), TIMEOUT_S, "the lines")
    gone, split = found()["logged-gone"], found()["logged-split"]
    assert (gone["status"], gone["upstream"], gone["error"]) == (308, None, None)
    assert split["upstream"] in {"main", "scripted"}
    assert not any(key.endswith("-shadow") for key in found())
