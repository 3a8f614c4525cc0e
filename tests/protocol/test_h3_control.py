"""Control and QPACK streams: SETTINGS, GOAWAY, the dynamic table, and what ends a connection."""

from collections.abc import Callable
from typing import Any

import pylsqpack
import pytest

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.aioquic_engine import AioquicEngine
from spooky.protocol.h3_control import (
    QPACK_DECODER_STREAM_ERROR,
    QPACK_DECOMPRESSION_FAILED,
    QPACK_ENCODER_STREAM_ERROR,
    ControlStreams,
    FieldSectionTooLargeError,
    count_lines,
)
from spooky.protocol.messages import Body, Closed, DownstreamEvent, Headers, RequestHead, Trailers
from spooky.protocol.quic import ServerSettings
from tests.protocol.quic_pair import H3Client, Pair, request_fields, server_settings
from tests.protocol.raw_client import (
    CONTROL,
    DECODER,
    ENCODER,
    PUSH,
    Ledger,
    RawClient,
    request,
    section,
    settings,
    split_frames,
)

CAPACITY = (0x1, 4096)
BLOCKED = (0x7, 16)


def make(config: ServerSettings, original_destination_cid: bytes) -> AioquicEngine:
    return AioquicEngine(config, config.configuration(), original_destination_cid)


def connect() -> Pair:
    return Pair(make, server_settings(header_bytes=8192)).connect()


def identifier(kind: int, *values: int) -> bytes:
    return varint.frame(kind, b"".join(map(varint.encode, values)))


GOAWAY, CANCEL_PUSH, MAX_PUSH_ID = (
    varint.FRAME_GOAWAY,
    varint.FRAME_CANCEL_PUSH,
    varint.FRAME_MAX_PUSH_ID,
)
GREASE = varint.frame(0x21, b"grease")

WRONG_ON_CONTROL: dict[str, tuple[bytes, int]] = {
    "no SETTINGS": (GREASE, int(H3Code.MISSING_SETTINGS)),
    "GOAWAY before SETTINGS": (identifier(GOAWAY, 0), H3Code.MISSING_SETTINGS),
    "DATA before SETTINGS": (varint.frame(0, b""), H3Code.MISSING_SETTINGS),
    "SETTINGS twice": (settings() * 2, H3Code.FRAME_UNEXPECTED),
    "a setting twice": (settings((0x6, 1), (0x6, 1)), H3Code.SETTINGS_ERROR),
    "an unknown setting twice": (settings((0x21, 1), (0x21, 2)), H3Code.SETTINGS_ERROR),
    "SETTINGS cut short": (varint.frame(4, b"\x06"), H3Code.FRAME_ERROR),
    "SETTINGS cut in a value": (varint.frame(4, b"\x06\x40"), H3Code.FRAME_ERROR),
    "SETTINGS too large": (varint.encode(4) + varint.encode(5000), H3Code.EXCESSIVE_LOAD),
    "DATA": (settings() + varint.frame(0, b"x"), H3Code.FRAME_UNEXPECTED),
    "HEADERS": (settings() + request(), H3Code.FRAME_UNEXPECTED),
    "PUSH_PROMISE": (settings() + varint.frame(5, b"\x00"), H3Code.FRAME_UNEXPECTED),
    "CANCEL_PUSH of nothing": (settings() + identifier(CANCEL_PUSH, 0), H3Code.ID_ERROR),
    "MAX_PUSH_ID shrinks": (
        settings() + identifier(MAX_PUSH_ID, 5) + identifier(MAX_PUSH_ID, 4),
        H3Code.ID_ERROR,
    ),
    "GOAWAY grows": (settings() + identifier(GOAWAY, 4) + identifier(GOAWAY, 5), H3Code.ID_ERROR),
    "empty GOAWAY": (settings() + varint.frame(GOAWAY, b""), H3Code.FRAME_ERROR),
    "GOAWAY cut short": (settings() + varint.frame(GOAWAY, b"\x40"), H3Code.FRAME_ERROR),
    "GOAWAY with more": (settings() + identifier(GOAWAY, 1, 2), H3Code.FRAME_ERROR),
    "MAX_PUSH_ID of nine octets": (
        settings() + varint.encode(MAX_PUSH_ID) + b"\x09",
        H3Code.FRAME_ERROR,
    ),
} | {
    f"HTTP/2's frame {kind:#x}": (settings() + varint.frame(kind, b""), H3Code.FRAME_UNEXPECTED)
    for kind in varint.HTTP2_ONLY_FRAMES
}
WRONG_ON_CONTROL |= {
    f"HTTP/2's setting {key:#x}": (settings((key, 0)), H3Code.SETTINGS_ERROR)
    for key in (0x0, 0x2, 0x3, 0x4, 0x5)
}


