"""Routes of the configuration, as what becomes of requests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from spooky.config.load import load_text
from spooky.policy.routing import RouteTable
from spooky.protocol.messages import Path as NetworkPath
from spooky.protocol.messages import RequestHead
from spooky.worker.call import Call, Gate, forward, own_answer, tell_failure
from spooky.worker.courses import Course, make_routes
from spooky.worker.upload import Upload
from spooky.worker.upstreams import NOBODY, UpstreamGroup, make_upstreams
from tests.config.broken import with_top
from tests.config.test_dump import RICH

ID = b"some-id"


class Connection:
    """A client's connection."""

    server_name = None

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.path = NetworkPath((address, 4711))
        self.name = b"c"


def _no_gates(group: UpstreamGroup, _: object) -> tuple[Gate, ...]:
    """Make the gates of a route with limits, here of none."""
    return group.gates


@contextmanager
def routes(text: str) -> Iterator[RouteTable[Course]]:
    """Make the routes of a configuration."""
    config = load_text(text, "/etc/spooky/config.yaml").config
    loop = asyncio.new_event_loop()
    upstreams = make_upstreams(config, {}, loop, lambda: 0.5)
    files = {one.respond.file for one in config.routes if one.respond and one.respond.file}
    contents = dict.fromkeys(files, b"content")
    yield make_routes(config, upstreams.all_groups(), contents, loop, _no_gates)
    loop.run_until_complete(upstreams.close())
    loop.close()


def begin(
    table: RouteTable[Course],
    path: str,
    *fields: tuple[bytes, bytes],
    client: str = "192.0.2.1",
    host: str = "any.test",
    method: bytes = b"GET",
) -> tuple[Call, Course]:
    """Begin a request."""
    authority = host.encode()
    head = RequestHead(0, method, b"https", authority, path.encode(), list(fields), end=True)
    course = table.find(host, head.path, head)
    assert course is not None
    upload = Upload(cast("Any", None), 0, 0, empty=True)
    return course.begin(head, host, Connection(client), ID, upload), course


def group_of(call: Call) -> str:
    return call.group.name


def test_a_plain_route_has_its_upstream_and_nothing_else() -> None:
    with routes(with_top("")) as table:
        call, course = begin(table, "/x")
        assert group_of(call) == "api"
        assert course == Course(course.group)
        assert (call.treatment, call.shadow) == (None, None)


def test_whatever_the_configuration_takes_can_be_made() -> None:
    with routes(RICH) as table:
        call, _ = begin(table, "/x", (b"x-a", b"1"), host="z")
        assert call.group.name in {"api", NOBODY}
        status, fields, content = own_answer(begin(table, "/f")[0], ID)
        assert (status, content) == (200, b"content")
        assert (b"content-type", b"a/b") in fields
        assert (b"x-request-id", ID) in fields


SPLIT = """
  one: {backends: [{address: "h:1"}]}
  two: {backends: [{address: "h:2"}]}
routes:
"""


def sides(key: str, requests: list[tuple[str, str, tuple[bytes, bytes]]]) -> list[str]:
    """Say where requests (client, path, field) get by a split with that key."""
    rule = f"  - {{path_prefix: /s, split: {{upstreams: {{one: 1, two: 1}}, key: '{key}'}}}}\n"
    with routes(with_top(SPLIT.removeprefix("\n") + rule)) as table:
        return [
            group_of(begin(table, path, field, client=client)[0])
            for client, path, field in requests
        ]


def users(key: str, name: int) -> tuple[str, str, tuple[bytes, bytes]]:
    """A request of a user; each comes from an address of its own and with a field of its own."""
    fields = {
        "header:x-user": (b"x-user", b"%d" % name),
        "cookie:user": (b"cookie", b"a=b; user=%d" % name),
    }
    path = f"/s?user={name}" if key == "query:user" else "/s"
    client = f"192.0.2.{name}" if key == "client_ip" else "192.0.2.1"
    return client, path, fields.get(key, (b"accept", b"*/*"))


