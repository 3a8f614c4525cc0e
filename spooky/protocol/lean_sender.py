"""What is sent to a backend on one HTTP/2 connection (RFC 9113): the verbs of an engine.

It owns the streams, the windows and limits that the backend has set, and the octets that wait to
be taken. What the backend sends is `lean_h2`'s, which builds on this.

A rule: a stream that is reset by either side is remembered as abandoned, for frames of it may be
on their way; one that ended as it should is forgotten.
"""

from dataclasses import dataclass
from typing import Final

from spooky.errors import H2Code
from spooky.protocol.h2_fields import request_fields
from spooky.protocol.h2_response import ResponseStream
from spooky.protocol.hpack_encoder import FieldEncoder
from spooky.protocol.lean_frames import (
    DATA,
    END_STREAM,
    PING,
    RST_STREAM,
    SMALLEST_MAX_FRAME,
    WINDOW_UPDATE,
    Breach,
    write_frame,
    write_goaway,
    write_header,
    write_preface,
    write_section,
    write_word,
)
from spooky.protocol.messages import Headers, RequestHead, UpstreamEvent, Writable
from spooky.protocol.upstream import (
    ASSUMED_STREAMS,
    DEFAULT_WINDOW,
    HIGHEST_STREAM,
    LARGEST_WINDOW,
    MOST_REPLIES,
    H2Limits,
)

_MOST_ABANDONED: Final = 1024


@dataclass(slots=True)
class Stream(ResponseStream):
    """An open stream, with its windows."""

    room: int = 0
    """Octets that the backend takes; less than none after it has made its window smaller."""
    window: int = 0
    """Octets that the backend may send."""
    peer_ended: bool = False