@pytest.mark.parametrize("piecemeal", [False, True])
@pytest.mark.parametrize("name", WRONG_ON_CONTROL)
def test_a_broken_control_stream_closes_the_connection(name: str, piecemeal: bool) -> None:
    octets, code = WRONG_ON_CONTROL[name]
    pair = connect()
    client = RawClient(pair, with_settings=False)
    if piecemeal:
        stream = client.open_uni(CONTROL)
        for octet in octets:
            pair.advance(0.02)
            client.send(stream, bytes([octet]))
    else:
        client.open_uni(CONTROL, octets)
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == code
    assert pair.told_of(Closed)[0].code == code


def test_what_a_control_stream_may_carry() -> None:
    pair = connect()
    client = RawClient(pair, with_settings=False)
    octets = (
        settings(CAPACITY, BLOCKED, (0x6, 9999), (0x21, 7))
        + GREASE
        + identifier(MAX_PUSH_ID, 4)
        + identifier(MAX_PUSH_ID, 4)
        + varint.frame(0x21, b"g" * 7000)
        + identifier(GOAWAY, 9)
        + identifier(GOAWAY, 8)
    )
    stream = client.open_uni(CONTROL)
    for octet in octets[:60]:
        client.send(stream, bytes([octet]))
        pair.advance(0.02)
    client.send(stream, octets[60:])
    client.send(0, request(), end=True)
    pair.run(lambda: pair.told_of(RequestHead))
    assert pair.closed_with() is None


def _end_control(client: RawClient) -> None:
    client.open_uni(CONTROL, settings(), end=True)


def _end_encoder(client: RawClient) -> None:
    client.open_uni(ENCODER, end=True)


def _reset_decoder(client: RawClient) -> None:
    stream = client.open_uni(DECODER)
    client.pair.advance(0.1)
    client.pair.client.reset_stream(stream, 0)


def _stop_ours(client: RawClient) -> None:
    client.pair.client.stop_stream(3, 0)


def _second_of(kind: int) -> Callable[[RawClient], None]:
    def open_two(client: RawClient) -> None:
        octets = settings() if kind == CONTROL else b""
        client.open_uni(kind, octets)
        client.open_uni(kind, octets)

    return open_two


def _push(client: RawClient) -> None:
    client.open_uni(PUSH, b"\x00")


CRITICAL: list[tuple[Callable[[RawClient], None], int]] = [
    (_end_control, H3Code.CLOSED_CRITICAL_STREAM),
    (_end_encoder, H3Code.CLOSED_CRITICAL_STREAM),
    (_reset_decoder, H3Code.CLOSED_CRITICAL_STREAM),
    (_stop_ours, H3Code.CLOSED_CRITICAL_STREAM),
    (_second_of(CONTROL), H3Code.STREAM_CREATION_ERROR),
    (_second_of(ENCODER), H3Code.STREAM_CREATION_ERROR),
    (_second_of(DECODER), H3Code.STREAM_CREATION_ERROR),
    (_push, H3Code.STREAM_CREATION_ERROR),
    (lambda client: _ignore(client.open_uni(ENCODER, b"\x05")), QPACK_ENCODER_STREAM_ERROR),
    (lambda client: _ignore(client.open_uni(DECODER, b"\x01")), QPACK_DECODER_STREAM_ERROR),
]


def _ignore(_stream: int) -> None:
    return


@pytest.mark.parametrize(("act", "code"), CRITICAL)
def test_critical_streams_are_guarded(act: Callable[[RawClient], None], code: int) -> None:
    pair = connect()
    act(RawClient(pair, with_settings=False))
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == code


def test_unknown_streams_may_end_be_reset_or_be_empty() -> None:
    pair = connect()
    client = RawClient(pair)
    client.open_uni(0x21, b"x" * 100, end=True)
    reset = client.open_uni(0x22, b"x" * 100)
    silent = pair.client.get_next_available_stream_id(is_unidirectional=True)
    client.send(silent, b"\x40", end=True)
    pair.advance(0.2)
    pair.client.reset_stream(reset, 0)
    pair.advance(0.2)
    client.send(0, request(), end=True)
    pair.run(lambda: pair.told_of(RequestHead))
    assert pair.closed_with() is None


# --- what we send ----------------------------------------------------------------------------


