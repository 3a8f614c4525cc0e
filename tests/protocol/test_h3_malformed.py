"""Requests that break a rule: which are answered, and which end the connection, and how."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.messages import Body, Closed, Malformed, RequestHead, Reset
from tests.protocol.quic_pair import connect, open_requests, request_fields
from tests.protocol.raw_client import (
    HEADER_BYTES,
    RawClient,
    Session,
    data,
    headers,
    literal_headers,
    request,
)

UNKNOWN = varint.frame(0x21, b"grease")
LENGTH_5 = (b"content-length", b"5")


# --- malformed requests: the stream is answered, the connection lives ------------------------

FIELDS = request_fields(method=b"POST")
MALFORMED: dict[str, bytes] = {
    "more than content-length": request(LENGTH_5) + data(b"hello!"),
    "more in two frames": request(LENGTH_5) + data(b"hello") + data(b"!"),
    "less than content-length": request(LENGTH_5) + data(b"hell"),
    "nothing of content-length": request(LENGTH_5),
    "less before trailers": request(LENGTH_5) + data(b"hell") + headers((b"x", b"y")),
    "nothing before trailers": request(LENGTH_5) + headers((b"x", b"y")),
    "more than nothing": request((b"content-length", b"0")) + data(b"!"),
    "no method": headers(*FIELDS[1:]),
    "unknown pseudo-header": headers((b":status", b"200"), *FIELDS),
    "repeated pseudo-header": headers(FIELDS[0], *FIELDS),
    "late pseudo-header": headers(FIELDS[0], (b"x", b"y"), *FIELDS[1:]),
    "empty pseudo-header": headers(
        *FIELDS[:2], (b":authority", b""), FIELDS[3], (b"host", b"localhost")
    ),
    "no fields at all": literal_headers(),
    "pseudo-header in trailers": request() + data(b"a") + headers((b":path", b"/")),
}


@pytest.mark.parametrize("name", MALFORMED)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=6), fin_apart=st.booleans())
def test_malformed_however_it_is_cut(name: str, cuts: list[int], fin_apart: bool) -> None:
    session = Session()
    session.receive_in_pieces(MALFORMED[name], cuts, fin_apart=fin_apart)
    found = [event for event in session.told if isinstance(event, Malformed)]
    assert [(event.stream, event.status) for event in found] == [(0, 400)]
    assert session.told[-1] is found[0]
    assert not any(getattr(event, "end", False) for event in session.told)
    session.answer()
    assert session.ledger.ended == {0}
    assert session.ledger.credited[0] == len(MALFORMED[name])
    assert len(session.h3._requests) == 0


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("fin_apart", [False, True])
def test_a_malformed_request_is_answered_and_the_next_one_served(
    name: str, fin_apart: bool
) -> None:
    pair = connect(header_bytes=HEADER_BYTES)
    client = RawClient(pair)
    client.send(0, MALFORMED[name], end=not fin_apart)
    if fin_apart:
        pair.advance(0.1)
        if 0 not in client.stopped:
            client.send(0, b"", end=True)
    pair.run(lambda: pair.told_of(Malformed))
    for event in pair.told_of(Body):
        pair.engine.consume(0, event.credit)
    pair.engine.send_head(0, 400, [], end=True)
    pair.run(lambda: 0 in client.ended)
    if 0 in client.stopped:
        assert client.stopped[0] == H3Code.NO_ERROR
        pair.client.reset_stream(0, H3Code.REQUEST_CANCELLED)
    assert client.sections(0) == [[(b":status", b"400")]]
    client.send(4, request(), end=True)
    pair.run(lambda: any(head.stream == 4 for head in pair.told_of(RequestHead)))
    pair.engine.send_head(4, 200, [], end=True)
    pair.run(lambda: open_requests(pair) == 0)


def test_the_rest_of_a_malformed_request_is_not_wanted() -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(0, request(LENGTH_5) + data(b"hello!"))
    pair.run(lambda: 0 in client.stopped)
    assert client.stopped == {0: H3Code.NO_ERROR}
    assert client.resets == {}, "the stream is still to be answered"


TOO_LARGE = {
    "one long field": request((b"x-long", b"A" * HEADER_BYTES)),
    "large only once decoded": request((b"cookie", b"a" * (HEADER_BYTES - 100))),
    "many short fields": request(*[(b"accept", b"*/*")] * 120),
    "trailers": request() + headers((b"x-long", b"A" * HEADER_BYTES)),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_header_section_over_the_limit_is_told_with_431(name: str) -> None:
    pair = connect(header_bytes=HEADER_BYTES)
    client = RawClient(pair)
    client.send(0, TOO_LARGE[name], end=True)
    pair.run(lambda: pair.told_of(Malformed))
    assert [event.status for event in pair.told_of(Malformed)] == [431]
    pair.engine.send_head(0, 431, [], end=False)
    pair.engine.send_body(0, b"too large", end=True)
    pair.run(lambda: 0 in client.ended)
    assert client.frames(0)[-1] == (varint.FRAME_DATA, b"too large")
    pair.run(lambda: open_requests(pair) == 0)


def test_a_header_section_at_the_limit_is_taken() -> None:
    size = sum(len(name) + len(value) + 32 for name, value in FIELDS) + len(b"x-long") + 32
    for excess in (0, 1):
        session = Session()
        session.receive(request((b"x-long", b"\x00" * (HEADER_BYTES - size + excess))), end=True)
        kind = Malformed if excess else RequestHead
        assert isinstance(session.told[0], kind)


# --- what breaks the connection --------------------------------------------------------------

OUT_OF_PLACE = [
    *varint.HTTP2_ONLY_FRAMES,
    varint.FRAME_CANCEL_PUSH,
    varint.FRAME_SETTINGS,
    varint.FRAME_PUSH_PROMISE,
    varint.FRAME_GOAWAY,
    varint.FRAME_MAX_PUSH_ID,
]
BROKEN: dict[str, tuple[bytes, bool, int]] = {
    "DATA first": (data(b"x"), False, H3Code.FRAME_UNEXPECTED),
    "DATA after trailers": (
        request() + headers((b"x", b"y")) + data(b"x"),
        False,
        H3Code.FRAME_UNEXPECTED,
    ),
    "HEADERS after trailers": (
        request() + headers((b"x", b"y")) + headers((b"x", b"y")),
        False,
        H3Code.FRAME_UNEXPECTED,
    ),
    "cut in a frame's type": (request() + b"\x40", True, H3Code.FRAME_ERROR),
    "cut in a frame's length": (request() + b"\x00\x40", True, H3Code.FRAME_ERROR),
    "cut in HEADERS": (request()[:-1], True, H3Code.FRAME_ERROR),
    "cut in DATA": (request() + data(b"four")[:-1], True, H3Code.FRAME_ERROR),
    "cut in an unknown frame": (request() + UNKNOWN[:4], True, H3Code.FRAME_ERROR),
    "cut in trailers": (
        request() + data(b"x") + headers((b"x", b"y"))[:-1],
        True,
        H3Code.FRAME_ERROR,
    ),
    "HEADERS that are no field section": (
        varint.frame(varint.FRAME_HEADERS, b"\xff\xff\xff"),
        False,
        0x200,
    ),
    "empty HEADERS": (varint.frame(varint.FRAME_HEADERS, b""), False, 0x200),
} | {
    f"frame type {kind:#x}": (
        request() + varint.frame(kind, b"\x00"),
        False,
        H3Code.FRAME_UNEXPECTED,
    )
    for kind in OUT_OF_PLACE
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_closes_the_connection_with_its_code(name: str) -> None:
    octets, end, code = BROKEN[name]
    pair = connect(header_bytes=HEADER_BYTES)
    client = RawClient(pair)
    client.send(0, octets, end=end)
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == code


def test_nothing_of_a_broken_connection_is_told_after_its_end() -> None:
    pair = connect(header_bytes=HEADER_BYTES)
    client = RawClient(pair)
    client.send(0, data(b"x"))
    client.send(4, request(), end=True)
    client.send(8, request(), end=True)
    pair.run(lambda: pair.closed_with() is not None)
    assert isinstance(pair.told[-1], Closed)
    assert pair.told_of(RequestHead) == []


def test_a_request_that_ends_before_its_head_is_reset() -> None:
    pair = connect(header_bytes=HEADER_BYTES)
    client = RawClient(pair)
    client.send(0, UNKNOWN, end=True)
    client.send(4, b"", end=True)
    pair.run(lambda: len(client.resets) == 2)
    assert client.resets == {0: H3Code.REQUEST_INCOMPLETE, 4: H3Code.REQUEST_INCOMPLETE}
    assert pair.told_of(RequestHead, Malformed, Reset) == []
    pair.run(lambda: open_requests(pair) == 0)
