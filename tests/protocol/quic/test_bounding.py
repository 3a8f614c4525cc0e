"""What a client's frames may cost: each kind of flood is refused, and honest traffic never is."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aioquic.quic.rangeset import RangeSet

from spooky.bounds import Bound
from spooky.errors import H3Code
from spooky.protocol.aioquic_engine import AioquicEngine
from spooky.protocol.messages import Body, BoundReached, Closed, DownstreamEvent
from spooky.protocol.quic.bounding import HANDSHAKE_PIECES, Pieces
from tests.protocol.quic.test_receiving import INT, ack, connected, seal, server, stream
from tests.protocol.quic_pair import PATH, Pair, engine_of
from tests.protocol.raw_client import CONTROL, data, request, settings

LATER = 50.0
ROOM = 1150
"""Octets of frames in a packet."""
CRYPTO_BUFFER_EXCEEDED = 0x0D
QPACK_DECOMPRESSION_FAILED = 0x200


def packed(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Put frames into packets, as many as go into each."""
    payload = b""
    for frame in frames:
        if len(payload) + len(frame) > ROOM:
            yield payload
            payload = b""
        payload += frame
    yield payload


def again(frame: bytes) -> Iterator[bytes]:
    while True:
        yield frame


def on_stream(number: int, octets: Iterator[bytes]) -> Iterator[bytes]:
    """Send octets on a stream in order, a packet at a time."""
    at = 0
    for payload in packed(octets):
        yield from (stream(number, at, payload[:ROOM]),)
        at += len(payload)


def after(first: bytes, frame: bytes) -> Iterator[bytes]:
    yield first
    yield from again(frame)


def retired() -> Iterator[bytes]:
    for number in range(1, 1 << 30):
        yield b"\x19" + INT(number)


def issued() -> Iterator[bytes]:
    for number in range(8, 1 << 14):
        yield b"\x18" + INT(number) + INT(number) + b"\x08" + number.to_bytes(8, "big") + bytes(16)


def reset_again() -> Iterator[bytes]:
    while True:
        for number in range(0, 512, 4):
            yield stream(number, 0, b"") + b"\x04" + INT(number) + INT(9) + INT(0)


def tiny() -> Iterator[bytes]:
    head = request()
    for at in range(1 << 17):
        yield stream(0, at, head[at : at + 1] or b"\0")


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "PING": lambda: again(b"\x01"),
    "PATH_CHALLENGE": lambda: again(b"\x1a" + bytes(8)),
    "PATH_RESPONSE": lambda: again(b"\x1b" + bytes(8)),
    "MAX_DATA": lambda: again(b"\x10" + INT(1 << 21)),
    "MAX_STREAM_DATA": lambda: after(stream(0, 0, b"\0"), b"\x11" + INT(0) + INT(1 << 21)),
    "MAX_STREAMS": lambda: again(b"\x12" + INT(99)),
    "DATA_BLOCKED": lambda: again(b"\x14" + INT(99)),
    "STREAM_DATA_BLOCKED": lambda: again(b"\x15" + INT(0) + INT(99)),
    "STREAMS_BLOCKED": lambda: again(b"\x16" + INT(99)),
    "STOP_SENDING": lambda: again(b"\x05" + INT(0) + INT(9)),
    "RESET_STREAM": reset_again,
    "NEW_CONNECTION_ID": issued,
    "RETIRE_CONNECTION_ID": retired,
    "padding between padding": lambda: again(b"\x01" + b"\0"),
    "empty STREAM": lambda: again(stream(0, 0, b"")),
    "STREAM of an octet": tiny,
    "the same STREAM": lambda: again(stream(0, 0, b"a")),
    "ACK": lambda: again(ack(1, 1)),
    "ACK with ECN counts": lambda: again(b"\x03" + ack(1, 1)[1:] + bytes(3)),
    "empty DATA": lambda: on_stream(0, after(request(), data(b""))),
    "DATA of an octet": lambda: on_stream(0, after(request(), data(b"x"))),
    "unknown frames of HTTP/3": lambda: on_stream(0, after(request(), b"\x21\x00")),
    "MAX_PUSH_ID": lambda: on_stream(14, after(INT(CONTROL) + settings(), b"\x0d\x01\x00")),
    "GOAWAY": lambda: on_stream(14, after(INT(CONTROL) + settings(), b"\x07\x01\x00")),
    "PRIORITY_UPDATE": lambda: on_stream(
        14, after(INT(CONTROL) + settings(), b"\x80\x0f\x07\x00\x01\x00")
    ),
}


def take(pair: Pair, payload: bytes, now: float) -> list[DownstreamEvent]:
    """Give the engine a packet, as a worker does; consume what comes."""
    engine: AioquicEngine = engine_of(pair)
    told = engine.receive([(seal(pair, payload), PATH)], now)
    for event in told:
        if isinstance(event, Body):
            engine.consume(event.stream, event.credit)
    engine.datagrams_to_send(now)
    # What of ours the client would acknowledge is not what is looked at here.
    server(pair)._retire_connection_ids.clear()
    return told


def told_by(pair: Pair, packets: Iterator[bytes], limit: int = 3000) -> list[DownstreamEvent]:
    for count, payload in enumerate(packets):
        assert count < limit, "never refused"
        told = take(pair, payload, LATER)
        if any(isinstance(event, Closed) for event in told):
            return told
    raise AssertionError("never refused")


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_closes_the_connection(name: str) -> None:
    pair = connected(control_frames=500)
    frames = FLOODS[name]()
    # aioquic has a bound of its own on what is retired at once.
    packets = frames if "CONNECTION_ID" in name else packed(frames)
    told = told_by(pair, packets)
    assert BoundReached(Bound.CONTROL_FRAMES) in told
    assert [event.code for event in told if isinstance(event, Closed)] == [H3Code.EXCESSIVE_LOAD]