def test_our_settings_and_goaways() -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(0, request(), end=True)
    client.send(4, request(), end=True)
    pair.run(lambda: len(pair.told_of(RequestHead)) == 2)
    for _ in range(3):
        pair.engine.goaway()
    pair.advance(0.1)
    kinds = split_frames(client.uni(CONTROL))
    values = [varint.decode(payload, 0)[0] for kind, payload in kinds if kind == GOAWAY]
    assert values == [(1 << 62) - 4, 8]
    assert kinds[0] == (4, settings(CAPACITY, BLOCKED, (0x6, 8192))[2:])


def test_a_request_between_the_goaways_is_served_and_moves_the_limit() -> None:
    pair = connect()
    client = RawClient(pair)
    pair.engine.goaway()
    pair.advance(0.1)
    client.send(0, request(), end=True)
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.goaway()
    pair.advance(0.1)
    client.send(4, request(), end=True)
    client.send(8, request()[:4])
    pair.run(lambda: len(client.resets) == 2)
    assert client.resets == {4: H3Code.REQUEST_REJECTED, 8: H3Code.REQUEST_REJECTED}
    assert client.stopped == {8: H3Code.REQUEST_REJECTED}
    assert [head.stream for head in pair.told_of(RequestHead)] == [0]


# --- QPACK -----------------------------------------------------------------------------------

BIG: Headers = [(b"x-token", b"abcdefgh" * 40), (b"x-agent", b"someone/1.0" * 10)]


def test_the_dynamic_table_serves_both_ways() -> None:
    pair = connect()

    def answer(event: DownstreamEvent) -> None:
        if isinstance(event, RequestHead):
            pair.engine.send_head(event.stream, 200, BIG, end=True)

    pair.on_event = answer
    client = H3Client(pair)
    asked: list[int] = []
    for _ in range(3):
        stream = client.request(*BIG)
        asked.append(pair.client._streams[stream].sender._buffer_stop)
        pair.run(lambda stream=stream: client.responses[stream].ended)  # type: ignore[misc]
        pair.advance(0.2)
        assert client.responses[stream].heads == [[(b":status", b"200"), *BIG]]
    assert asked[0] > 200
    assert asked[2] < 30
    assert [head.headers for head in pair.told_of(RequestHead)] == [BIG] * 3
    responses = RawClient(pair, with_settings=False).received
    assert len(responses[0]) > 200
    assert len(responses[8]) < 20


class Encoder:
    """The encoder of a client, which uses entries before they are known to have arrived."""

    def __init__(self) -> None:
        self._encoder = pylsqpack.Encoder()
        self.updates: bytes = self._encoder.apply_settings(4096, 16)
        """What is to be written on the encoder stream."""

    def encode(self, stream: int, fields: Headers) -> bytes:
        # It inserts what it sees for the second time.
        self._encoder.encode(stream + 4000, fields)
        updates, block = self._encoder.encode(stream, fields)
        self.updates += updates
        assert isinstance(block, bytes)
        assert len(block) < 20, "the dynamic table is not used"
        return block

    def feed_decoder(self, octets: bytes) -> None:
        self._encoder.feed_decoder(octets)


def with_id(number: int) -> Headers:
    return [*request_fields(), (b"x-id", b"%d" % number * 30)]


def test_blocked_requests_resume() -> None:
    pair = connect()
    client = RawClient(pair)
    encoder = Encoder()
    for number in range(6):
        block = encoder.encode(number * 4, with_id(number))
        frames = varint.frame(varint.FRAME_HEADERS, block) + varint.frame(0, b"body")
        client.send(number * 4, frames, end=True)
    pair.advance(0.2)
    assert pair.told_of(RequestHead, Body) == []
    stream = client.open_uni(ENCODER)
    for octet in encoder.updates:
        client.send(stream, bytes([octet]))
    pair.run(lambda: len(pair.told_of(Body)) == 6)
    for number, (head, body) in enumerate(batched_pairs(pair.told_of(RequestHead, Body))):
        assert head.headers == with_id(number)[4:]
        assert body == Body(number * 4, b"body", True, 4)


def batched_pairs(events: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(events[::2], events[1::2], strict=True))


def test_a_blocked_request_that_is_reset_is_cancelled() -> None:
    pair = connect()
    client = RawClient(pair)
    encoder = Encoder()
    block = encoder.encode(0, with_id(0))
    client.send(0, varint.frame(varint.FRAME_HEADERS, block))
    pair.advance(0.1)
    pair.client.reset_stream(0, H3Code.REQUEST_CANCELLED)
    pair.advance(0.1)
    client.open_uni(ENCODER, encoder.updates)
    pair.advance(0.1)
    assert pair.told_of(RequestHead) == []
    assert client.uni(DECODER)[:1] == b"\x40", "no Stream Cancellation for stream 0"
    encoder.feed_decoder(client.uni(DECODER))
    assert pair.closed_with() is None


