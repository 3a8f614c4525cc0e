"""The `DownstreamEngine` that stands on aioquic: its connection, our HTTP/3, one vocabulary.

It translates QUIC events into messages and verbs into QUIC calls, and keeps watch over how full
the streams are. It owns no protocol rule: those of QUIC are in `quic/`, of HTTP/3 in `h3.py`.
"""

from collections.abc import Iterable
from functools import partial

from aioquic.quic import events as quic
from aioquic.quic.configuration import QuicConfiguration

from spooky.errors import H3Code
from spooky.protocol.downstream import Begin, Retried, ServerSettings
from spooky.protocol.h3 import H3Session
from spooky.protocol.h3_control import H3ConnectionError, H3Limits
from spooky.protocol.messages import (
    BoundReached,
    CidIssued,
    CidRetired,
    Closed,
    DownstreamEvent,
    Headers,
    Path,
    Ready,
    StreamsBlocked,
    Writable,
)
from spooky.protocol.quic import ServerConnection, StreamData, StreamsWanted, configuration_of

IDLE_TIMEOUT_REASON = "Idle timeout"

_STATUS = {code: str(code).encode() for code in range(100, 1000)}


def listen(settings: ServerSettings) -> Begin:
    """Make of a listener's settings what begins its connections."""
    return partial(AioquicEngine, settings, configuration_of(settings))