HONEST: dict[str, Iterator[bytes]] = {
    "an upload in pieces of 1 KiB": on_stream(
        0, iter([request(), *[data(bytes(1024)) for _ in range(20_000)]])
    ),
    "a download's ACK, MAX_DATA and MAX_STREAM_DATA": iter(
        [b"\x10" + INT(1 << 21) + b"\x11" + INT(0) + INT(1 << 21) + ack(1, 1)] * 5000
    ),
    "messages of 100 octets": on_stream(
        0, iter([request(), *[data(bytes(100)) for _ in range(20_000)]])
    ),
    "probes of a path and new connection IDs": iter([b"\x1a" + bytes(8)] * 500),
}
"""What comes within a second, each over the default's rate as far as it is counted at all."""


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_client_does_not_meet_the_default(name: str) -> None:
    pair = connected(stream_window=1 << 26, connection_window=1 << 26)
    if "download" in name:
        take(pair, stream(0, 0, request()), LATER)
    for payload in HONEST[name]:
        told = take(pair, payload, LATER)
        assert not [event for event in told if isinstance(event, Closed)], told


# --- holes ------------------------------------------------------------------------------------


def with_holes(kind: bytes = b"") -> Iterator[bytes]:
    for at in range(1, 1 << 20, 2):
        yield b"\x06" + INT(at) + b"\x01x" if kind else stream(0, at, b"x")


def test_data_with_a_hole_before_each_octet_is_refused() -> None:
    pair = connected(receive_gaps=100)
    told = told_by(pair, with_holes())
    assert BoundReached(Bound.RECEIVE_GAPS) in told
    assert [event.code for event in told if isinstance(event, Closed)] == [H3Code.EXCESSIVE_LOAD]


def test_holes_of_all_streams_count_together_whoever_takes_the_frames() -> None:
    pair = connected(receive_gaps=100)
    frames = (b"\x01" + stream(4 * (at % 10), 1 + 2 * (at // 10), b"x") for at in range(1000))
    assert BoundReached(Bound.RECEIVE_GAPS) in told_by(pair, frames, 120)


def test_holes_that_were_filled_and_streams_that_were_reset_do_not_count() -> None:
    pair = connected(receive_gaps=20, cancelled_requests=1000)
    unknown = b"\x21\x12" + bytes(18)
    for number in range(0, 400, 4):
        for at in range(1, 20, 2):
            take(pair, stream(number, at, unknown[at : at + 1]), LATER)
        end = b"\x04" + INT(number) + INT(9) + INT(20)
        filled = b"".join(stream(number, at, unknown[at : at + 1]) for at in range(0, 20, 2))
        take(pair, end if number % 8 else filled, LATER)
        assert server(pair).closing() is None, number


def test_pieces_are_kept_as_aioquic_keeps_them() -> None:
    rng = random.Random(5)
    for _ in range(200):
        ours, theirs = Pieces(), RangeSet()
        for _ in range(60):
            start = rng.randrange(300)
            stop = start + rng.randrange(1, 12)
            ours.add(start, stop)
            theirs.add(start, stop)
            assert list(ours) == list(theirs)


# --- the handshake ----------------------------------------------------------------------------


def crypto_without_end() -> Iterator[bytes]:
    """A TLS message that says to be of 16 MiB, in order."""
    yield b"\x06\x00" + INT(1000) + b"\x01\xff\xff\xff" + bytes(996)
    for at in range(1000, 1 << 24, 1000):
        yield b"\x06" + INT(at) + INT(1000) + bytes(1000)


@pytest.mark.parametrize(
    ("packets", "most"),
    [(crypto_without_end(), 10), (packed(with_holes(b"c")), 1)],
    ids=["without end", "with holes"],
)
def test_the_handshakes_data_is_bounded(packets: Iterator[bytes], most: int) -> None:
    told = told_by(connected(crypto_buffer=8192), packets, most)
    assert BoundReached(Bound.CRYPTO_BUFFER) in told
    assert [event.code for event in told if isinstance(event, Closed)] == [CRYPTO_BUFFER_EXCEEDED]
    assert HANDSHAKE_PIECES > 20, "what browsers make of one ClientHello"


# --- QPACK ------------------------------------------------------------------------------------


def blocked(number: int) -> bytes:
    """A request that needs an entry which never comes."""
    return stream(4 * number, 0, b"\x01\x03\x02\x80\x10")


def test_requests_that_wait_for_the_table_are_bounded() -> None:
    pair = connected(qpack_blocked_streams=3)
    for number in range(3):
        assert not [e for e in take(pair, blocked(number), LATER) if isinstance(e, Closed)]
    told: list[Any] = take(pair, blocked(3), LATER)
    assert BoundReached(Bound.QPACK_BLOCKED_STREAMS) in told
    assert [e.code for e in told if isinstance(e, Closed)] == [QPACK_DECOMPRESSION_FAILED]


def test_a_table_larger_than_ours_is_refused() -> None:
    pair = connected(qpack_table=220)
    told = take(pair, stream(14, 0, b"\x02" + b"\x3f\xe1\x1f"), LATER)
    assert [event.code for event in told if isinstance(event, Closed)] == [0x201]


# --- what is kept -----------------------------------------------------------------------------


def test_what_is_kept_is_counted_in_both_directions() -> None:
    pair = connected()
    engine = engine_of(pair)
    before = engine.held()
    take(pair, stream(0, 0, request()), LATER)
    assert engine.held() == before
    take(pair, stream(4, 5000, b"x"), LATER)
    assert engine.held() - before == 5001
    engine.send_head(0, 200, [], end=False)
    engine.send_body(0, bytes(30_000), end=False)
    assert engine.held() - before > 35_000
