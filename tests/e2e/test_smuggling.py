"""RFC 9114 section 4 line by line, in the real program: what of a request a backend gets to see.

Octets of HTTP/3 made by hand on the one side, a backend that keeps a record on the other.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from spooky.errors import H3Code
from spooky.protocol import varint
from tests.e2e.certificates import Identity
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.recorder import Fields, Recorder, Seen, recording
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream
from tests.protocol.raw_client import data
from tests.protocol.raw_client import literal_headers as headers

pytestmark = pytest.mark.e2e

METHOD, SCHEME, PATH = (b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/a")
AUTHORITY = (b":authority", b"a.test")
CONTROL = [METHOD, SCHEME, AUTHORITY, PATH]
MARKER = (b"x-marker", b"1")
GREASE = varint.frame(0x21, b"grease")


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording() as running:
        yield running


@pytest.fixture(scope="module")
def running(
    recorder: Recorder, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, SpookyProcess]]:
    """A Spooky with each engine towards backends."""
    with ExitStack() as stack:
        yield {
            engine: stack.enter_context(
                running_spooky(
                    {
                        "engine": {"upstream": engine},
                        "upstream": {"web": upstream(recorder.address)},
                    },
                    identity,
                    tmp_path_factory.mktemp(f"spied-{engine}"),
                )
            )
            for engine in ("lean", "h2")
        }


@pytest.fixture
def spied(running: dict[str, SpookyProcess]) -> SpookyProcess:
    """Where no engine will be asked to send anything."""
    return running["lean"]


@pytest.fixture(params=["lean", "h2"])
def either(running: dict[str, SpookyProcess], request: pytest.FixtureRequest) -> SpookyProcess:
    return running[request.param]


def _tell(spied: SpookyProcess, recorder: Recorder, *octets: bytes) -> tuple[Exchange, list[Seen]]:
    """Send the parts of a request, each in datagrams of its own; return what the backend saw."""

    async def scenario() -> Exchange:
        async with connect(spied.port) as client, connect(spied.port) as bystander:
            exchange = client.open_octets(octets[0], end=len(octets) == 1)
            for number, part in enumerate(octets[1:], 2):
                await _seen_or_over(recorder, client, exchange)
                if exchange.is_over:
                    break
                client.send_octets(exchange, part, end=number == len(octets))
            await client.over(exchange)
            # The backend's connection is one, and in order: what is before this has arrived.
            assert (await bystander.get("/", [MARKER])).status == 200
            return exchange

    recorder.seen.clear()
    exchange = asyncio.run(scenario())
    return exchange, [seen for seen in recorder.seen if MARKER not in seen.fields]


async def _seen_or_over(recorder: Recorder, client: H3Client, exchange: Exchange) -> None:
    async with asyncio.timeout(5):
        while not (recorder.seen or exchange.is_over or client.terminated):
            client.poke()
            await asyncio.sleep(0.01)


def _with(*fields: tuple[bytes, bytes]) -> Fields:
    return [*CONTROL, *fields]


def _but(name: bytes, *others: bytes) -> Fields:
    """List the control data with other values of one pseudo-header field, in its place."""
    fields: Fields = []
    for field in CONTROL:
        fields += [(name, value) for value in others] if field[0] == name else [field]
    return fields


# --- malformed: the backend sees nothing -----------------------------------------------------

MALFORMED: dict[str, Fields] = {
    # Section 4.2: names.
    "upper case": _with((b"X-A", b"b")),
    "upper case in a pseudo-header": [(b":Method", b"GET"), *CONTROL],
    "colon alone": [(b":", b"b"), *CONTROL],
    "colon in a name": _with((b"x:a", b"b")),
    "space in a name": _with((b"x a", b"b")),
    "space after a name": _with((b"content-length ", b"5")),
    "tab in a name": _with((b"x\ta", b"b")),
    "CR LF in a name": _with((b"x: y\r\nhost", b"b")),
    "NUL in a name": _with((b"x\0", b"b")),
    "DEL in a name": _with((b"x\x7f", b"b")),
    "obs-text in a name": _with((b"caf\xe9", b"b")),
    "UTF-8 in a name": _with((b"caf\xc3\xa9", b"b")),
    "brackets in a name": _with((b"x[a]", b"b")),
    # ... and values (section 10.3).
    "CR LF in a value": _with((b"x", b"a\r\nhost: b.test")),
    "CR in a value": _with((b"x", b"a\rb")),
    "LF in a value": _with((b"x", b"a\nb")),
    "NUL in a value": _with((b"x", b"a\0b")),
    "DEL in a value": _with((b"x", b"a\x7fb")),
    "obs-fold": _with((b"x", b"a\r\n b")),
    "space before a value": _with((b"x", b" a")),
    "tab after a value": _with((b"x", b"a\t")),
    "space alone": _with((b"x", b" ")),
    # ... and what belongs to a connection.
    "connection": _with((b"connection", b"x-a")),
    "keep-alive": _with((b"keep-alive", b"timeout=5")),
    "proxy-connection": _with((b"proxy-connection", b"close")),
    "transfer-encoding": _with((b"transfer-encoding", b"chunked")),
    "transfer-encoding: identity": _with((b"transfer-encoding", b"identity")),
    "upgrade": _with((b"upgrade", b"websocket")),
    "te: gzip": _with((b"te", b"gzip")),
    "te as a list": _with((b"te", b"trailers, deflate")),
    "te twice": _with((b"te", b"trailers"), (b"te", b"gzip")),
    # Section 4.3: pseudo-header fields.
    "unknown pseudo-header": [*CONTROL, (b":x", b"b")],
    "pseudo-header of responses": [*CONTROL, (b":status", b"200")],
    "pseudo-header last": _with((b"x", b"b"), PATH),
    ":path after a field": [METHOD, SCHEME, AUTHORITY, (b"x", b"b"), PATH],
    ":method twice": _but(b":method", b"GET", b"POST"),
    ":scheme twice": _but(b":scheme", b"https", b"https"),
    ":authority twice": _but(b":authority", b"a.test", b"b.test"),
    ":path twice": _but(b":path", b"/a", b"/b"),
    ":path twice alike": _but(b":path", b"/a", b"/a"),
    "no :method": [SCHEME, AUTHORITY, PATH],
    "no :scheme": [METHOD, AUTHORITY, PATH],
    "no :path": [METHOD, SCHEME, AUTHORITY],
    "no fields": [],
    "empty :method": _but(b":method", b""),
    "empty :scheme": _but(b":scheme", b""),
    "empty :path": _but(b":path", b""),
    "empty :path of OPTIONS": [(b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"")],
    "space in :method": _but(b":method", b"GET /b HTTP/1.1"),
    "CR LF in :method": _but(b":method", b"GET / HTTP/1.1\r\nhost: b.test\r\n\r\n"),
    "colon in :method": _but(b":method", b"a:"),
    ":scheme http": _but(b":scheme", b"http"),
    ":scheme with more": _but(b":scheme", b"https://b.test/"),
    # ... :path,
    "* of POST": _but(b":path", b"*"),
    "** of OPTIONS": [(b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"**")],
    "absolute :path": _but(b":path", b"https://b.test/a"),
    "relative :path": _but(b":path", b"a"),
    "? alone": _but(b":path", b"?a"),
    "fragment": _but(b":path", b"/a#b"),
    "space in :path": _but(b":path", b"/a HTTP/1.1"),
    "space before :path": _but(b":path", b" /a"),
    "tab in :path": _but(b":path", b"/a\tb"),
    "CR LF in :path": _but(b":path", b"/a HTTP/1.1\r\nx: y"),
    "LF in the query": _but(b":path", b"/a?b\nc"),
    "NUL in :path": _but(b":path", b"/a\0"),
    "DEL in :path": _but(b":path", b"/a\x7f"),
    "UTF-8 in :path": _but(b":path", b"/\xc3\xa9"),
    "no UTF-8 in :path": _but(b":path", b"/\xff"),
    # ... and :authority with Host.
    "neither": [METHOD, SCHEME, PATH],
    "empty :authority": _but(b":authority", b""),
    "empty :authority, and host": [*_but(b":authority", b""), (b"host", b"a.test")],
    "empty host": [METHOD, SCHEME, PATH, (b"host", b"")],
    "host that differs": _with((b"host", b"b.test")),
    "port that differs": _with((b"host", b"a.test:8443")),
    "host that begins alike": _with((b"host", b"a.test.b.test")),
    "empty host, and :authority": _with((b"host", b"")),
    "host twice": [METHOD, SCHEME, PATH, (b"host", b"a.test"), (b"host", b"b.test")],
    "host twice alike": _with((b"host", b"a.test"), (b"host", b"a.test")),
    "host as a list": [METHOD, SCHEME, PATH, (b"host", b"a.test, b.test")],
    "userinfo": _but(b":authority", b"u:p@a.test"),
    "@ alone": _but(b":authority", b"@a.test"),
    "path in :authority": _but(b":authority", b"a.test/b"),
    "? in :authority": _but(b":authority", b"a.test?b"),
    "# in :authority": _but(b":authority", b"a.test#b"),
    "backslash in :authority": _but(b":authority", b"a.test\\b"),
    "percent in :authority": _but(b":authority", b"a%2etest"),
    "CR LF in :authority": _but(b":authority", b"a.test\r\nx: y"),
    "two ports": _but(b":authority", b"a.test:1:2"),
    "port out of range": _but(b":authority", b"a.test:65536"),
    "open bracket": _but(b":authority", b"[::1"),
    # Section 4.4.
    "CONNECT with :path": [(b":method", b"CONNECT"), AUTHORITY, PATH],
    "CONNECT with :scheme": [(b":method", b"CONNECT"), SCHEME, AUTHORITY],
    "CONNECT with all": [(b":method", b"CONNECT"), SCHEME, AUTHORITY, PATH],
    "CONNECT to nobody": [(b":method", b"CONNECT")],
    ":protocol without CONNECT": [*CONTROL, (b":protocol", b"websocket")],
    ":protocol of CONNECT alone": [
        (b":method", b"CONNECT"), AUTHORITY, (b":protocol", b"websocket"),
    ],
    # Section 4.1.2, RFC 9110 section 8.6.
    **{
        f"content-length {value!r}": _with((b"content-length", value))
        for value in (
            *(b"", b"+0", b"-0", b"-1", b"0x0", b"0,0", b"0, 0", b"0;", b"0.0", b"0e0", b"zero"),
            *(b"\xb2", b"1_0", b"0 0", b"9" * 20, b"9" * 3000, b"5", b"18446744073709551616"),
        )
    },
    "two lengths": _with((b"content-length", b"0"), (b"content-length", b"1")),
    "a length and its list": _with((b"content-length", b"0"), (b"content-length", b"0, 0")),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_of_a_malformed_head_nothing_is_seen(
    spied: SpookyProcess, recorder: Recorder, name: str
) -> None:
    exchange, seen = _tell(spied, recorder, headers(*MALFORMED[name]))
    assert seen == []
    assert (exchange.status, exchange.ended) == (400, True)


@pytest.mark.parametrize(
    "fields",
    [
        [(b":method", b"CONNECT"), (b":authority", b"a.test:22")],
        [(b":method", b"CONNECT"), SCHEME, AUTHORITY, PATH, (b":protocol", b"websocket")],
    ],
    ids=["plain", "extended"],
)
def test_of_connect_nothing_is_seen(
    spied: SpookyProcess, recorder: Recorder, fields: Fields
) -> None:
    exchange, seen = _tell(spied, recorder, headers(*fields), data(b"GET / HTTP/1.1\r\n\r\n"))
    assert seen == []
    assert (exchange.status, exchange.ended) == (501, True)


# pylsqpack takes an empty name for a broken field section.
OUT_OF_PLACE: dict[str, tuple[bytes, int]] = {
    "DATA first": (data(b"GET / HTTP/1.1\r\n\r\n"), H3Code.FRAME_UNEXPECTED),
    "SETTINGS": (varint.frame(4, b"") + headers(*CONTROL), H3Code.FRAME_UNEXPECTED),
    "PUSH_PROMISE": (varint.frame(5, b"\0") + headers(*CONTROL), H3Code.FRAME_UNEXPECTED),
    "PRIORITY of HTTP/2": (varint.frame(2, b"\0" * 5) + headers(*CONTROL), H3Code.FRAME_UNEXPECTED),
    "empty name": (headers(*CONTROL, (b"", b"b")), 0x200),
    "half a head": (headers(*CONTROL)[:-1], H3Code.FRAME_ERROR),
    "a head beyond its frame": (varint.frame(1, headers(*CONTROL)[2:-4]), 0x200),
}


@pytest.mark.parametrize("name", OUT_OF_PLACE)
def test_of_frames_out_of_place_nothing_is_seen(
    spied: SpookyProcess, recorder: Recorder, name: str
) -> None:
    octets, code = OUT_OF_PLACE[name]

    async def scenario() -> None:
        async with connect(spied.port) as client, connect(spied.port) as bystander:
            client.open_octets(octets, end=True)
            await client.until(lambda: client.terminated is not None, "the end of the connection")
            assert client.terminated is not None
            assert client.terminated.error_code == code
            assert (await bystander.get("/", [MARKER])).status == 200

    recorder.seen.clear()
    asyncio.run(scenario())
    assert all(MARKER in seen.fields for seen in recorder.seen)


# --- malformed further on: the backend sees no whole request ----------------------------------

FIVE = headers(*_with((b"content-length", b"5")))
LATE: dict[str, tuple[bytes, ...]] = {
    "more than the length": (FIVE, data(b"hello GET / HTTP/1.1")),
    "more in another frame": (FIVE + data(b"hello"), data(b"!")),
    "less": (FIVE, data(b"hell")),
    "less, and the end apart": (FIVE + data(b"hell"), b""),
    "less before trailers": (FIVE + data(b"hell"), headers((b"x", b"y"))),
    "more than nothing": (headers(*_with((b"content-length", b"0"))), data(b"!")),
    "repeated length": (headers(*_with(*[(b"content-length", b"5")] * 2)), data(b"hell")),
    **{
        f"trailers: {name}": (headers(*CONTROL), data(b"a") + headers(field))
        for name, field in {
            "pseudo-header": (b":path", b"/b"),
            "upper case": (b"X", b"b"),
            "CR LF": (b"x", b"a\r\nb: c"),
            "NUL in a name": (b"x\0", b"a"),
            "space before": (b"x", b" a"),
            "transfer-encoding": (b"transfer-encoding", b"chunked"),
            "connection": (b"connection", b"close"),
        }.items()
    },
}


@pytest.mark.parametrize("name", LATE)
def test_what_turns_out_malformed_is_never_whole(
    either: SpookyProcess, recorder: Recorder, name: str
) -> None:
    exchange, seen = _tell(either, recorder, *LATE[name])
    assert (exchange.status, exchange.ended) == (400, True)
    for request in seen:
        assert not request.ended
        assert request.reset is not None
        assert not request.trailers


# --- odd, and well formed: the backend sees what was meant ------------------------------------

CRUMBS = [(b"cookie", b"a=b"), (b"cookie", b"c=d; e=f")]
PASSED: dict[str, tuple[Fields, Fields]] = {
    # What is sent, and fields that the backend must find, each as often as it is named.
    "scheme in upper case": (_but(b":scheme", b"HTTPS"), [(b":scheme", b"http")]),
    "own method": (_but(b":method", b"x-Own!"), [(b":method", b"x-Own!")]),
    "OPTIONS *": (
        [(b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"*")], [(b":path", b"*")],
    ),
    "pseudo-headers in another order": ([PATH, AUTHORITY, METHOD, SCHEME], CONTROL[:1]),
    "host alone": ([METHOD, SCHEME, PATH, (b"host", b"b.test:1")], [(b":authority", b"b.test:1")]),
    "host alike": (_with((b"host", b"A.test:443")), [AUTHORITY]),
    "te: trailers": (_with((b"te", b"trailers")), [(b"te", b"trailers")]),
    "equal lengths": (_with(*[(b"content-length", b"0")] * 3), [(b"content-length", b"0")]),
    "cookie crumbs": (_with(*CRUMBS), CRUMBS),
    "empty value": (_with((b"x", b"")), [(b"x", b"")]),
    "tab and obs-text": (_with((b"x", b"a\t\xff\xc3\xa9")), [(b"x", b"a\t\xff\xc3\xa9")]),
    "all of a token": (_with((b"!#$%&'*+-.^_`|~09az", b"b")), [(b"!#$%&'*+-.^_`|~09az", b"b")]),
    "underscores": (_with((b"x_own_field", b"b")), [(b"x_own_field", b"b")]),
    "repeated fields": (_with((b"x", b"a"), (b"x", b"b")), [(b"x", b"a"), (b"x", b"b")]),
    "expect": (_with((b"expect", b"100-continue")), [(b"expect", b"100-continue")]),
    **{
        path.decode(): (_but(b":path", path), [(b":path", path)])
        for path in (b"/a%2fb%2F", b"/a/%2e%2e/b", b"/a/../b", b"/.", b"//b", b"/%00%0d%0a", b"/%",
                     b"/%ff", b"/\\..\\b", b"/a;b=c?d=/../e&f=[{}|]")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PASSED)
def test_what_is_odd_and_well_formed_is_seen_as_it_is(
    either: SpookyProcess, recorder: Recorder, name: str
) -> None:
    sent, expected = PASSED[name]
    exchange, seen = _tell(either, recorder, GREASE + headers(*sent) + GREASE)
    assert (exchange.status, exchange.ended) == (200, True)
    [request] = seen
    assert request.ended
    for field in {name for name, _ in expected}:
        assert request.values(field) == [value for name, value in expected if name == field]
    pseudo = [name for name, _ in request.fields if name.startswith(b":")]
    assert sorted(pseudo) == [b":authority", b":method", b":path", b":scheme"]
    assert request.fields[: len(pseudo)] == [
        field for field in request.fields if field[0] in pseudo
    ]
    assert request.values(b"host") == []


LOOKALIKES = [
    *(b"x_forwarded_for", b"x-forwarded_for", b"x_forwarded-host", b"x_forwarded_proto"),
    *(b"x_request_id", b"content_length", b"transfer_encoding", b"proxy_connection"),
]


@pytest.mark.parametrize("name", LOOKALIKES)
def test_what_cgi_takes_for_another_field_is_not_seen(
    either: SpookyProcess, recorder: Recorder, name: bytes
) -> None:
    field = (name, b"192.0.2.1")
    exchange, seen = _tell(
        either, recorder, headers(*_with(field)) + data(b"a") + headers(field, (b"x", b"y"))
    )
    assert exchange.status == 200
    assert (seen[0].values(name), seen[0].trailers) == ([], [(b"x", b"y")])
    assert seen[0].values(b"x-forwarded-for") == [b"127.0.0.1"]


NOT_TRAILERS = [
    *(b"content-length", b"host", b"te", b"cookie", b"authorization", b"x-forwarded-for", b"via"),
    *(b"expect", b"content-type", b"range", b"x-request-id"),
]


@pytest.mark.parametrize("kept", [[], [(b"x", b"y")]], ids=["all", "all but one"])
@pytest.mark.parametrize("names", [NOT_TRAILERS, []], ids=["some", "none"])
def test_trailers_that_are_none_are_left_out(
    either: SpookyProcess, recorder: Recorder, names: list[bytes], kept: Fields
) -> None:
    trailers = headers(*((name, b"1") for name in names), *kept)
    octets = headers(*CONTROL) + data(b"a") + trailers + GREASE
    exchange, [seen] = _tell(either, recorder, octets)
    assert exchange.status == 200
    assert (seen.content, seen.trailers, seen.ended) == (b"a", kept, True)


def test_content_that_looks_like_a_request_stays_content(
    either: SpookyProcess, recorder: Recorder
) -> None:
    content = b"0\r\n\r\nGET /b HTTP/1.1\r\nhost: b.test\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    octets = (
        GREASE
        + headers(*CONTROL)
        + b"".join(GREASE + data(content[at : at + 1]) + data(b"") for at in range(len(content)))
    )
    exchange, [seen] = _tell(either, recorder, octets)
    assert exchange.status == 200
    assert (seen.content, seen.ended) == (content, True)