class AioquicEngine:
    """One client connection (see `messages.DownstreamEngine` for the verbs)."""

    def __init__(
        self,
        settings: ServerSettings,
        configuration: QuicConfiguration,
        original_destination_cid: bytes,
        retried: Retried | None = None,
    ) -> None:
        """Serve a client whose first packet had `original_destination_cid`.

        `retried` is what it proved by a token, if it brought one.
        """
        self._quic = ServerConnection(settings, configuration, original_destination_cid, retried)
        limits = H3Limits(
            settings.header_bytes, settings.qpack_table, settings.qpack_blocked_streams
        )
        self._h3 = H3Session(self._quic, limits, self._quic.floods)
        self._send_buffer = settings.send_buffer
        self._full: set[int] = set()
        """Streams whose user was told that there is no room."""
        self._opened = False
        self._closed = False

    # --- in and out -------------------------------------------------------------------------

    def receive(self, datagrams: Iterable[tuple[bytes, Path]], now: float) -> list[DownstreamEvent]:
        """Take a batch of datagrams; return what they meant, in order."""
        self._quic.receive(datagrams, now)
        return self.events()

    def handle_timer(self, now: float) -> list[DownstreamEvent]:
        """Act on a deadline that has passed."""
        self._quic.handle_timer(now)
        return self.events()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Path]]:
        """Take what is to be sent now."""
        if self._opened:
            self._h3.responses.flush()
        return self._quic.datagrams_to_send(now)

    def deadline(self) -> float | None:
        """Say when `handle_timer` is due; None: the connection is over and may be forgotten."""
        return self._quic.get_timer()

    def events(self) -> list[DownstreamEvent]:
        """Take what has come up since the last call."""
        found: list[DownstreamEvent] = []
        if self._closed:
            return found
        next_event = self._quic.next_event
        while (event := next_event()) is not None:
            try:
                self._translate(event, found)
            except H3ConnectionError as error:
                self.close(error.code, error.reason)
                break
        if self._full:
            self._watch(found)
        if (closing := self._quic.closing()) is not None:
            if (bound := self._quic.floods.reached) is not None:
                found.append(BoundReached(bound))
            found.append(self._close_event(*closing))
        return found

    def _translate(self, event: quic.QuicEvent, found: list[DownstreamEvent]) -> None:
        match event:
            case StreamData() if self._opened:
                data = b"".join(event.pieces)
                found += self._h3.receive(event.stream_id, data, event.end_stream)
            case quic.StreamDataReceived() | quic.StreamReset() | quic.StopSendingReceived():
                found += self._translate_stream(event)
            case quic.ProtocolNegotiated():
                self._opened = True
                self._h3.open()
            case quic.HandshakeCompleted():
                version = self._quic.negotiated_version()
                name, alpn = self._quic.server_name, event.alpn_protocol
                found.append(Ready(name, alpn, version, event.session_resumed))
            case quic.ConnectionIdIssued():
                found.append(CidIssued(event.connection_id))
            case StreamsWanted():
                found.append(StreamsBlocked())
            case quic.ConnectionIdRetired():
                found.append(CidRetired(event.connection_id))
            case _:
                pass

    def _translate_stream(
        self, event: quic.StreamDataReceived | quic.StreamReset | quic.StopSendingReceived
    ) -> list[DownstreamEvent]:
        if isinstance(event, quic.StreamReset):
            self._quic.credit_reset(event.stream_id)
        if not self._opened:
            return []
        match event:
            case quic.StreamDataReceived():
                return self._h3.receive(event.stream_id, event.data, event.end_stream)
            case quic.StreamReset():
                return self._h3.reset_received(event.stream_id, event.error_code)
            case _:
                self._full.discard(event.stream_id)
                return self._h3.stop_received(event.stream_id, event.error_code)

    def _watch(self, found: list[DownstreamEvent]) -> None:
        """Tell of streams that have drained to half of their buffer."""
        for stream in list(self._full):
            if self.unacknowledged(stream) * 2 <= self._send_buffer:
                self._full.discard(stream)
                found.append(Writable(stream))

    def _close_event(self, code: int, reason: str, by_peer: bool) -> Closed:
        self._closed = True
        self._full.clear()
        if reason == IDLE_TIMEOUT_REASON:
            return Closed(0, "idle timeout", by_peer=False)
        if code in (0, H3Code.NO_ERROR):
            return Closed(0, reason, by_peer)
        return Closed(code, reason, by_peer)

    def connection_ids(self) -> list[bytes]:
        """List the connection IDs of ours that the client may write to."""
        return self._quic.connection_ids()

    def path(self) -> Path | None:
        """Return the path in use that the client has proved to be its own; None: not yet."""
        return self._quic.validated_path()

    def is_ready(self) -> bool:
        """Say whether requests can be taken, and HTTP/3 frames sent."""
        return self._opened and not self._closed

    # --- verbs ------------------------------------------------------------------------------

    def send_interim(self, stream: int, status: int, headers: Headers) -> None:
        """Send an interim response."""
        fields = [(b":status", _STATUS[status]), *headers]
        self._h3.responses.send_section(stream, fields, end=False, last=False)

    def send_head(self, stream: int, status: int, headers: Headers, *, end: bool) -> None:
        """Send the final response's head."""
        fields = [(b":status", _STATUS[status]), *headers]
        self._h3.responses.send_section(stream, fields, end=end, last=True)

    def send_body(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send content."""
        self._h3.responses.send_data(stream, data, end=end)

    def send_trailers(self, stream: int, headers: Headers) -> None:
        """Send the trailer section, which ends the response."""
        self._h3.responses.send_section(stream, headers, end=True, last=True)

    def writable(self, stream: int) -> int:
        """Say how many octets the stream may still take before the caller should wait."""
        room = self._send_buffer - self.unacknowledged(stream)
        if room <= 0:
            self._full.add(stream)
            return 0
        return room

    def unacknowledged(self, stream: int) -> int:
        """Count the octets of the response that the client has not confirmed yet."""
        return self._quic.buffered(stream) + self._h3.responses.unsent(stream)

    def held_up(self) -> dict[int, int]:
        """Say what the client keeps waiting, and how much of it it has taken so far."""
        return self._quic.held_up()

    def consume(self, stream: int, count: int) -> None:
        """Give back flow-control credit for `count` octets that were passed on."""
        self._h3.consume(stream, count)

    def reset(self, stream: int, code: int) -> None:
        """Abandon both halves of the stream."""
        self._full.discard(stream)
        self._h3.reset(stream, code)
        if not stream & 3:
            # HTTP/3 knows nothing any more of a response that it has handed on whole.
            self._quic.reset(stream, code)

    def stop(self, stream: int, code: int) -> None:
        """Ask the client to send no more of the request."""
        self._h3.stop(stream, code)

    def goaway(self) -> None:
        """Say that no more requests are welcome; from the second call on refuse them."""
        if self.is_ready():
            self._h3.goaway()

    def close(self, code: int, reason: str = "") -> None:
        """Close the connection with an HTTP/3 error code."""
        self._quic.close(error_code=code, reason_phrase=reason)

    def is_idle(self) -> bool:
        """Say whether no request is open, and the client has all that it was sent.

        A stream whose head has not come is no request.
        """
        return self._h3.is_idle() and not self._quic.has_unacknowledged()

    def held(self) -> int:
        """Count the octets that are kept for the client."""
        return self._quic.held() + self._h3.held()

    def probe_timeout(self) -> float:
        """Return the seconds after which something lost is noticed."""
        return self._quic.probe_timeout()

    def release(self) -> None:
        """Let go of everything, once the connection is over; no other verb may follow."""
        self._quic.release()
