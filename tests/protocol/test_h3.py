"""HTTP/3 request streams: what octets mean however they are cut, and how streams are given up."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.bounds import Bound
from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.flood import CANCEL_BURST_S
from spooky.protocol.h3_control import H3ConnectionError
from spooky.protocol.messages import (
    Body,
    DownstreamEvent,
    Malformed,
    RequestBegun,
    RequestHead,
    Reset,
    Stopped,
    Trailers,
)
from tests.protocol.quic_pair import H3Client, connect, open_requests
from tests.protocol.raw_client import DECODER, RawClient, Session, data, headers, request

UNKNOWN = varint.frame(0x21, b"grease") + varint.frame(0x40, b"")
LONG_LENGTH = b"\x00\xc0\x00\x00\x00\x00\x00\x00\x03abc"
"""A DATA frame whose length takes eight octets where one would do."""
LENGTH_5 = (b"content-length", b"5")


def merged(events: list[DownstreamEvent]) -> list[DownstreamEvent]:
    """Leave out what depends on how the stream was cut, and join neighbouring content."""
    found: list[DownstreamEvent] = []
    for event in events:
        if isinstance(event, RequestBegun):
            continue
        last = found[-1] if found else None
        if isinstance(event, Body) and isinstance(last, Body):
            found[-1] = Body(
                event.stream, last.data + event.data, event.end, last.credit + event.credit
            )
        else:
            found.append(event)
    return found


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
    if rest != expected[1:]:
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


# --- many tiny frames ------------------------------------------------------------------------


class CountingOctets(bytes):
    """Octets that count how many of them are copied by slicing, and by slicing the copies."""

    copied = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        if isinstance(found, int):
            return found
        CountingOctets.copied += len(found)
        return CountingOctets(found)


TINY = b"".join(data(bytes([number % 251])) for number in range(10_000))
TINY_CONTENT = bytes(number % 251 for number in range(10_000))


@pytest.mark.parametrize(
    ("rest", "end", "expected"),
    [
        (b"", False, [Body(0, TINY_CONTENT, False, 10_000)]),
        (b"", True, [Body(0, TINY_CONTENT, True, 10_000)]),
        (
            headers((b"x-sum", b"1")),
            True,
            [Body(0, TINY_CONTENT, False, 10_000), Trailers(0, [(b"x-sum", b"1")])],
        ),
        (data(b"halves")[:4], False, [Body(0, TINY_CONTENT + b"ha", False, 10_002)]),
    ],
    ids=["more to come", "the end", "trailers", "half a frame"],
)
def test_tiny_frames_that_come_at_once_are_told_at_once(
    rest: bytes, end: bool, expected: list[DownstreamEvent]
) -> None:
    session = Session()
    session.receive(request())
    session.told.clear()
    session.receive(TINY + rest, end=end)
    assert session.told == expected
    credited = len(request() + TINY + rest) - sum(
        body.credit for body in session.told if isinstance(body, Body)
    )
    assert session.ledger.credited[0] == credited


@pytest.mark.parametrize("frames", [TINY, UNKNOWN * 2_000], ids=["DATA", "unknown"])
def test_each_octet_of_tiny_frames_is_copied_about_once(frames: bytes) -> None:
    session = Session()
    session.receive(request())
    CountingOctets.copied = 0
    session.receive(CountingOctets(frames))
    assert CountingOctets.copied <= 2 * len(frames)


def test_content_that_came_along_with_too_much_of_it_is_dropped_and_credited() -> None:
    session = Session()
    octets = request(LENGTH_5) + data(b"abc") + data(b"def") + data(b"ghi")
    session.receive(octets)
    assert [type(event) for event in session.told] == [RequestHead, Malformed]
    assert session.ledger.credited[0] == len(octets)


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
    assert client.uni(DECODER) == b"\x40", "its section will not be decoded"
    begun = [RequestBegun(0), Reset(0, H3Code.REQUEST_CANCELLED)]
    assert pair.told_of(RequestHead, RequestBegun, Reset) == (begun if sent else [])
    pair.run(lambda: open_requests(pair) == 0)


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


def test_content_that_is_consumed_after_the_response_is_credited() -> None:
    session = Session()
    session.receive(request() + data(b"late"), end=True)
    told, session.told = session.told, []
    session.answer()
    assert len(session.h3._requests) == 1
    for body in told:
        if isinstance(body, Body):
            session.h3.consume(0, body.credit)
    assert session.ledger.credited[0] == len(request() + data(b"late"))
    assert len(session.h3._requests) == 0


def test_a_reset_drops_what_was_not_flushed() -> None:
    session = Session()
    session.receive(request(), end=True)
    session.h3.responses.send_section(0, [(b":status", b"200")], end=False, last=True)
    assert session.h3.responses.unsent(0) > 0
    session.h3.reset(0, H3Code.INTERNAL_ERROR)
    session.h3.responses.flush()
    assert session.ledger.sent[0] == b""
    assert (session.ledger.resets[0], session.h3.responses.unsent(0)) == (H3Code.INTERNAL_ERROR, 0)
    assert len(session.h3._requests) == 0


class Unwalkable(list[bytes]):
    """A list that nobody may walk through, piece by piece."""

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the pieces were counted one by one")


def test_what_is_not_flushed_is_counted_as_it_comes() -> None:
    session = Session()
    for stream in (0, 4, 8):
        session.receive(request(), stream=stream, end=stream == 0)
        session.h3._requests[stream].out = Unwalkable()
        session.h3.responses.send_section(stream, [(b":status", b"200")], end=False, last=True)
        head = session.h3.responses.unsent(stream)
        for _ in range(3):
            session.h3.responses.send_data(stream, b"piece", end=False)
        assert session.h3.responses.unsent(stream) == head + 3 * len(data(b"piece"))
    session.h3.stop_received(4, 0x10C)
    assert session.h3.responses.unsent(4) == 0
    session.h3.reset(8, H3Code.INTERNAL_ERROR)
    assert session.h3.responses.unsent(8) == 0
    kept = session.h3._requests[0]
    kept.out = kept.out[:]
    session.h3.responses.flush()
    assert session.h3.responses.unsent(0) == 0
    session.h3.responses.send_data(0, b"more", end=False)
    assert session.h3.responses.unsent(0) == len(data(b"more"))
    session.h3.responses.flush()
    assert session.ledger.sent[0].endswith(data(b"piece") * 3 + data(b"more"))


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
    pair.run(lambda: open_requests(pair) == 0)


# --- octets of nobody's protocol -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(300))
def test_changed_octets_break_the_rules_or_are_told_and_never_raise_otherwise(seed: int) -> None:
    chance = random.Random(seed)
    session = Session()
    octets = bytearray(chance.choice([valid for valid, _ in VALID.values()]))
    for _ in range(chance.randrange(1, 4)):
        octets[chance.randrange(len(octets))] = chance.randrange(256)
    cuts = [chance.randrange(len(octets)) for _ in range(4)]
    with contextlib.suppress(H3ConnectionError):
        session.receive_in_pieces(bytes(octets), cuts, fin_apart=chance.random() < 0.5)
        session.answer()
        session.h3.reset(0, H3Code.INTERNAL_ERROR)  # It may wait for the encoder stream.
        assert session.ledger.credited[0] == len(octets)
        assert len(session.h3._requests) == 0


# --- requests that are not seen through ---------------------------------------------------------


def refused_after(act: Callable[[Session, int], None]) -> int:
    """Say how many requests a client may treat so; it asks for nothing else."""
    session = Session(cancelled_requests=1)
    for number in range(100):
        try:
            act(session, 4 * number)
        except H3ConnectionError:
            return number if session.floods.reached is Bound.CANCELLED_REQUESTS else -1
    raise AssertionError("never refused")


def _reset(session: Session, stream: int) -> None:
    session.receive(request(), stream=stream)
    session.h3.reset_received(stream, 0x10C)
    session.h3.stop_received(stream, 0x10C)


def _stop(session: Session, stream: int) -> None:
    session.receive(request(), stream=stream, end=True)
    session.h3.stop_received(stream, 0x10C)


def _reset_at_once(session: Session, stream: int) -> None:
    session.h3.reset_received(stream, 0x10C)


def _end_without_a_head(session: Session, stream: int) -> None:
    session.receive(b"", stream=stream, end=True)


def _spoil(session: Session, stream: int) -> None:
    session.receive(request((b"content-length", b"3")), stream=stream)
    session.receive(data(b"four"), stream=stream)


@pytest.mark.parametrize("act", [_reset, _stop, _reset_at_once, _end_without_a_head, _spoil])
def test_cancelling_request_after_request_is_refused(act: Callable[[Session, int], None]) -> None:
    assert refused_after(act) == CANCEL_BURST_S


def test_what_ends_after_its_answer_was_not_cancelled() -> None:
    session = Session(cancelled_requests=1)
    for stream in range(0, 400, 4):
        session.receive(request(), stream=stream)
        session.h3.responses.send_section(stream, [(b":status", b"413")], end=True, last=True)
        session.h3.responses.flush()
        session.h3.stop(stream, H3Code.NO_ERROR)
        session.h3.reset_received(stream, 0x10C)
    assert session.floods.reached is None
