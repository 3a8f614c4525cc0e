"""Frames of HTTP/2 (RFC 9113 sections 4 and 6) in octets: how they are written, what is in them.

It owns layouts and what can be seen wrong in one frame alone. It keeps nothing: streams, windows
and the order of frames are `lean_h2`'s.

A rule: whatever a server may put into a frame ends in a value or in a `Breach`.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from spooky.errors import H2Code
from spooky.protocol.upstream import LARGEST_WINDOW, H2Limits

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
_MAX_HEADER_LIST_SIZE: Final = 6
_ENABLE_CONNECT_PROTOCOL: Final = 8

SMALLEST_MAX_FRAME: Final = 16_384
_LARGEST_MAX_FRAME: Final = 2**24 - 1
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PRIORITY_OCTETS: Final = 5

_HEADER = Struct(">HBBBL")
_SETTING = Struct(">HL")
_WORD = Struct(">L")
_TWO_WORDS = Struct(">LL")

read_header = _HEADER.unpack_from
"""The upper 16 bits of the length, its lower 8, the type, the flags, and R with the stream."""


class Breach(Exception):  # noqa: N818  it is the server's, not an error of ours
    """What ends the connection (RFC 9113 section 5.4.1); the text is for the log."""

    def __init__(self, code: H2Code, reason: str) -> None:
        self.code = code
        super().__init__(reason)


def write_header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Write a frame's first 9 octets."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def write_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write a whole frame."""
    return write_header(len(payload), kind, flags, stream) + payload


def write_word(kind: int, stream: int, value: int) -> bytes:
    """Write a frame that has one number: WINDOW_UPDATE or RST_STREAM."""
    return write_header(4, kind, 0, stream) + _WORD.pack(value)


def write_goaway(code: int) -> bytes:
    """Write a client's GOAWAY: no stream of a server's was ever taken."""
    return write_frame(GOAWAY, 0, 0, _TWO_WORDS.pack(0, code))


def write_section(stream: int, block: bytes, most: int, *, end: bool) -> list[bytes]:
    """Write a header block in frames of `most` octets (RFC 9113 section 6.10)."""
    flags = END_STREAM if end else 0
    if len(block) <= most:
        return [write_header(len(block), HEADERS, flags | END_HEADERS, stream), block]
    frames = [write_frame(HEADERS, flags, stream, block[:most])]
    for start in range(most, len(block), most):
        last = END_HEADERS if start + most >= len(block) else 0
        frames.append(write_frame(CONTINUATION, last, stream, block[start : start + most]))
    return frames


def write_preface(limits: H2Limits, connection_credit: int) -> bytes:
    """Write a client's first octets (RFC 9113 section 3.4), and what the window grows by."""
    settings = (
        (ENABLE_PUSH, 0),
        (INITIAL_WINDOW_SIZE, limits.stream_window),
        (MAX_FRAME_SIZE, limits.max_frame),
        (_MAX_HEADER_LIST_SIZE, limits.header_bytes),
    )
    preface = _PREFACE + write_frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*s) for s in settings))
    if connection_credit > 0:
        preface += write_word(WINDOW_UPDATE, 0, connection_credit)
    return preface


def read_word(data: bytes, start: int, end: int, what: str) -> int:
    """Read the one number of a frame.

    Raises:
        Breach: the frame has another length.
    """
    if end - start != 4:
        raise Breach(H2Code.FRAME_SIZE_ERROR, f"{what} of {end - start} octets")
    number: int = _WORD.unpack_from(data, start)[0]
    return number


def read_goaway(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Read the last stream and the error code of a GOAWAY.

    Raises:
        Breach: the frame is too short.
    """
    if end - start < 8:
        raise Breach(H2Code.FRAME_SIZE_ERROR, f"GOAWAY of {end - start} octets")
    last, code = _TWO_WORDS.unpack_from(data, start)
    return last & LARGEST_WINDOW, code


def read_settings(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Read the parameters of SETTINGS in their order (RFC 9113 section 6.5.2).

    Raises:
        Breach: the frame's length or a value is not allowed.
    """
    if (end - start) % 6:
        raise Breach(H2Code.FRAME_SIZE_ERROR, f"SETTINGS of {end - start} octets")
    for place in range(start, end, 6):
        setting, value = _SETTING.unpack_from(data, place)
        if setting == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise Breach(H2Code.FLOW_CONTROL_ERROR, f"an initial window of {value} octets")
        if (
            (setting == ENABLE_PUSH and value)
            or (setting == _ENABLE_CONNECT_PROTOCOL and value > 1)
            or (setting == MAX_FRAME_SIZE and not SMALLEST_MAX_FRAME <= value <= _LARGEST_MAX_FRAME)
        ):
            raise Breach(H2Code.PROTOCOL_ERROR, f"setting {setting} has the value {value}")
        yield setting, value


def trim(flags: int, data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return where the content of DATA or HEADERS is, without padding and priority.

    Raises:
        Breach: there is more of these than frame.
    """
    padding = 0
    if flags & PADDED:
        if start == end:
            raise Breach(H2Code.FRAME_SIZE_ERROR, "a padded frame without its padding's length")
        padding = data[start]
        start += 1
    if flags & PRIORITY:
        start += _PRIORITY_OCTETS
        if start > end:
            raise Breach(H2Code.FRAME_SIZE_ERROR, "HEADERS without the priority that it has")
    if start > end - padding:
        raise Breach(H2Code.PROTOCOL_ERROR, "a frame with more padding than it has room for")
    return start, end - padding
