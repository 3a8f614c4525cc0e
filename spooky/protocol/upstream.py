"""What all engines of HTTP/2 towards a backend have in common (RFC 9113).

It owns the limits of a connection, the bounds of what a backend may make us do, and what is said
of one that does not speak HTTP/2. It knows no engine; `engines.py` does.
"""

from dataclasses import dataclass
from typing import Final

from spooky.protocol.messages import Body, UpstreamEvent

HIGHEST_STREAM: Final = 2**31 - 1
LARGEST_WINDOW: Final = 2**31 - 1
ASSUMED_STREAMS: Final = 100
"""Streams taken for granted before the peer's SETTINGS (RFC 9113 section 6.5.2)."""
DEFAULT_WINDOW: Final = 65_535
FRAME_HEADER: Final = 9
MOST_CONTINUATIONS: Final = 64
MOST_EMPTY_FRAMES: Final = 10_000
"""Frames in a row that bring no message further; pings and empty DATA cost us, not the sender."""
EMPTY_FRAME_OCTETS: Final = 128
"""As many octets of such a frame count for another one: a SETTINGS may have 10,000 parameters, and
a header block a field in each octet. Content on its way to a stream that was reset does not."""
MOST_REPLIES: Final = 1000
"""Answers to SETTINGS, PING and faults that wait for a backend that does not take them."""
MANY_EVENTS: Final = 64
"""Of one read, from which on content is put together: frames of an octet must not cost a turn of
all that is behind the engine each."""
_SETTINGS = 4
_ACK = 1


@dataclass(frozen=True, slots=True)
class H2Limits:
    """What one connection may take: sizes in octets."""

    stream_window: int = 256 * 1024
    connection_window: int = 16 * 1024 * 1024
    max_frame: int = 64 * 1024
    header_bytes: int = 64 * 1024
    """Names and values of a response's fields plus 32 each."""
    max_streams: int = 100


def is_preface(header: bytes) -> bool:
    """Say whether a server may begin with this frame header (RFC 9113 section 3.4)."""
    return header[3] == _SETTINGS and not header[4] & _ACK and header[5:] == b"\0\0\0\0"


def describe_stranger(octets: bytes) -> str:
    """Say what a peer seems to speak whose first octets are not a SETTINGS frame."""
    if octets.startswith(b"HTTP/1."):
        return "it answered in HTTP/1, not in HTTP/2"
    if octets[:2] == b"\x15\x03":
        return "it answered in TLS; is https:// missing from its address?"
    if octets:
        return "it does not speak HTTP/2: its first frame is not SETTINGS"
    return "it closed the connection without speaking HTTP/2"


def join_content(events: list[UpstreamEvent]) -> list[UpstreamEvent]:
    """Return the events with a stream's content in one piece, between two events of other kinds."""
    told: list[UpstreamEvent | list[Body]] = []
    content: dict[int, list[Body]] = {}
    for event in events:
        if not isinstance(event, Body):
            content.clear()
            told.append(event)
        elif event.stream in content:
            content[event.stream].append(event)
        else:
            content[event.stream] = [event]
            told.append(content[event.stream])
    return [_join(one) if isinstance(one, list) else one for one in told]


def _join(pieces: list[Body]) -> Body:
    data, credit = b"".join(one.data for one in pieces), sum(one.credit for one in pieces)
    return Body(pieces[0].stream, data, pieces[-1].end, credit)
