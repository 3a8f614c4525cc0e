import itertools
import os
import time
from dataclasses import replace

import pytest

from spooky.config.limits import Limits
from spooky.protocol.headers import (
    accept_of,
    check_request,
    forward_interim,
    forward_request,
    forward_response,
    forward_trailers,
    host_of,
    request_id,
    request_ids,
)
from spooky.protocol.messages import Headers, Path, RequestHead, ResponseHead

CLIENT = Path(("192.0.2.43", 47011))
GET = RequestHead(4, b"GET", b"https", b"a.test", b"/x?y", [], end=True)
OURS: Headers = [
    (b"x-forwarded-for", b"192.0.2.43"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"a.test"),
    (b"forwarded", b"for=192.0.2.43;host=a.test;proto=https"),
    (b"via", b"3 spooky"),
    (b"x-request-id", b"id-1"),
]


def forwarded(*fields: tuple[bytes, bytes], client: Path = CLIENT) -> Headers:
    """Forward a GET that has these fields; return the fields that the backend gets."""
    head = replace(GET, headers=list(fields))
    assert check_request(head, Limits()) is None
    return forward_request(head, client, b"id-1").headers


def test_a_plain_request() -> None:
    head = replace(GET, headers=[(b"accept", b"*/*"), (b"user-agent", b"x")])
    assert forward_request(head, CLIENT, b"id-1") == replace(head, headers=[*head.headers, *OURS])


def test_what_the_client_sent_is_not_changed_in_place() -> None:
    fields: Headers = [(b"via", b"1.1 x"), (b"a", b"b")]
    head = replace(GET, headers=fields)
    forward_request(head, CLIENT, b"id-1")
    assert fields == [(b"via", b"1.1 x"), (b"a", b"b")]


@pytest.mark.parametrize(
    "field",
    [
        (b"cookie", b"a=b"),
        (b"te", b"trailers"),
        (b"trailer", b"x-sum"),
        (b"expect", b"100-continue"),
        (b"priority", b"u=1"),
        (b"early-data", b"1"),
        (b"alt-svc", b"clear"),
        (b"alt-used", b"a.test"),
        (b"authorization", b"Basic eA=="),
        (b"content-length", b"0"),
        (b"upgrade-insecure-requests", b"1"),
        (b"x-anything", b""),
    ],
)
def test_fields_that_pass_untouched(field: tuple[bytes, bytes]) -> None:
    assert forwarded(field) == [field, *OURS]


