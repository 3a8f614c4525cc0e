"""HTTP/3 request streams: what valid octets mean however they are cut, and what breaks a rule."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.aioquic_engine import AioquicEngine
from spooky.protocol.h3 import H3Session
from spooky.protocol.messages import (
    Body,
    DownstreamEvent,
    Malformed,
    RequestHead,
    Reset,
    Stopped,
    Trailers,
)
from spooky.protocol.quic import ServerSettings
from tests.protocol.quic_pair import H3Client, Pair, request_fields, server_settings
from tests.protocol.raw_client import Ledger, RawClient, data, headers, request

HEADER_BYTES = 4096
UNKNOWN = varint.frame(0x21, b"grease") + varint.frame(0x40, b"")
LONG_LENGTH = b"\x00\xc0\x00\x00\x00\x00\x00\x00\x03abc"
"""A DATA frame whose length takes eight octets where one would do."""
LENGTH_5 = (b"content-length", b"5")


def make(config: ServerSettings, original_destination_cid: bytes) -> AioquicEngine:
    return AioquicEngine(config, config.configuration(), original_destination_cid)


def connect(**changes: Any) -> Pair:
    return Pair(make, server_settings(header_bytes=HEADER_BYTES, **changes)).connect()


def open_requests(pair: Pair) -> int:
    assert isinstance(pair.engine, AioquicEngine)
    return len(pair.engine._h3._requests)


def merged(events: list[DownstreamEvent]) -> list[DownstreamEvent]:
    """Join neighbouring pieces of content, which depend on how the stream was cut."""
    found: list[DownstreamEvent] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, Body) and isinstance(last, Body):
            found[-1] = Body(
                event.stream, last.data + event.data, event.end, last.credit + event.credit
            )
        else:
            found.append(event)
    return found


class Session:
    """A session on a ledger; what it tells is gathered in `told`."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.h3 = H3Session(self.ledger, HEADER_BYTES)
        self.h3.open()
        self.told: list[DownstreamEvent] = []

    def receive(self, octets: bytes, *, end: bool = False, stream: int = 0) -> None:
        self.told += self.h3.receive(stream, octets, end)

    def receive_in_pieces(self, octets: bytes, cuts: list[int], *, fin_apart: bool) -> None:
        at = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
        pieces = [octets[start:stop] for start, stop in itertools.pairwise(at)]
        for number, piece in enumerate(pieces):
            self.receive(piece, end=not fin_apart and number == len(pieces) - 1)
        if fin_apart:
            self.receive(b"", end=True)

    def answer(self) -> None:
        """Consume what came and send a response."""
        for event in self.told:
            if isinstance(event, Body):
                self.h3.consume(event.stream, event.credit)
        self.h3.send_section(0, [(b":status", b"200")], end=False, last=True)
        self.h3.send_data(0, b"done", end=True)
        self.h3.flush()


BODY_END = Body(0, b"helloabc", True, 8)
VALID: dict[str, tuple[bytes, list[Any]]] = {
    "head only": (request(), [RequestHead]),
    "unknown frames everywhere": (
        UNKNOWN + request() + UNKNOWN + data(b"hello") + UNKNOWN + data(b"abc") + UNKNOWN,
        [RequestHead, BODY_END],
    ),
    "empty and long-winded DATA": (
        request() + data(b"") + data(b"hello") + data(b"") + LONG_LENGTH,
        [RequestHead, BODY_END],
    ),
    "content-length": (
        request((b"content-length", b"8")) + data(b"hel") + data(b"loabc"),
        [RequestHead, BODY_END],
    ),
    "trailers": (
        request(LENGTH_5) + data(b"hello") + headers((b"x-sum", b"1")) + UNKNOWN,
        [RequestHead, Body(0, b"hello", False, 5), Trailers(0, [(b"x-sum", b"1")])],
    ),
    "trailers and no content": (
        request() + headers((b"x-sum", b"1")),
        [RequestHead, Trailers(0, [(b"x-sum", b"1")])],
    ),
}


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), max_size=12), fin_apart=st.booleans())
def test_a_valid_request_means_the_same_however_it_is_cut(
    name: str, cuts: list[int], fin_apart: bool
) -> None:
    octets, expected = VALID[name]
    session = Session()
    session.receive_in_pieces(octets, cuts, fin_apart=fin_apart)
    head, *rest = merged(session.told)
    assert isinstance(head, RequestHead)
    assert (head.method, head.scheme, head.path) == (b"POST", b"https", b"/")
    if rest and rest != expected[1:]:
        # That nothing follows the head was only known later.
        assert (name, rest, head.end) == ("head only", [Body(0, b"", True, 0)], False)
    session.answer()
    assert session.ledger.credited[0] == len(octets)
    assert len(session.h3._requests) == 0


