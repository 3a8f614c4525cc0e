"""HTTP/2 (RFC 9113) towards a backend, with nothing between octets and events.

It owns what a backend sends on one connection; what it is sent is in `lean_sender`. Frames are
cut by `lean_cutter`, header blocks are read by `lean_sections`, the parts of a message are judged
by `h2_response`.

Rules: whatever a backend sends ends in an event, never in an exception; the connection's window
is given back as octets arrive, a stream's only by `consume`, so that a response that nobody takes
costs one stream window and holds up no other. A fault of a message is `Malformed` and its stream's
end only; where the message has been told already, the stream is reset here.
"""

from spooky.errors import H2Code
from spooky.protocol.h2_fields import FieldError
from spooky.protocol.lean_cutter import Cutter, Taker
from spooky.protocol.lean_frames import (
    ACK,
    END_STREAM,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Breach,
    read_goaway,
    read_settings,
    read_word,
    trim,
    write_frame,
    write_word,
)
from spooky.protocol.lean_sections import SectionReader
from spooky.protocol.lean_sender import Sender, Stream
from spooky.protocol.messages import (
    Closed,
    GoAway,
    LimitChanged,
    Pong,
    Ready,
    Reset,
    UpstreamEvent,
)
from spooky.protocol.upstream import (
    EMPTY_FRAME_OCTETS,
    LARGEST_WINDOW,
    MOST_EMPTY_FRAMES,
    H2Limits,
    describe_stranger,
)

_NO_LIMIT = 2**32


