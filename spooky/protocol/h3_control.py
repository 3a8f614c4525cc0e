"""The streams of an HTTP/3 session that carry no request: control, and QPACK's two.

It owns SETTINGS and GOAWAY, and the QPACK encoder and decoder (RFC 9204). What it wants to send
is gathered until `flush`, so that an acknowledgement or a table update does not cost a write.
"""

from typing import Protocol

import pylsqpack

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.messages import Headers

STREAM_CONTROL = 0x0
STREAM_PUSH = 0x1
STREAM_QPACK_ENCODER = 0x2
STREAM_QPACK_DECODER = 0x3
CRITICAL = frozenset((STREAM_CONTROL, STREAM_QPACK_ENCODER, STREAM_QPACK_DECODER))

QPACK_DECOMPRESSION_FAILED = 0x200
QPACK_ENCODER_STREAM_ERROR = 0x201
QPACK_DECODER_STREAM_ERROR = 0x202

SETTING_QPACK_MAX_TABLE_CAPACITY = 0x1
SETTING_MAX_FIELD_SECTION_SIZE = 0x6
SETTING_QPACK_BLOCKED_STREAMS = 0x7
HTTP2_ONLY_SETTINGS = frozenset((0x0, 0x2, 0x3, 0x4, 0x5))

TABLE_CAPACITY = 4096
BLOCKED_STREAMS = 16
MAX_CONTROL_FRAME = 4096
"""SETTINGS of more octets than this are nobody's honest settings."""
LINE_OVERHEAD = 32
"""What a field line counts over its name and value (RFC 9114 section 4.2.2)."""


class H3ConnectionError(Exception):
    """The client broke HTTP/3 in a way that ends the connection (RFC 9114 section 8)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = int(code)
        self.reason = reason


class FieldSectionTooLargeError(Exception):
    """A field section is larger, once decoded, than we said to accept.

    `fields` are what it holds, none where it was not worth decoding.
    """

    def __init__(self, fields: Headers) -> None:
        super().__init__()
        self.fields = fields


class StreamTransport(Protocol):
    """What HTTP/3 needs of QUIC. No call raises for a stream that is gone."""

    def send(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send octets on a stream."""

    def open_uni(self) -> int:
        """Open a unidirectional stream; return its number."""

    def reset(self, stream: int, code: int) -> None:
        """Abandon our half of the stream."""

    def stop(self, stream: int, code: int) -> None:
        """Ask the client to abandon its half of the stream."""

    def credit(self, stream: int, count: int) -> None:
        """Let the client send `count` octets more."""


_NO_FIELDS = b"\0\0"
"""A section without a field line (RFC 9204 section 4.5), such as empty trailers; pylsqpack takes
it for a broken one."""