@pytest.mark.parametrize("name", VALID)
def test_a_valid_request_in_single_octets(name: str) -> None:
    octets, expected = VALID[name]
    session = Session()
    session.receive_in_pieces(octets, list(range(len(octets))), fin_apart=True)
    told = merged(session.told)[1:]
    assert told == (expected[1:] or [Body(0, b"", True, 0)])


def test_the_head_says_that_it_ends_the_request_only_if_it_does() -> None:
    for octets, end in ((request(), True), (request() + UNKNOWN, False)):
        session = Session()
        session.receive(octets, end=True)
        assert isinstance(session.told[0], RequestHead)
        assert session.told[0].end is end


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
    pair = connect()
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
    pair.run(pair.engine.is_idle)
    assert open_requests(pair) == 0


TOO_LARGE = {
    "one long field": request((b"x-long", b"A" * HEADER_BYTES)),
    "large only once decoded": request((b"cookie", b"a" * (HEADER_BYTES - 100))),
    "many short fields": request(*[(b"accept", b"*/*")] * 120),
    "trailers": request() + headers((b"x-long", b"A" * HEADER_BYTES)),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_header_section_over_the_limit_is_told_with_431(name: str) -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(0, TOO_LARGE[name], end=True)
    pair.run(lambda: pair.told_of(Malformed))
    assert [event.status for event in pair.told_of(Malformed)] == [431]
    pair.engine.send_head(0, 431, [], end=False)
    pair.engine.send_body(0, b"too large", end=True)
    pair.run(lambda: 0 in client.ended)
    assert client.frames(0)[-1] == (varint.FRAME_DATA, b"too large")
    pair.run(pair.engine.is_idle)
    assert open_requests(pair) == 0


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
    pair = connect()
    client = RawClient(pair)
    client.send(0, octets, end=end)
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == code


def test_nothing_of_a_broken_connection_is_told_after_its_end() -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(0, data(b"x"))
    client.send(4, request(), end=True)
    client.send(8, request(), end=True)
    pair.run(lambda: pair.closed_with() is not None)
    assert type(pair.told[-1]).__name__ == "Closed"
    assert pair.told_of(RequestHead) == []


def test_a_request_that_ends_before_its_head_is_reset() -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(0, UNKNOWN, end=True)
    client.send(4, b"", end=True)
    pair.run(lambda: len(client.resets) == 2)
    assert client.resets == {0: H3Code.REQUEST_INCOMPLETE, 4: H3Code.REQUEST_INCOMPLETE}
    assert pair.told_of(RequestHead, Malformed, Reset) == []
    pair.run(pair.engine.is_idle)
    assert open_requests(pair) == 0


# --- giving up -------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", request()[:5]], ids=["nothing", "half a head"])
def test_a_reset_before_the_head_is_nobodys_business(sent: bytes) -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(0, sent)
    pair.advance(0.1)
    pair.client.reset_stream(0, H3Code.REQUEST_CANCELLED)
    pair.run(lambda: 0 in client.resets)
    assert client.resets[0] == H3Code.REQUEST_INCOMPLETE
    assert pair.told_of(RequestHead, Reset) == []
    pair.run(pair.engine.is_idle)
    assert open_requests(pair) == 0


@pytest.mark.parametrize("octets", [request(), request() + data(b"abc")[:-1]])
def test_a_reset_after_the_head_is_told_and_its_window_given_back(octets: bytes) -> None:
    session = Session()
    session.receive(octets)
    session.told += session.h3.reset_received(0, H3Code.REQUEST_CANCELLED)
    assert session.told[-1] == Reset(0, H3Code.REQUEST_CANCELLED)
    assert session.ledger.credited[0] == len(octets)
    session.h3.consume(0, 2)
    assert session.ledger.credited[0] == len(octets)
    session.h3.reset(0, H3Code.REQUEST_CANCELLED)
    assert len(session.h3._requests) == 0


def test_a_response_that_is_not_wanted_before_the_head_came() -> None:
    session = Session()
    session.receive(request()[:5])
    assert session.h3.stop_received(0, 0x10C) == []
    session.receive(request()[5:], end=True)
    session.answer()
    assert session.ledger.sent[0] == b""
    assert len(session.h3._requests) == 0


def test_stop_sending_of_a_response_that_is_over_says_nothing() -> None:
    session = Session()
    session.receive(request(), end=True)
    session.answer()
    assert session.h3.stop_received(0, 0x10C) == []
    session.receive(request(), stream=4)
    assert session.h3.stop_received(4, 0x10C) == [Stopped(4, 0x10C)]
    assert session.h3.stop_received(4, 0x10C) == []


def test_what_comes_after_stop_is_dropped_and_credited() -> None:
    session = Session()
    session.receive(request() + data(b"abc"))
    session.h3.stop(0, H3Code.NO_ERROR)
    session.answer()
    assert len(session.h3._requests) == 1
    rest = data(b"more") + b"\x02"
    session.receive(rest)
    session.told += session.h3.reset_received(0, H3Code.NO_ERROR)
    assert not any(isinstance(event, Reset) for event in session.told)
    assert session.ledger.credited[0] == len(request() + data(b"abc") + rest)
    assert len(session.h3._requests) == 0


def test_a_reset_drops_what_was_not_flushed() -> None:
    session = Session()
    session.receive(request(), end=True)
    session.h3.send_section(0, [(b":status", b"200")], end=False, last=True)
    assert session.h3.unsent(0) > 0
    session.h3.reset(0, H3Code.INTERNAL_ERROR)
    session.h3.flush()
    assert session.ledger.sent[0] == b""
    assert (session.ledger.resets[0], session.h3.unsent(0)) == (H3Code.INTERNAL_ERROR, 0)
    assert len(session.h3._requests) == 0


# --- windows ---------------------------------------------------------------------------------


def test_what_is_ignored_does_not_use_the_windows_up() -> None:
    window = 32 * 1024
    pair = connect(stream_window=window, connection_window=window)
    client = RawClient(pair)
    grease = varint.frame(0x21, b"g" * 5000)
    junk = client.open_uni(0x21)
    client.send(0, request())
    for _ in range(20):
        client.send(junk, b"j" * 5000)
        client.send(0, grease)
        pair.advance(0.2)
    client.send(0, b"", end=True)
    pair.run(lambda: any(body.end for body in pair.told_of(Body)))
    assert pair.client._remote_max_data > 200_000


def test_a_response_in_many_pieces_arrives_whole() -> None:
    pair = connect()
    client = H3Client(pair)
    stream = client.request()
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.send_head(stream, 200, [], end=False)
    pieces = [bytes([number]) * number for number in range(200)]
    for piece in pieces:
        pair.engine.send_body(stream, piece, end=False)
    pair.engine.send_body(stream, b"", end=True)
    response = client.responses[stream]
    pair.run(lambda: response.ended)
    assert bytes(response.body) == b"".join(pieces)
    pair.run(pair.engine.is_idle)
    assert open_requests(pair) == 0