class LeanEngine(Sender):
    """One HTTP/2 connection to a backend; implements `messages.UpstreamEngine`."""

    def __init__(self, limits: H2Limits) -> None:
        super().__init__(limits)
        self._owed = 0
        self._ready = False
        self._sections = SectionReader(limits.header_bytes)
        self._cutter = Cutter(self._takers(), limits.max_frame, self._sections.largest_block)

    def _takers(self) -> tuple[Taker, ...]:
        """List who takes a frame, by its type."""
        return (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_reset,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window,
            self._on_continuation,
            self._on_unknown,
        )

    # --- the transport's side ---------------------------------------------------------------

    def receive(self, data: bytes) -> list[UpstreamEvent]:
        """Take octets of the transport; return what they meant, in order. b"" is end of file."""
        if self._closed:
            return []
        if not data:
            self._finish()
        else:
            try:
                self._cutter.feed(data)
            except Breach as breach:
                self._fail(breach.code, str(breach))
            except Exception as error:  # whatever we trip over, this connection pays for it
                self._fail(H2Code.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        events, self._events = self._events, []
        return events

    def _fail(self, code: int, reason: str) -> None:
        self.close(code)
        self._events.append(Closed(code, reason, by_peer=False))

    def _finish(self) -> None:
        self._closed = True
        unparsed = self._cutter.unparsed()
        if not self._ready:
            reason = describe_stranger(unparsed)
        elif unparsed:
            reason = "it closed the connection in the middle of a frame"
        elif self._streams:
            reason = "it closed the connection"
        else:
            reason = ""
        self._events.append(Closed(H2Code.NO_ERROR, reason, by_peer=True))

    # --- frames of messages -----------------------------------------------------------------

    def _on_data(self, flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        credit = end - start
        self._window -= credit
        if self._window < 0:
            raise Breach(H2Code.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        self._owed += credit
        if self._owed >= self._limits.connection_window // 4:
            self._out.append(write_word(WINDOW_UPDATE, 0, self._owed))
            self._window += self._owed
            self._owed = 0
        if flags & PADDED:
            start, end = trim(PADDED, data, start, end)
        state = self._message_of(stream, "DATA")
        if state is None:
            self._count_late(stream, credit)
            return
        state.window -= credit
        if state.window < 0:
            raise Breach(H2Code.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        ended = state.peer_ended = bool(flags & END_STREAM)
        if end == start and not ended and state.got_head:
            self._count_empty(credit)
            self.consume(stream, credit)
            return
        self._empty = 0
        self._tell(state, state.content(data[start:end], credit, end=ended))

    def _on_headers(self, flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        if flags & (PADDED | PRIORITY):
            start, end = trim(flags, data, start, end)
        state = self._message_of(stream, "HEADERS", end - start)
        block = data[start:end]
        if state is None:
            self._sections.fields(block)
            return
        self._empty = 0
        ended = state.peer_ended = bool(flags & END_STREAM)
        if state.got_head:
            self._tell(state, state.trailers(self._sections.fields(block), end=ended))
            return
        try:
            status, headers, length = self._sections.head(block)
        except FieldError as error:
            self._tell(state, state.malformed(str(error)))
            return
        if status >= 200:
            self._tell(state, state.final(status, headers.copy(), length, end=ended))
            return
        self._tell(state, state.not_yet(status, headers.copy()))
        if ended and not state.broken:
            self._tell(state, state.malformed("an interim response ended the stream"))

    def _message_of(self, number: int, what: str, octets: int = 0) -> Stream | None:
        """Return the stream that takes a frame of a message; None: nobody is to hear of it.

        `octets` is what the frame costs us, taken or not.

        Raises:
            Breach: the stream was never opened, or has long ended (RFC 9113 section 5.1).
        """
        state = self._streams.get(number)
        if state is not None and not state.peer_ended and not state.broken:
            return state
        self._count_empty(octets)
        if state is not None:
            if not state.broken:
                self._fault(state, H2Code.STREAM_CLOSED, f"{what} after the end")
        elif number not in self._abandoned:
            self._check_opened(number, what)
            raise Breach(H2Code.STREAM_CLOSED, f"{what} on a stream that has ended")
        return None

    def _count_late(self, number: int, octets: int) -> None:
        """Hold content of a stream that was reset against the window that it had."""
        if number in self._abandoned:
            self._abandoned[number] -= octets
            if self._abandoned[number] < 0:
                raise Breach(H2Code.FLOW_CONTROL_ERROR, "more DATA than the window of a stream")

    def _check_opened(self, number: int, what: str) -> None:
        if not number & 1 or number >= self._next_stream:
            raise Breach(H2Code.PROTOCOL_ERROR, f"{what} on stream {number}, which is not open")

    def _tell(self, state: Stream, event: UpstreamEvent) -> None:
        self._events.append(event)
        if state.got_end and state.sent_end:
            self._forget(state.number)

    # --- frames of streams ------------------------------------------------------------------

    def _on_reset(self, _flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        self._count_empty()
        code = read_word(data, start, end, "RST_STREAM")
        self._check_opened(stream, "RST_STREAM")
        if stream in self._streams:
            self._abandon(stream)
            self._events.append(Reset(stream, code, unprocessed=code == H2Code.REFUSED_STREAM))

    def _on_window(self, _flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        self._count_empty()
        increment = read_word(data, start, end, "WINDOW_UPDATE") & LARGEST_WINDOW
        if stream == 0:
            if not increment:
                raise Breach(H2Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._room += increment
            if self._room > LARGEST_WINDOW:
                raise Breach(H2Code.FLOW_CONTROL_ERROR, "the connection's window is too large")
            self._unblock_all()
            return
        self._check_opened(stream, "WINDOW_UPDATE")
        state = self._streams.get(stream)
        if state is None:
            return
        state.room += increment
        if not increment:
            self._fault(state, H2Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        elif state.room > LARGEST_WINDOW:
            self._fault(state, H2Code.FLOW_CONTROL_ERROR, "the stream's window is too large")
        elif stream in self._blocked:
            self._unblock(state)

    def _on_priority(self, _flags: int, stream: int, _data: bytes, start: int, end: int) -> None:
        self._count_empty(end - start)
        if stream == 0:
            raise Breach(H2Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        state = self._streams.get(stream)
        if end - start != 5 and state is not None:
            self._fault(state, H2Code.FRAME_SIZE_ERROR, f"PRIORITY of {end - start} octets")

    def _fault(self, state: Stream, code: H2Code, reason: str) -> None:
        """Blame a stream (RFC 9113 section 5.4.2)."""
        if state.got_end:
            self._reply(write_word(RST_STREAM, state.number, code))
            self._abandon(state.number)
            self._events.append(Reset(state.number, code))
        elif not state.broken:
            self._events.append(state.malformed(reason))

    # --- frames of the connection -----------------------------------------------------------

    def _on_settings(self, flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        self._count_empty(end - start)
        _check_connection(stream, "SETTINGS")
        if flags & ACK:
            if end > start:
                raise Breach(H2Code.FRAME_SIZE_ERROR, "SETTINGS that is an answer, with content")
            return
        first = not self._ready
        if first:
            self._ready = True
            self._peer_streams = _NO_LIMIT
        settings = dict(read_settings(data, start, end))
        self._peer_frame = settings.get(MAX_FRAME_SIZE, self._peer_frame)
        if HEADER_TABLE_SIZE in settings:
            self._encoder.header_table_size = settings[HEADER_TABLE_SIZE]
        self._peer_streams = settings.get(MAX_CONCURRENT_STREAMS, self._peer_streams)
        if first:
            self._events.append(Ready())
        if first or MAX_CONCURRENT_STREAMS in settings:
            self._events.append(LimitChanged(min(self._peer_streams, self._limits.max_streams)))
        self._reply(write_frame(SETTINGS, ACK, 0, b""))
        if INITIAL_WINDOW_SIZE in settings:
            self._resize_windows(settings[INITIAL_WINDOW_SIZE])
            self._unblock_all()

    def _on_ping(self, flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        self._count_empty()
        _check_connection(stream, "PING")
        if end - start != 8:
            raise Breach(H2Code.FRAME_SIZE_ERROR, f"PING of {end - start} octets")
        if flags & ACK:
            self._events.append(Pong(data[start:end]))
        else:
            self._reply(write_frame(PING, ACK, 0, data[start:end]))

    def _on_goaway(self, _flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        self._count_empty(end - start)
        _check_connection(stream, "GOAWAY")
        last, code = read_goaway(data, start, end)
        self._going_away = True
        for number in [number for number in self._streams if number > last]:
            # No RST_STREAM: to the peer this stream may never have been.
            self._abandon(number)
            self._events.append(Reset(number, H2Code.REFUSED_STREAM, unprocessed=True))
        self._events.append(GoAway(last, code))

    def _on_push_promise(self, *_frame: object) -> None:
        raise Breach(H2Code.PROTOCOL_ERROR, "a server pushed, which was forbidden to it")

    def _on_continuation(self, *_frame: object) -> None:
        raise Breach(H2Code.PROTOCOL_ERROR, "CONTINUATION of nothing")

    def _on_unknown(self, _flags: int, _stream: int, _data: bytes, start: int, end: int) -> None:
        self._count_empty(end - start)

    def _count_empty(self, octets: int = 0) -> None:
        """Bound the frames in a row that bring no message further."""
        self._empty += 1 + octets // EMPTY_FRAME_OCTETS
        if self._empty > MOST_EMPTY_FRAMES:
            raise Breach(H2Code.ENHANCE_YOUR_CALM, "a flood of frames that carry nothing")


def _check_connection(stream: int, what: str) -> None:
    if stream:
        raise Breach(H2Code.PROTOCOL_ERROR, f"{what} on stream {stream}")
