"""HTTP/2 (RFC 9113) towards a backend, over the h2 library: the upstream engine.

It owns one connection's streams, flow control and limits, and turns h2's events into those of
`messages`. Frames are cut by `h2_frames`, fields are checked by `h2_fields`, and what h2 itself
does otherwise than a proxy needs is in `h2_library`.

Rules: whatever a backend sends ends in an event, never in an exception; the connection's window
is given back as octets arrive, a stream's only by `consume`, so that a response that nobody takes
costs one stream window and holds up no other.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    PingReceived,
    PushedStreamReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import DenialOfServiceError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes
from hpack import HPACKError
from hyperframe.exceptions import HyperframeError, InvalidFrameError

from spooky.errors import H2Code
from spooky.protocol.h2_fields import request_fields
from spooky.protocol.h2_frames import FrameReader
from spooky.protocol.h2_library import Connection
from spooky.protocol.h2_response import ResponseStream
from spooky.protocol.messages import (
    Closed,
    GoAway,
    Headers,
    LimitChanged,
    Pong,
    Ready,
    RequestHead,
    Reset,
    UpstreamEvent,
    Writable,
)
from spooky.protocol.upstream import (
    ASSUMED_STREAMS,
    DEFAULT_WINDOW,
    HIGHEST_STREAM,
    MOST_REPLIES,
    H2Limits,
    describe_stranger,
)

_PRUNE_EVERY = 256


class H2Engine:
    """One HTTP/2 connection to a backend; implements `messages.UpstreamEngine`."""

    def __init__(self, limits: H2Limits) -> None:
        self._limits = limits
        self._streams: dict[int, ResponseStream] = {}
        self._next_stream = 1
        self._peer_streams = ASSUMED_STREAMS
        self._blocked: dict[int, None] = {}
        self._turn = 0
        self._owed = 0
        self._forgotten = 0
        self._replies = 0
        self._ready = False
        self._going_away = False
        self._closed = False
        self._events: list[UpstreamEvent] = []
        # A section that is over the limit is a fault of its stream, unless it is far over: then
        # HPACK gives up, and with it the connection.
        self._reader = FrameReader(limits.max_frame, 4 * limits.header_bytes)
        self._h2 = self._start(limits)
        self._actions: dict[type[Event], Callable[[Any], None]] = {
            ResponseReceived: self._on_head,
            DataReceived: self._on_data,
            TrailersReceived: self._on_trailers,
            InformationalResponseReceived: self._on_interim,
            StreamEnded: self._on_end,
            StreamReset: self._on_reset,
            WindowUpdated: self._on_window,
            RemoteSettingsChanged: self._on_settings,
            PingReceived: self._on_ping,
            PingAckReceived: self._on_pong,
            ConnectionTerminated: self._on_goaway,
            RequestReceived: self._on_foreign,
            PushedStreamReceived: self._on_foreign,
        }

    @staticmethod
    def _start(limits: H2Limits) -> Connection:
        connection = Connection(
            {
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window,
                SettingCodes.MAX_FRAME_SIZE: limits.max_frame,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_bytes,
            },
            decoded_bytes=4 * limits.header_bytes,
        )
        connection.initiate_connection()
        if limits.connection_window > DEFAULT_WINDOW:
            connection.increment_flow_control_window(limits.connection_window - DEFAULT_WINDOW)
        return connection

    # --- the transport's side ---------------------------------------------------------------

    def receive(self, data: bytes) -> list[UpstreamEvent]:
        """Take octets of the transport; return what they meant, in order. b"" is end of file."""
        if self._closed:
            return []
        if data:
            self._receive(data)
        else:
            self._finish()
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """Take what is to be written to the transport now."""
        self._replies = 0
        return self._h2.data_to_send()

    def _receive(self, data: bytes) -> None:
        reader, connection, actions = self._reader, self._h2, self._actions
        try:
            reader.feed(data)
            while (frame := reader.next_frame()) is not None:
                for event in connection.receive_frame(frame):
                    action = actions.get(type(event))
                    if action is not None:
                        action(event)
        except ProtocolError as error:
            self._fail(_code_of(error), str(error))
        except HyperframeError as error:
            is_size = isinstance(error, InvalidFrameError)
            self._fail(H2Code.FRAME_SIZE_ERROR if is_size else H2Code.PROTOCOL_ERROR, str(error))
        except Exception as error:  # whatever a library trips over, this connection pays for it
            self._fail(H2Code.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def _fail(self, code: int, reason: str) -> None:
        self._closed = True
        self._h2.close_connection(code)
        self._events.append(Closed(code, reason, by_peer=False))

    def _finish(self) -> None:
        self._closed = True
        if not self._ready:
            reason = describe_stranger(self._reader.unparsed())
        elif self._reader.unparsed():
            reason = "it closed the connection in the middle of a frame"
        elif self._streams:
            reason = "it closed the connection"
        else:
            reason = ""
        self._events.append(Closed(H2Code.NO_ERROR, reason, by_peer=True))

    # --- the verbs --------------------------------------------------------------------------

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
        self._streams[number] = ResponseStream(
            number, self._limits.header_bytes, head.method == b"HEAD", head.end
        )
        self._h2.open_stream(number)
        self._h2.send_headers(number, request_fields(head), end_stream=head.end)
        return number

    def send_body(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send content, at most `writable(stream)` octets of it."""
        state = self._streams.get(stream)
        if state is None or state.sent_end:
            return
        size = self._h2.max_outbound_frame_size
        if len(data) <= size:
            self._h2.send_data(stream, data, end_stream=end)
        else:
            view = memoryview(data)
            for start in range(0, len(data), size):
                last = end and start + size >= len(data)
                self._h2.send_data(stream, view[start : start + size], end_stream=last)
        if data:
            self._reader.note_progress()
        if end:
            self._sent_end(stream, state)

    def send_trailers(self, stream: int, headers: Headers) -> None:
        """Send the trailer section, which ends the request."""
        state = self._streams.get(stream)
        if state is not None and not state.sent_end:
            self._h2.send_headers(stream, headers, end_stream=True)
            self._sent_end(stream, state)

    def writable(self, stream: int) -> int:
        """Say how many octets flow control lets the stream send now."""
        state = self._streams.get(stream)
        if state is None or state.sent_end or self._closed:
            return 0
        room = self._h2.local_flow_control_window(stream)
        if room > 0:
            return room
        self._blocked[stream] = None
        return 0

    def consume(self, stream: int, count: int) -> None:
        """Give back flow-control credit of the stream. The connection's is given at once."""
        state = self._streams.get(stream)
        if state is None or state.got_end or state.broken:
            return
        state.owed += count
        if state.owed >= self._limits.stream_window // 2:
            self._h2.increment_flow_control_window(state.owed, stream)
            state.owed = 0

    def reset(self, stream: int, code: int) -> None:
        """Abandon the stream (RST_STREAM)."""
        if self._streams.pop(stream, None) is None or self._closed:
            return
        # A fault in the message's last frame leaves h2 with a stream that has ended.
        with suppress(StreamClosedError):
            self._h2.reset_stream(stream, code)
        self._forget(stream)

    def ping(self, payload: bytes) -> None:
        """Send a PING with 8 octets, answered by `Pong`."""
        self._reader.note_progress()
        self._h2.ping(payload)

    def close(self, code: int = 0) -> None:
        """Send GOAWAY; the transport may be closed once `data_to_send` is written."""
        if not self._closed:
            self._closed = True
            self._h2.close_connection(code)

    # --- what h2 tells ----------------------------------------------------------------------

    def _message_of(self, number: int) -> ResponseStream | None:
        state = self._streams.get(number)
        return None if state is None or state.broken else state

    def _tell(self, state: ResponseStream, event: UpstreamEvent) -> None:
        self._reader.note_progress()
        self._events.append(event)
        if state.got_end and state.sent_end:
            self._forget(state.number)

    def _on_head(self, event: ResponseReceived) -> None:
        if (state := self._message_of(event.stream_id)) is not None:
            self._tell(state, state.head(event.headers, end=event.stream_ended is not None))

    def _on_interim(self, event: InformationalResponseReceived) -> None:
        if (state := self._message_of(event.stream_id)) is not None:
            self._tell(state, state.interim(event.headers))

    def _on_data(self, event: DataReceived) -> None:
        credit = event.flow_controlled_length
        self._owed += credit
        if self._owed >= self._limits.connection_window // 4:
            self._h2.increment_flow_control_window(self._owed)
            self._owed = 0
        if (state := self._message_of(event.stream_id)) is None:
            return
        if event.data or event.stream_ended is not None or not state.got_head:
            end = event.stream_ended is not None
            self._tell(state, state.content(event.data, credit, end=end))
        else:
            self.consume(event.stream_id, credit)

    def _on_trailers(self, event: TrailersReceived) -> None:
        if (state := self._message_of(event.stream_id)) is not None:
            end = event.stream_ended is not None
            self._tell(state, state.trailers(event.headers, end=end))

    def _on_end(self, event: StreamEnded) -> None:
        """Tell of an end without a message; the others were told of with their last frame."""
        state = self._message_of(event.stream_id)
        if state is not None and not state.got_head:
            self._tell(state, state.malformed("an interim response ended the stream"))

    def _on_reset(self, event: StreamReset) -> None:
        number = event.stream_id
        if number in self._streams:
            code = int(event.error_code or 0)
            refused = code == H2Code.REFUSED_STREAM and event.remote_reset
            self._forget(number)
            self._events.append(Reset(number, code, unprocessed=refused))

    def _on_window(self, event: WindowUpdated) -> None:
        if event.stream_id == 0:
            self._unblock_all()
        elif event.stream_id in self._blocked:
            self._unblock(event.stream_id)

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self._count_reply()
        self._peer_streams = self._h2.remote_settings.max_concurrent_streams
        if not self._ready:
            self._ready = True
            self._events.append(Ready())
            self._events.append(LimitChanged(min(self._peer_streams, self._limits.max_streams)))
        elif SettingCodes.MAX_CONCURRENT_STREAMS in event.changed_settings:
            self._events.append(LimitChanged(min(self._peer_streams, self._limits.max_streams)))
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            self._unblock_all()

    def _on_ping(self, _event: PingReceived) -> None:
        self._count_reply()

    def _count_reply(self) -> None:
        """Bound what h2 has answered of itself, as long as nobody takes it."""
        self._replies += 1
        if self._replies > MOST_REPLIES:
            error = DenialOfServiceError("it causes more replies than it takes")
            error.error_code = ErrorCodes.ENHANCE_YOUR_CALM
            raise error

    def _on_pong(self, event: PingAckReceived) -> None:
        self._events.append(Pong(event.ping_data))

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        last = (event.last_stream_id or 0) & HIGHEST_STREAM
        self._going_away = True
        for number in [number for number in self._streams if number > last]:
            # No RST_STREAM: to the peer this stream may never have been.
            self._h2.streams.pop(number, None)
            self._forget(number)
            self._events.append(Reset(number, H2Code.REFUSED_STREAM, unprocessed=True))
        self._events.append(GoAway(last, int(event.error_code or 0)))

    @staticmethod
    def _on_foreign(event: RequestReceived | PushedStreamReceived) -> None:
        raise ProtocolError(f"a server opened a stream: {type(event).__name__}")

    # --- the life of a stream ---------------------------------------------------------------

    def _sent_end(self, number: int, state: ResponseStream) -> None:
        state.sent_end = True
        self._blocked.pop(number, None)
        if state.got_end:
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._streams.pop(number, None)
        self._blocked.pop(number, None)
        self._forgotten += 1
        if self._forgotten % _PRUNE_EVERY == 0:
            self._h2.forget_closed()

    def _unblock_all(self) -> None:
        """Tell the streams that wait, each time from another one on, for the first takes most."""
        waiting = list(self._blocked)
        if not waiting:
            return
        self._turn += 1
        start = self._turn % len(waiting)
        for number in waiting[start:] + waiting[:start]:
            self._unblock(number)

    def _unblock(self, number: int) -> None:
        if self._h2.local_flow_control_window(number) > 0:
            del self._blocked[number]
            self._events.append(Writable(number))


def _code_of(error: ProtocolError) -> int:
    """Return what a fault is called; h2 has one name for all that HPACK cannot decode."""
    is_broken = isinstance(error.__cause__, HPACKError)
    if is_broken and not isinstance(error, DenialOfServiceError):
        return H2Code.COMPRESSION_ERROR
    return error.error_code