class ControlStreams:
    """Our three unidirectional streams and the client's."""

    def __init__(self, transport: StreamTransport, header_bytes: int) -> None:
        self._transport = transport
        self._decoder = pylsqpack.Decoder(TABLE_CAPACITY, BLOCKED_STREAMS)
        self._encoder = pylsqpack.Encoder()
        self._header_bytes = header_bytes
        self._mine: dict[int, int] = {}
        self._out: dict[int, bytes] = {}
        self._kinds: dict[int, int] = {}
        self._buffers: dict[int, bytes] = {}
        self._skip = 0
        self._settings_seen = False
        self._identifiers: dict[int, int] = {}
        """The last identifier that came in a frame of each type."""
        self.goaway_sent = False

    def open(self) -> None:
        """Open our streams and send SETTINGS; to be called as soon as data can be sent."""
        settings = {
            SETTING_QPACK_MAX_TABLE_CAPACITY: TABLE_CAPACITY,
            SETTING_QPACK_BLOCKED_STREAMS: BLOCKED_STREAMS,
            SETTING_MAX_FIELD_SECTION_SIZE: self._header_bytes,
        }
        payload = b"".join(varint.encode(k) + varint.encode(v) for k, v in settings.items())
        for kind in (STREAM_CONTROL, STREAM_QPACK_ENCODER, STREAM_QPACK_DECODER):
            self._mine[kind] = self._transport.open_uni()
            self._write(kind, varint.encode(kind))
        self._write(STREAM_CONTROL, varint.frame(varint.FRAME_SETTINGS, payload))

    def _write(self, kind: int, data: bytes) -> None:
        if data:
            self._out[kind] = self._out.get(kind, b"") + data

    def flush(self) -> None:
        """Give to QUIC what was gathered."""
        if self._out:
            for kind, data in self._out.items():
                self._transport.send(self._mine[kind], data, end=False)
            self._out.clear()

    def send_goaway(self, stream: int) -> None:
        """Send GOAWAY with the first request number that is not served."""
        self.goaway_sent = True
        self._write(STREAM_CONTROL, varint.frame(varint.FRAME_GOAWAY, varint.encode(stream)))

    # --- QPACK ------------------------------------------------------------------------------

    def encode(self, stream: int, fields: Headers) -> bytes:
        """Encode a field section."""
        updates, block = self._encoder.encode(stream, fields)
        self._write(STREAM_QPACK_ENCODER, updates)
        return block

    def decode(self, stream: int, payload: bytes | None) -> Headers:
        """Decode a field section; None resumes one that was blocked.

        Raises:
            pylsqpack.StreamBlocked: it needs table entries that have not arrived.
            FieldSectionTooLargeError: it is larger than we said to accept.
            H3ConnectionError: it cannot be decoded (RFC 9204 section 6).
        """
        if payload == _NO_FIELDS:
            return []
        most_lines = self._header_bytes // LINE_OVERHEAD
        if payload is not None and len(payload) > most_lines and count_lines(payload) > most_lines:
            # Before it is decoded: one octet may stand for a whole table of octets.
            raise FieldSectionTooLargeError([])
        try:
            if payload is None:
                updates, fields = self._decoder.resume_header(stream)
            else:
                updates, fields = self._decoder.feed_header(stream, payload)
        except pylsqpack.DecompressionFailed:
            raise H3ConnectionError(QPACK_DECOMPRESSION_FAILED, "QPACK decoding failed") from None
        self._write(STREAM_QPACK_DECODER, updates)
        size = sum(len(name) + len(value) for name, value in fields)
        if size + LINE_OVERHEAD * len(fields) > self._header_bytes:
            raise FieldSectionTooLargeError(fields)
        return fields

    def cancel(self, stream: int) -> None:
        """Tell the client's encoder that a stream's section will not be decoded."""
        self._write(STREAM_QPACK_DECODER, self._decoder.cancel_stream(stream))

    # --- the client's streams ---------------------------------------------------------------

    def closed(self, stream: int) -> None:
        """Take note that a unidirectional stream is over, theirs or ours.

        Raises:
            H3ConnectionError: it was one that must stay open (RFC 9114 section 6.2.1).
        """
        if self._kinds.get(stream) in CRITICAL or stream in self._mine.values():
            raise H3ConnectionError(H3Code.CLOSED_CRITICAL_STREAM, "a critical stream was closed")
        self._kinds.pop(stream, None)
        self._buffers.pop(stream, None)

    def receive(self, stream: int, data: bytes, end: bool) -> list[int]:
        """Take octets of a unidirectional stream; return the requests that are unblocked by it.

        Raises:
            H3ConnectionError: the client broke the protocol.
        """
        kind = self._kinds.get(stream)
        if kind is None:
            data = self._buffers.pop(stream, b"") + data
            kind, at = varint.decode(data, 0)
            if at < 0:
                if not end:
                    self._buffers[stream] = data
                return []
            self._begin(stream, kind)
            data = data[at:]
        unblocked: list[int] = []
        if kind == STREAM_CONTROL:
            self._receive_control(stream, data)
        elif kind == STREAM_QPACK_ENCODER and data:
            unblocked = self._feed_encoder(data)
        elif kind == STREAM_QPACK_DECODER and data:
            self._feed_decoder(data)
        if end:
            self.closed(stream)
        return unblocked

    def _begin(self, stream: int, kind: int) -> None:
        if kind == STREAM_PUSH:
            raise H3ConnectionError(H3Code.STREAM_CREATION_ERROR, "clients do not push")
        if kind in CRITICAL and kind in self._kinds.values():
            raise H3ConnectionError(H3Code.STREAM_CREATION_ERROR, "a second critical stream")
        self._kinds[stream] = kind

    def _feed_encoder(self, data: bytes) -> list[int]:
        try:
            return list(self._decoder.feed_encoder(data))
        except pylsqpack.EncoderStreamError:
            raise H3ConnectionError(QPACK_ENCODER_STREAM_ERROR, "bad QPACK encoder data") from None

    def _feed_decoder(self, data: bytes) -> None:
        try:
            self._encoder.feed_decoder(data)
        except pylsqpack.DecoderStreamError:
            raise H3ConnectionError(QPACK_DECODER_STREAM_ERROR, "bad QPACK decoder data") from None

    def _receive_control(self, stream: int, data: bytes) -> None:
        data = self._buffers.pop(stream, b"") + data
        while data:
            if self._skip:
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                data = data[skipped:]
                continue
            kind, at = varint.decode(data, 0)
            length, at = varint.decode(data, at) if at >= 0 else (0, -1)
            if at < 0:
                break
            self._check_control_frame(kind, length)
            if kind != varint.FRAME_SETTINGS and kind not in _IDENTIFIER_FRAMES:
                data, self._skip = data[at:], length
                continue
            if len(data) < at + length:
                break
            payload, data = data[at : at + length], data[at + length :]
            if kind == varint.FRAME_SETTINGS:
                self._receive_settings(payload)
            else:
                self._receive_identifier(kind, payload)
        if data:
            self._buffers[stream] = data

    def _check_control_frame(self, kind: int, length: int) -> None:
        """Refuse what has no place on a client's control stream (RFC 9114 section 7.2)."""
        if kind == varint.FRAME_SETTINGS:
            if self._settings_seen:
                raise H3ConnectionError(H3Code.FRAME_UNEXPECTED, "SETTINGS for a second time")
            if length > MAX_CONTROL_FRAME:
                raise H3ConnectionError(H3Code.EXCESSIVE_LOAD, "SETTINGS are too large")
        elif not self._settings_seen:
            raise H3ConnectionError(H3Code.MISSING_SETTINGS, "SETTINGS did not come first")
        elif kind in _NOT_ON_CONTROL_STREAM:
            raise H3ConnectionError(H3Code.FRAME_UNEXPECTED, f"frame type {kind:#x} out of place")
        elif kind in _IDENTIFIER_FRAMES and length > 8:
            raise H3ConnectionError(H3Code.FRAME_ERROR, f"frame type {kind:#x} is too long")

    def _receive_identifier(self, kind: int, payload: bytes) -> None:
        """Check a frame of one identifier (RFC 9114 sections 7.2.3, 7.2.6 and 7.2.7)."""
        value, at = varint.decode(payload, 0)
        if at != len(payload):
            raise H3ConnectionError(H3Code.FRAME_ERROR, f"frame type {kind:#x} has a wrong length")
        last = self._identifiers.setdefault(kind, value)
        grew, shrank = value > last, value < last
        match kind:
            case varint.FRAME_CANCEL_PUSH:
                bad = True  # Nothing was ever promised.
            case varint.FRAME_GOAWAY:
                bad = grew
            case _:
                bad = shrank
        if bad:
            raise H3ConnectionError(H3Code.ID_ERROR, f"frame type {kind:#x} with a bad identifier")
        self._identifiers[kind] = value

    def _receive_settings(self, payload: bytes) -> None:
        settings: dict[int, int] = {}
        at = 0
        while at < len(payload):
            identifier, at = varint.decode(payload, at)
            value, at = varint.decode(payload, at) if at >= 0 else (0, -1)
            if at < 0:
                raise H3ConnectionError(H3Code.FRAME_ERROR, "SETTINGS are cut short")
            if identifier in settings or identifier in HTTP2_ONLY_SETTINGS:
                raise H3ConnectionError(H3Code.SETTINGS_ERROR, f"bad setting {identifier:#x}")
            settings[identifier] = value
        self._settings_seen = True
        updates = self._encoder.apply_settings(
            # More than this costs memory for each client and compresses hardly better.
            min(settings.get(SETTING_QPACK_MAX_TABLE_CAPACITY, 0), TABLE_CAPACITY),
            min(settings.get(SETTING_QPACK_BLOCKED_STREAMS, 0), BLOCKED_STREAMS),
        )
        self._write(STREAM_QPACK_ENCODER, updates)


