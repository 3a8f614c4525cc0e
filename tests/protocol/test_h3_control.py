"""Control and QPACK streams: SETTINGS, GOAWAY, the dynamic table, and what ends a connection."""

from collections.abc import Callable

import pytest

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.h3_control import (
    QPACK_DECODER_STREAM_ERROR,
    QPACK_ENCODER_STREAM_ERROR,
)
from spooky.protocol.messages import Closed, RequestHead
from tests.protocol.quic_pair import connect
from tests.protocol.raw_client import (
    CONTROL,
    DECODER,
    ENCODER,
    PUSH,
    RawClient,
    request,
    settings,
    split_frames,
)

CAPACITY = (0x1, 4096)
BLOCKED = (0x7, 16)


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
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
    act(RawClient(pair, with_settings=False))
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == code


def test_unknown_streams_may_end_be_reset_or_be_empty() -> None:
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
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
    pair = connect(header_bytes=8192)
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