def test_blocked_trailers_of_a_request_that_is_given_up_are_cancelled() -> None:
    pair = connect()
    client = RawClient(pair)
    encoder = Encoder()
    trailers = varint.frame(varint.FRAME_HEADERS, encoder.encode(0, [(b"x-sum", b"9" * 40)]))
    client.send(0, request() + varint.frame(0, b"body") + trailers, end=True)
    pair.run(lambda: pair.told_of(Body))
    assert pair.told_of(Trailers) == []
    pair.engine.reset(0, H3Code.INTERNAL_ERROR)
    client.open_uni(ENCODER, encoder.updates)
    pair.advance(0.1)
    assert pair.told_of(Trailers) == []
    assert b"\x40" in client.uni(DECODER)
    pair.run(pair.engine.is_idle)


def test_too_many_blocked_requests_end_the_connection() -> None:
    pair = connect()
    client = RawClient(pair)
    encoder = pylsqpack.Encoder()
    encoder.apply_settings(4096, 100)
    for number in range(18):
        encoder.encode(4000, with_id(number))
        _, block = encoder.encode(number * 4, with_id(number))
        client.send(number * 4, varint.frame(varint.FRAME_HEADERS, block))
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == QPACK_DECOMPRESSION_FAILED


def test_an_abandoned_request_is_cancelled_though_its_head_was_read() -> None:
    pair = connect()
    client = RawClient(pair)
    client.send(4, request())
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.reset(4, H3Code.INTERNAL_ERROR)
    pair.advance(0.1)
    assert client.uni(DECODER) == b"\x44"


def test_a_reference_to_what_was_never_inserted_is_refused() -> None:
    pair = connect()
    client = RawClient(pair)
    client.open_uni(ENCODER, pylsqpack.Encoder().apply_settings(4096, 16))
    # Required Insert Count 0 and an indexed line of the dynamic table.
    client.send(0, varint.frame(varint.FRAME_HEADERS, b"\x00\x00\x80"))
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == QPACK_DECOMPRESSION_FAILED


def test_a_small_section_that_would_decode_to_megabytes_is_not_decoded() -> None:
    control = ControlStreams(Ledger(), 8192)
    control.open()
    encoder = Encoder()
    block = encoder.encode(4, [(b"x-large", b"v" * 3000)])
    control.receive(2, varint.encode(ENCODER) + encoder.updates, False)
    assert len(control.decode(4, block)) == 1
    with pytest.raises(FieldSectionTooLargeError):
        control.decode(8, block + block[-1:] * 5000)
    with pytest.raises(FieldSectionTooLargeError):
        control.decode(12, block + block[-1:] * 2)


LINES: list[tuple[Headers, int]] = [
    (request_fields(), 4),
    ([(b"x-unknown-name", b"v" * 200)], 1),
    ([(b"x-" + b"n" * 300, b"v" * 300), (b"cookie", b"c" * 5000)], 2),
    ([(b"accept", b"*/*")] * 300, 300),
    ([(b"x-\xff", b"\x00" * 127), (b"y", b"")], 2),
]


@pytest.mark.parametrize(("fields", "count"), LINES)
def test_lines_of_a_section_are_counted_as_they_are_decoded(fields: Headers, count: int) -> None:
    block = section(*fields)
    assert len(pylsqpack.Decoder(0, 0).feed_header(0, block)[1]) == count
    assert count_lines(block) == count
    for end in range(min(len(block), 400)):
        assert count_lines(block[:end]) <= count


def test_lines_with_the_dynamic_table_are_counted() -> None:
    encoder, decoder = pylsqpack.Encoder(), pylsqpack.Decoder(4096, 16)
    decoder.feed_encoder(encoder.apply_settings(4096, 16))
    sizes = []
    for stream in range(0, 200, 4):
        fields = [*BIG, (b"x-number", b"%d" % stream), (b"x-half", b"%d" % (stream // 8))]
        updates, block = encoder.encode(stream, fields)
        assert count_lines(block) == len(fields)
        sizes.append(len(block))
        decoder.feed_encoder(updates)
        encoder.feed_decoder(decoder.feed_header(stream, block)[0])
    assert min(sizes) < 20
