"""QPACK (RFC 9204): the dynamic table both ways, blocked streams, and too large sections."""

from typing import Any

import pylsqpack
import pytest

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.flood import Floods
from spooky.protocol.h3_control import (
    QPACK_DECOMPRESSION_FAILED,
    ControlStreams,
    FieldSectionTooLargeError,
    H3Limits,
    count_lines,
)
from spooky.protocol.messages import Body, DownstreamEvent, Headers, RequestHead, Trailers
from tests.protocol.quic_pair import H3Client, connect, request_fields
from tests.protocol.raw_client import DECODER, ENCODER, Ledger, RawClient, request, section

BIG: Headers = [(b"x-token", b"abcdefgh" * 40), (b"x-agent", b"someone/1.0" * 10)]


def test_the_dynamic_table_serves_both_ways() -> None:
    pair = connect(header_bytes=8192)

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
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
    client = RawClient(pair)
    client.send(4, request())
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.reset(4, H3Code.INTERNAL_ERROR)
    pair.advance(0.1)
    assert client.uni(DECODER) == b"\x44"


def test_a_reference_to_what_was_never_inserted_is_refused() -> None:
    pair = connect(header_bytes=8192)
    client = RawClient(pair)
    client.open_uni(ENCODER, pylsqpack.Encoder().apply_settings(4096, 16))
    # Required Insert Count 0 and an indexed line of the dynamic table.
    client.send(0, varint.frame(varint.FRAME_HEADERS, b"\x00\x00\x80"))
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == QPACK_DECOMPRESSION_FAILED


def test_a_small_section_that_would_decode_to_megabytes_is_not_decoded() -> None:
    ledger = Ledger()
    control = ControlStreams(ledger, H3Limits(8192), Floods(10_000, 100))
    control.open()
    encoder = Encoder()
    block = encoder.encode(4, [(b"x-large", b"v" * 3000)])
    control.receive(2, varint.encode(ENCODER) + encoder.updates, False)
    assert len(control.decode(4, block)) == 1
    with pytest.raises(FieldSectionTooLargeError):
        control.decode(8, block + block[-1:] * 5000)
    with pytest.raises(FieldSectionTooLargeError):
        control.decode(12, block + block[-1:] * 2)
    control.flush()
    acknowledged = [octet & 0x7F for octet in ledger.sent[11] if octet & 0x80]
    assert acknowledged == [4, 12], "what is acknowledged was decoded"


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