class Sender:
    """The sending half of a connection."""

    def __init__(self, limits: H2Limits) -> None:
        self._limits = limits
        self._streams: dict[int, Stream] = {}
        self._abandoned: dict[int, int] = {}
        """Streams that were reset, and how much their windows still take of what is on its way."""
        self._next_stream = 1
        self._blocked: dict[int, None] = {}
        self._turn = 0
        self._peer_streams = ASSUMED_STREAMS
        self._peer_window = DEFAULT_WINDOW
        self._peer_frame = SMALLEST_MAX_FRAME
        self._room = DEFAULT_WINDOW
        """Octets that the backend takes on all streams together."""
        self._window = max(limits.connection_window, DEFAULT_WINDOW)
        """Octets that the backend may send on all streams together."""
        self._empty = 0
        """Frames in a row that brought nothing, since we last did something to be answered."""
        self._replies = 0
        """What the backend has caused, and did not take yet."""
        self._going_away = self._closed = False
        self._events: list[UpstreamEvent] = []
        self._encoder = FieldEncoder()
        self._out: list[bytes | memoryview] = [write_preface(limits, self._window - DEFAULT_WINDOW)]

    def data_to_send(self) -> bytes:
        """Take what is to be written to the transport now."""
        out = self._out
        if not out:
            return b""
        self._replies = 0
        data = b"".join(out)
        out.clear()
        return data

    def can_open(self) -> bool:
        """Say whether the peer takes another stream: not closing, limit not reached."""
        return (
            len(self._streams) < min(self._peer_streams, self._limits.max_streams)
            and not self._going_away
            and not self._closed
            and self._next_stream <= HIGHEST_STREAM
        )

    def open_streams(self) -> int:
        """Count the streams that are open."""
        return len(self._streams)

    def send_request(self, head: RequestHead) -> int:
        """Open a stream with the request's head (its `stream` is ignored); return its number."""
        number = self._next_stream
        self._next_stream += 2
        self._streams[number] = Stream(
            number,
            self._limits.header_bytes,
            head.method == b"HEAD",
            head.end,
            room=self._peer_window,
            window=self._limits.stream_window,
        )
        block = self._encoder.encode(request_fields(head))
        self._out += write_section(number, block, self._peer_frame, end=head.end)
        return number

    def send_body(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send content, at most `writable(stream)` octets of it."""
        state = self._streams.get(stream)
        if state is None or state.sent_end:
            return
        out, most, size = self._out, self._peer_frame, len(data)
        if size <= most:
            out += write_header(size, DATA, END_STREAM if end else 0, stream), data
        else:
            view = memoryview(data)
            for start in range(0, size, most):
                part = view[start : start + most]
                flags = END_STREAM if end and start + most >= size else 0
                out += write_header(len(part), DATA, flags, stream), part
        if size:
            state.room -= size
            self._room -= size
            self._empty = 0
        if end:
            self._sent_end(state)

    def send_trailers(self, stream: int, headers: Headers) -> None:
        """Send the trailer section, which ends the request."""
        state = self._streams.get(stream)
        if state is not None and not state.sent_end:
            block = self._encoder.encode(headers)
            self._out += write_section(stream, block, self._peer_frame, end=True)
            self._sent_end(state)

    def writable(self, stream: int) -> int:
        """Say how many octets flow control lets the stream send now."""
        state = self._streams.get(stream)
        if state is None or state.sent_end or self._closed:
            return 0
        room = min(self._room, state.room)
        if room > 0:
            return room
        self._blocked[stream] = None
        return 0

    def consume(self, stream: int, count: int) -> None:
        """Give back flow-control credit of the stream. The connection's is given at once."""
        state = self._streams.get(stream)
        if state is None or state.peer_ended or state.broken:
            return
        state.owed += count
        if state.owed >= self._limits.stream_window // 2:
            self._out.append(write_word(WINDOW_UPDATE, stream, state.owed))
            state.window += state.owed
            state.owed = 0

    def reset(self, stream: int, code: int) -> None:
        """Abandon the stream (RST_STREAM)."""
        state = self._streams.get(stream)
        if state is None:
            return
        # A fault in the message's last frame leaves a stream that has ended.
        if not (self._closed or (state.peer_ended and state.sent_end)):
            self._out.append(write_word(RST_STREAM, stream, code))
        self._abandon(stream)

    def ping(self, payload: bytes) -> None:
        """Send a PING with 8 octets, answered by `Pong`."""
        self._empty = 0
        self._out.append(write_frame(PING, 0, 0, payload))

    def close(self, code: int = 0) -> None:
        """Send GOAWAY; the transport may be closed once `data_to_send` is written."""
        if not self._closed:
            self._closed = True
            self._out.append(write_goaway(code))

    # --- windows ----------------------------------------------------------------------------

    def _resize_windows(self, size: int) -> None:
        """Take the backend's INITIAL_WINDOW_SIZE (RFC 9113 section 6.9.2)."""
        change = size - self._peer_window
        self._peer_window = size
        for state in self._streams.values():
            state.room += change
            if state.room > LARGEST_WINDOW:
                raise Breach(H2Code.FLOW_CONTROL_ERROR, "a stream's window is too large")

    def _unblock_all(self) -> None:
        """Tell the streams that wait, each time from another one on, for the first takes most."""
        waiting = list(self._blocked)
        if not waiting:
            return
        self._turn += 1
        start = self._turn % len(waiting)
        for number in waiting[start:] + waiting[:start]:
            self._unblock(self._streams[number])

    def _unblock(self, state: Stream) -> None:
        if state.room > 0 and self._room > 0:
            del self._blocked[state.number]
            self._events.append(Writable(state.number))

    # --- the life of a stream ---------------------------------------------------------------

    def _sent_end(self, state: Stream) -> None:
        state.sent_end = True
        self._blocked.pop(state.number, None)
        if state.got_end:
            self._forget(state.number)

    def _forget(self, number: int) -> None:
        self._streams.pop(number, None)
        self._blocked.pop(number, None)

    def _abandon(self, number: int) -> None:
        self._abandoned[number] = self._streams[number].window
        self._forget(number)
        if len(self._abandoned) > _MOST_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def _reply(self, frame: bytes) -> None:
        """Send what the backend has caused, as long as it takes it."""
        self._replies += 1
        if self._replies > MOST_REPLIES:
            raise Breach(H2Code.ENHANCE_YOUR_CALM, "it causes more replies than it takes")
        self._out.append(frame)