@pytest.mark.parametrize("key", ["client_ip", "header:x-user", "cookie:user", "query:user"])
def test_the_key_of_a_split(key: str) -> None:
    many = [users(key, name) for name in range(40)]
    first = sides(key, many)
    assert set(first) == {"one", "two"}
    assert sides(key, many) == first
    # Without what the key names, it is the address.
    none = ("192.0.2.7", "/s", (b"accept", b"a/b"))
    assert sides(key, [none]) == sides("client_ip", [none])


def test_a_split_by_chance() -> None:
    assert set(sides("random", [users("random", 1)] * 60)) == {"one", "two"}


def test_what_a_backend_is_sent() -> None:
    rule = (
        "  - {path_prefix: /s, split: {upstreams: {one: 1, two: 0}},\n"
        "     rewrite: {prefix: /t, host: 'i:8'},\n"
        "     request_headers: {set: {x: '${upstream} ${host} ${request_id} ${path}'}}}\n"
    )
    with routes(with_top(SPLIT.removeprefix("\n") + rule)) as table:
        call, _ = begin(table, "/s/a?b", (b"x", b"forged"))
        head = forward(call, b"http", ID)
        assert (head.scheme, head.authority, head.path) == (b"http", b"i:8", b"/t/a?b")
        assert [value for name, value in head.headers if name == b"x"] == [
            b"one any.test some-id /s/a"
        ]
        assert (b"x-forwarded-host", b"any.test") in head.headers


@pytest.mark.parametrize(
    ("path", "limited"), [("/s", True), ("/s/a/b", True), ("/r", True), ("/t", False), ("/", False)]
)
def test_a_route_with_limits_has_gates_of_its_own(path: str, limited: bool) -> None:
    rules = (
        "  - {path_prefix: /s, split: {upstreams: {one: 0, two: 1}},\n"
        "     rate_limits: [{name: x, rate: 1/s}]}\n"
        "  - {path_prefix: /t, split: {upstreams: {one: 0, two: 1}}}\n"
        "  - {path_prefix: /r, respond: {body: ok}, rate_limits: [{name: y, rate: 1/s}]}\n"
    )
    with routes(with_top(SPLIT.removeprefix("\n") + rules)) as table:
        call, _ = begin(table, path)
        assert call is not None
        assert (call.own_gates is not None) is limited


def test_contents_are_looked_up_by_their_file() -> None:
    with routes(with_top("routes:\n  - {path_prefix: /f, respond: {file: page}}\n")) as table:
        status, fields, content = own_answer(begin(table, "/f", method=b"HEAD")[0], ID)
        assert (status, content) == (200, b"")
        assert (b"content-length", b"7") in fields


RULES = """routes:
  - path_prefix: /own
    respond: {body: ok}
    response_headers:
      remove: [x-request-id, expires]
      set: {strict-transport-security: max-age=1, cache-control: max-age=9, retry-after: "7"}
      add: {x-of: "${path} ${upstream}", content-type: a/b}
  - path_prefix: /kept
    respond: {body: ok}
    response_headers: {set: {cache-control: max-age=9}}
"""


def test_rules_leave_a_failure_what_says_what_its_content_is() -> None:
    own = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store"), (b"expires", b"0")]
    with routes(with_top(RULES)) as table:
        call, _ = begin(table, "/own/x")
        call.response_fields = [(b"retry-after", b"1"), (b"x-added", b"y")]
        told = tell_failure(call, [*own, (b"retry-after", b"2"), (b"x-request-id", ID)], ID)
        assert told == [
            *own,
            (b"x-added", b"y"),
            (b"strict-transport-security", b"max-age=1"),
            (b"retry-after", b"7"),
            (b"x-of", b"/own/x"),
        ]
        # Of an answer that is no failure they are the last word.
        _, fields, _ = own_answer(call, ID)
        assert (b"cache-control", b"max-age=9") in fields
        assert (b"x-added", b"y") in fields
        assert b"x-request-id" not in dict(fields)
        assert tell_failure(begin(table, "/kept")[0], own, ID) == own