def test_cookie_crumbs_stay_apart_and_in_order() -> None:
    crumbs = [(b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d")]
    assert forwarded(*crumbs) == [*crumbs, *OURS]


def test_host_gives_way_to_authority() -> None:
    assert forwarded((b"host", b"A.test:443")) == OURS
    head = replace(GET, authority=b"", headers=[(b"host", b"b.test:8443")])
    result = forward_request(head, CLIENT, b"id-1")
    assert result.authority == b"b.test:8443"
    fields = dict(result.headers)
    assert b"host" not in fields
    assert fields[b"x-forwarded-host"] == b"b.test:8443"
    assert fields[b"forwarded"] == b'for=192.0.2.43;host="b.test:8443";proto=https'


def test_claims_of_the_client_are_replaced() -> None:
    assert (
        forwarded(
            (b"x-forwarded-proto", b"http"),
            (b"x-forwarded-host", b"evil.test"),
            (b"x-request-id", b"other"),
            (b"x-forwarded-host", b"more.test"),
        )
        == OURS
    )


@pytest.mark.parametrize(
    "name", [b"x_forwarded_for", b"x-forwarded_for", b"x_forwarded-for", b"content_length"]
)
def test_what_applications_take_for_ours_is_left_out(name: bytes) -> None:
    """CGI and all that came of it make one name of these (RFC 3875 section 4.1.18)."""
    assert forwarded((name, b"192.0.2.1"), (b"x_own", b"a")) == [(b"x_own", b"a"), *OURS]
    assert forward_trailers([(name, b"192.0.2.1"), (b"x_own", b"a")]) == [(b"x_own", b"a")]


def test_lists_are_continued_as_one_field() -> None:
    fields = dict(
        forwarded(
            (b"x-forwarded-for", b"198.51.100.1"),
            (b"x-forwarded-for", b""),
            (b"x-forwarded-for", b"198.51.100.2, 198.51.100.3"),
            (b"forwarded", b"for=198.51.100.1"),
            (b"via", b"1.1 a, 2 b"),
        )
    )
    assert fields[b"x-forwarded-for"] == b"198.51.100.1, 198.51.100.2, 198.51.100.3, 192.0.2.43"
    assert fields[b"forwarded"] == b"for=198.51.100.1, for=192.0.2.43;host=a.test;proto=https"
    assert fields[b"via"] == b"1.1 a, 2 b, 3 spooky"
    assert len(fields) == len(OURS)


@pytest.mark.parametrize(
    "value",
    [
        b"for=192.0.2.43, for=198.51.100.17;by=203.0.113.60;proto=http;host=example.com",
        b'For="[2001:db8:cafe::17]:4711"',
        b"for=_gazonk;",
        b'for="a\\"b, c;d=\\\\"',
        b'secret="";;a=b ,\t, c=d',
        b"x='a'",
        b'for="\xe4"',
    ],
)
def test_a_well_formed_forwarded_is_continued(value: bytes) -> None:
    ours = dict(OURS)[b"forwarded"]
    assert dict(forwarded((b"forwarded", value)))[b"forwarded"] == value + b", " + ours


@pytest.mark.parametrize(
    "values",
    [
        [b'for=1.2.3.4;x="'],
        [b'for=1.2.3.4;x="\\"'],
        [b'for="a"b"'],
        [b'for="a" "b'],
        [b"for"],
        [b"for="],
        [b"=x"],
        [b"for=a b"],
        [b"for=[::1]"],
        [b"for=a; proto=http"],
        [b"for=192.0.2.1", b'x="'],
    ],
)
def test_a_malformed_forwarded_cannot_swallow_ours(values: list[bytes]) -> None:
    assert forwarded(*((b"forwarded", value) for value in values)) == OURS


@pytest.mark.parametrize(
    "value",
    [
        b"," * 60_000,
        b"," + b" " * 60_000,
        b"a=b;" * 15_000,
        b'a="' + b"\\a" * 30_000,
        b"a" * 60_000,
    ],
)
def test_a_malformed_forwarded_costs_one_pass(value: bytes) -> None:
    head = replace(GET, headers=[(b"forwarded", value + b"\x01")])
    started = time.process_time()
    assert forward_request(head, CLIENT, b"id-1").headers == OURS
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("peer", "address", "node"),
    [
        ("192.0.2.43", b"192.0.2.43", b"192.0.2.43"),
        ("2001:db8::43", b"2001:db8::43", b'"[2001:db8::43]"'),
        ("::ffff:192.0.2.43", b"192.0.2.43", b"192.0.2.43"),
        ("fe80::1%eth0", b"fe80::1", b'"[fe80::1]"'),
    ],
)
def test_how_clients_are_written(peer: str, address: bytes, node: bytes) -> None:
    fields = dict(forwarded(client=Path((peer, 1, 0, 0))))
    assert fields[b"x-forwarded-for"] == address
    assert fields[b"forwarded"] == b"for=" + node + b";host=a.test;proto=https"


def test_a_repeated_content_length_is_one() -> None:
    length = (b"content-length", b"5")
    head = replace(GET, method=b"POST", headers=[length, length], end=False)
    assert check_request(head, Limits()) is None
    assert forward_request(head, CLIENT, b"id-1").headers == [length, *OURS]


def test_hop_by_hop_fields_go_even_where_they_were_not_refused() -> None:
    head = replace(GET, headers=[(b"connection", b"x"), (b"upgrade", b"h2c"), (b"a", b"b")])
    assert forward_request(head, CLIENT, b"id-1").headers == [(b"a", b"b"), *OURS]


@pytest.mark.parametrize(
    ("value", "kept"),
    [(b"abc-123", True), (b"x" * 128, True), (b"x" * 129, False), (b"", False), (b"a b", False)],
)
def test_request_id_of_the_client(value: bytes, kept: bool) -> None:
    head = replace(GET, headers=[(b"x-request-id", value)])
    assert request_id(head) == (value if kept else None)
    assert request_id(GET) is None


def test_request_ids_are_hexadecimal_and_never_repeat_a_block() -> None:
    blocks: list[bytes] = []

    def random(count: int) -> bytes:
        blocks.append(bytes([len(blocks)]) * count)
        return blocks[-1]

    ids = list(itertools.islice(request_ids(random), 200))
    assert ids[0] == b"00" * 16
    assert ids[-1] == bytes([len(blocks) - 1]).hex().encode() * 16
    assert 1 < len(blocks) < 200


def test_request_ids_differ() -> None:
    ids = list(itertools.islice(request_ids(os.urandom), 1000))
    assert len(set(ids)) == 1000
    assert {len(identifier) for identifier in ids} == {32}


@pytest.mark.parametrize(
    ("authority", "host", "expected"),
    [
        (b"A.test:8443", None, "a.test"),
        (b"", b"B.test.", "b.test"),
        (b"[2001:DB8::1]:1", None, "[2001:db8::1]"),
    ],
)
def test_host_of(authority: bytes, host: bytes | None, expected: str) -> None:
    fields = [] if host is None else [(b"host", host)]
    assert host_of(replace(GET, authority=authority, headers=fields)) == expected


def test_accept_of() -> None:
    assert accept_of(GET) is None
    fields = [(b"accept", b"a/b"), (b"x", b"y"), (b"accept", b"c/d")]
    assert accept_of(replace(GET, headers=fields)) == b"a/b, c/d"


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ([], [(b"via", b"2 spooky"), (b"x-request-id", b"id-1")]),
        (
            [(b"content-length", b"5"), (b"alt-svc", b"h3=:1"), (b"set-cookie", b"a=b")],
            [
                (b"content-length", b"5"),
                (b"alt-svc", b"h3=:1"),
                (b"set-cookie", b"a=b"),
                (b"via", b"2 spooky"),
                (b"x-request-id", b"id-1"),
            ],
        ),
        (
            [(b"via", b"1.1 x"), (b"via", b"1.0 y"), (b"x-request-id", b"theirs")],
            [(b"x-request-id", b"theirs"), (b"via", b"1.1 x, 1.0 y, 2 spooky")],
        ),
        (
            [(b"connection", b"close"), (b"keep-alive", b"5"), (b"transfer-encoding", b"chunked")],
            [(b"via", b"2 spooky"), (b"x-request-id", b"id-1")],
        ),
    ],
)
def test_responses(received: Headers, expected: Headers) -> None:
    before = received.copy()
    assert forward_response(ResponseHead(4, 200, received, end=False), b"id-1") == expected
    assert received == before


def test_interim_responses() -> None:
    link = (b"link", b"</style.css>; rel=preload")
    assert forward_interim([link, (b"connection", b"close")]) == [link]


def test_trailers() -> None:
    fields: Headers = [
        (b"grpc-status", b"0"),
        (b":path", b"/admin"),
        (b"content-length", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"host", b"evil.test"),
        (b"authorization", b"x"),
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-request-id", b"x"),
        (b"cookie", b"a=b"),
        (b"te", b"trailers"),
        (b"server-timing", b"x"),
    ]
    assert forward_trailers(fields) == [(b"grpc-status", b"0"), (b"server-timing", b"x")]
