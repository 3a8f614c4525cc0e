"""A request stream of HTTP/3: its state, its frames, and the head that its fields make.

Plain state and functions over it; nothing here sends, credits or decodes. `h3.py` does that.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.h3_control import H3ConnectionError
from spooky.protocol.messages import Headers, RequestHead

REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))

_NOT_ON_REQUEST_STREAMS = varint.HTTP2_ONLY_FRAMES | {
    varint.FRAME_CANCEL_PUSH,
    varint.FRAME_SETTINGS,
    varint.FRAME_PUSH_PROMISE,
    varint.FRAME_GOAWAY,
    varint.FRAME_MAX_PUSH_ID,
}


class Reading(IntEnum):
    """How far the request has been read."""

    HEADERS = 0
    BODY = 1
    ENDED = 2
    """Trailers are in: only unknown frames may follow."""
    DISCARDING = 3
    """Nothing of it is wanted any more."""


class Writing(IntEnum):
    """How far the response has been written."""

    HEADERS = 0
    BODY = 1
    ENDED = 2


@dataclass(slots=True)
class RequestStream:
    """One request stream: how far it has been read and written, and what it owes."""

    number: int
    reading: Reading = Reading.HEADERS
    writing: Writing = Writing.HEADERS
    buffer: bytes = b""
    at: int = 0
    """The offset in `buffer` up to which it has been read; 0 between passes over it."""
    content: list[bytes] = field(default_factory=list)
    """Content that this pass has read and has not handed out."""
    overhead: int = 0
    """Octets other than content that this pass has read and has not credited."""
    frame_kind: int = 0
    frame_left: int = -1
    """Octets of the frame that have not been read; -1 between frames."""
    fin: bool = False
    announced: bool = False
    """It was told of, though its head had not come."""
    blocked: bool = False
    expected: int = -1
    """The request's content-length; -1: none."""
    received: int = 0
    owed: int = 0
    """Octets that were handed out and have not been credited."""
    out: list[bytes] = field(default_factory=list)
    out_bytes: int = 0
    """How many octets `out` holds."""

    @property
    def unread(self) -> int:
        """How many octets of the buffer have not been read."""
        return len(self.buffer) - self.at

    @property
    def is_open(self) -> bool:
        """Whether it is a request, and more of it or of its response is to be expected."""
        if self.reading is Reading.DISCARDING:
            return self.writing is not Writing.ENDED or bool(self.out)
        return self.reading is not Reading.HEADERS

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be read, sent or credited."""
        return (
            self.fin
            and self.reading is Reading.DISCARDING
            and self.writing is Writing.ENDED
            and not self.out
            and not self.owed
        )


def check_frame(request: RequestStream, kind: int) -> None:
    """Refuse frames that have no place here (RFC 9114 sections 4.1 and 7.2)."""
    if kind == varint.FRAME_DATA:
        allowed = request.reading is Reading.BODY
    elif kind == varint.FRAME_HEADERS:
        allowed = request.reading is not Reading.ENDED
    else:
        allowed = kind not in _NOT_ON_REQUEST_STREAMS
    if not allowed:
        raise H3ConnectionError(H3Code.FRAME_UNEXPECTED, f"frame type {kind:#x} out of place")


def take(request: RequestStream, count: int) -> bytes:
    """Read the next `count` octets of the buffer."""
    start, request.at = request.at, request.at + count
    return request.buffer[start : request.at]


def trim(request: RequestStream) -> None:
    """Remove what was read from the buffer: once in a pass, as it copies the rest."""
    request.buffer = request.buffer[request.at :]
    request.at = 0


def write(request: RequestStream, octets: bytes) -> None:
    """Put octets behind what waits to be sent."""
    request.out.append(octets)
    request.out_bytes += len(octets)


def clear_out(request: RequestStream) -> None:
    """Forget what waits to be sent."""
    request.out.clear()
    request.out_bytes = 0


def partial_head(number: int, fields: Headers) -> RequestHead:
    """Make the most of a faulty header section, for the log."""
    control: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            control.setdefault(name, value)
    return RequestHead(
        number,
        control.get(b":method", b""),
        control.get(b":scheme", b""),
        control.get(b":authority", b""),
        control.get(b":path", b""),
        [field for field in fields if field[0][:1] != b":"],
        end=True,
    )


def make_head(request: RequestStream, fields: Headers) -> RequestHead | str:
    """Sort pseudo-header fields out (RFC 9114 section 4.3); a string says what is wrong."""
    pseudo: dict[bytes, bytes] = {}
    headers: Headers = []
    for name, value in fields:
        if name[:1] != b":":
            headers.append((name, value))
            if name == b"content-length" and value.isdigit() and len(value) < 20:
                request.expected = int(value)
        elif headers or name in pseudo or name not in REQUEST_PSEUDO or not value:
            # An empty :authority is malformed, though Host may stand for one that is not there.
            return f"pseudo-header field {name[:32]!r} is unknown, repeated, late or empty"
        else:
            pseudo[name] = value
    method = pseudo.get(b":method")
    if method is None:
        return "no :method"
    end = request.fin and not request.unread
    if end and request.expected > 0:
        return "less content than content-length says"
    return RequestHead(
        request.number,
        method,
        pseudo.get(b":scheme", b""),
        pseudo.get(b":authority", b""),
        pseudo.get(b":path", b""),
        headers,
        end,
        pseudo.get(b":protocol"),
    )