_NOT_ON_CONTROL_STREAM = varint.HTTP2_ONLY_FRAMES | {
    varint.FRAME_DATA,
    varint.FRAME_HEADERS,
    varint.FRAME_PUSH_PROMISE,
}
_IDENTIFIER_FRAMES = frozenset(
    (varint.FRAME_CANCEL_PUSH, varint.FRAME_GOAWAY, varint.FRAME_MAX_PUSH_ID)
)


def count_lines(block: bytes) -> int:
    """Count the field lines of an encoded field section (RFC 9204 section 4.5).

    Stops where the section makes no sense: decoding it will fail.
    """
    count = 0
    try:
        at = _after_integer(block, _after_integer(block, 0, 8), 7)
        while at < len(block):
            at = _after_line(block, at)
            count += 1
    except IndexError:
        pass
    return count


def _after_line(block: bytes, at: int) -> int:
    first = block[at]
    if first & 0x80:
        return _after_integer(block, at, 6)
    if first & 0xF0 == 0x10:
        return _after_integer(block, at, 4)
    if first & 0x40:
        at = _after_integer(block, at, 4)
    elif first & 0x20:
        at = _after_string(block, at, 3)
    else:
        at = _after_integer(block, at, 3)
    return _after_string(block, at, 7)


def _after_integer(block: bytes, at: int, bits: int) -> int:
    """Return the offset after an integer with a prefix of `bits` (RFC 7541 section 5.1)."""
    if block[at] & ((1 << bits) - 1) == (1 << bits) - 1:
        at += 1
        while block[at] & 0x80:
            at += 1
    return at + 1


def _after_string(block: bytes, at: int, bits: int) -> int:
    length = block[at] & ((1 << bits) - 1)
    end = _after_integer(block, at, bits)
    if length == (1 << bits) - 1:
        for shift, octet in enumerate(block[at + 1 : min(end, at + 10)]):
            length += (octet & 0x7F) << 7 * shift
    return end + length
