"""The QUIC connection: aioquic's, with what a proxy needs and aioquic has no hook for.

It owns connection IDs that carry the slot, reset tokens derived from them, certificates chosen by
server name, how full a stream's send buffer is, and the end. How it receives, sends, gives credit
and lets go of memory is in the classes that it is made of. It never parses HTTP.
"""

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    QuicConnectionAdapter,
    QuicConnectionId,
    QuicReceiveContext,
    logger,
)
from aioquic.quic.events import QuicEvent

from spooky.protocol.cid import CID_LENGTH, mint, reset_token
from spooky.protocol.downstream import Retried, ServerSettings
from spooky.protocol.flood import Floods
from spooky.protocol.messages import ALL_STREAMS, Path
from spooky.protocol.quic.frame_handlers import FrameHandlers
from spooky.protocol.quic.pacing import Pacer
from spooky.protocol.quic.path_mtu import MtuSearch
from spooky.protocol.quic.receiving import Receiving
from spooky.protocol.quic.sending import Sending
from spooky.protocol.quic.settling import Settling


class StreamsWanted(QuicEvent):
    """The client may open no more streams, and would."""


class _Silence(QuicConnectionAdapter):
    """A logger that does nothing: aioquic logs from the packet path, at a price per call."""

    def debug(self, *_args: object, **_kwargs: object) -> None:
        """Say nothing."""

    info = warning = error = debug


_SILENCE = _Silence(logger, {})


class ServerConnection(Receiving, Sending, Settling, FrameHandlers):
    """One QUIC connection of a client."""

    def __init__(
        self,
        settings: ServerSettings,
        configuration: QuicConfiguration,
        original_destination_cid: bytes,
        retried: Retried | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_cid,
            retry_source_connection_id=retried.source_cid if retried else None,
        )
        self.floods = Floods(settings.control_frames, settings.cancelled_requests)
        self._proven_path = retried.path if retried else None
        self._settings = settings
        self._mtu = MtuSearch(settings.max_datagram_size)
        self._logger = _SILENCE
        self._loss._pacer = Pacer(max_datagram_size=configuration.max_datagram_size)
        self._local_max_streams_bidi.value = settings.streams
        self._local_max_streams_bidi.sent = settings.streams
        self.server_name: str | None = None
        self._host_cids = [self._new_cid(0, was_sent=True)]
        self.host_cid = self._host_cids[0].cid
        self._local_initial_source_connection_id = self.host_cid

    # --- connection IDs ---------------------------------------------------------------------

    def _new_cid(self, sequence: int, *, was_sent: bool = False) -> QuicConnectionId:
        cid = mint(self._settings.slot, self._settings.random(CID_LENGTH))
        return QuicConnectionId(
            cid=cid,
            sequence_number=sequence,
            stateless_reset_token=reset_token(self._settings.reset_key, cid),
            was_sent=was_sent,
        )

    def _replenish_connection_ids(self) -> None:
        while len(self._host_cids) < min(8, self._remote_active_connection_id_limit):
            self._host_cids.append(self._new_cid(self._host_cid_seq))
            self._host_cid_seq += 1

    def connection_ids(self) -> list[bytes]:
        """List the connection IDs that the client may write to now."""
        return [cid.cid for cid in self._host_cids]

    # --- TLS --------------------------------------------------------------------------------

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        # Only the address that the token was for (RFC 9000 section 8.1): as long as no packet was
        # understood, the connection may begin anew from another one.
        path = self._network_paths[0]
        path.is_validated |= path.addr == self._proven_path
        context = self.tls
        handle_hello = context._server_handle_hello

        def choose_and_handle(input_buf: Buffer, initial_buf: Buffer, later_buf: Buffer) -> None:
            # The certificate decides which signature algorithm is negotiated, so it has to be
            # chosen before aioquic looks at the ClientHello.
            message = input_buf.data_slice(0, input_buf.capacity)
            hello = tls.pull_client_hello(Buffer(data=message))
            self.server_name = _normal_name(hello.server_name)
            self._allow_resumption(hello)
            identity = self._settings.select(self.server_name)
            context.certificate = identity.chain[0]
            context.certificate_chain = list(identity.chain[1:])
            context.certificate_private_key = identity.key
            handle_hello(input_buf, initial_buf, later_buf)

        context._server_handle_hello = choose_and_handle  # type: ignore[assignment,method-assign]

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        self._invite_back()
        self._key_secret = self._cryptos[tls.Epoch.ONE_RTT].send.secret

    def negotiated_version(self) -> int:
        """Return the QUIC version in use, 0 before it is known."""
        return self._version or 0

    def validated_path(self) -> Path | None:
        """Return the newest network path whose address was validated, None if there is none."""
        for path in self._network_paths:
            if path.is_validated:
                found: Path = path.addr
                return found
        return None

    # --- sending ----------------------------------------------------------------------------

    def buffered(self, stream_id: int) -> int:
        """Count the octets of the stream that the client has not acknowledged yet."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        sender = stream.sender
        return sender._buffer_stop - sender._buffer_start

    def held_up(self) -> dict[int, int]:
        """Say how much was sent of each request's stream that has used up its flow control.

        Under `ALL_STREAMS` what was sent of all of them, where another one has something to send.
        """
        found: dict[int, int] = {}
        for stream_id, stream in self._streams.items():
            sender = stream.sender
            if not stream_id & 3 and not sender.buffer_is_empty:
                if sender.highest_offset >= stream.max_stream_data_remote:
                    found[stream_id] = sender.highest_offset
                else:
                    found[ALL_STREAMS] = self._remote_max_data_used
        return found

    def has_unacknowledged(self) -> bool:
        """Say whether the client has not confirmed yet that it has all of some response."""
        for stream_id, stream in self._streams.items():
            sender = stream.sender
            # A stream that was opened by a higher number alone has nothing to be confirmed.
            if not stream_id & 3 and not sender.is_finished and sender._buffer_fin is not None:
                return True
        return False

    def open_uni(self) -> int:
        """Open a unidirectional stream; return its number."""
        stream_id = self.get_next_available_stream_id(is_unidirectional=True)
        self.send_stream_data(stream_id, b"")
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Send octets on a stream; nothing happens where its sending half is over."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            sender = stream.sender
            if sender._reset_error_code is None and sender._buffer_fin is None:
                sender.write(data, end)

    def reset(self, stream_id: int, code: int) -> None:
        """Reset our half of the stream; nothing happens where it is over."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            sender = stream.sender
            sender.reset(code)
            if sender._reset_error_code is not None:
                # aioquic keeps the octets of a reset stream until it is discarded.
                sender._buffer.clear()
                sender._buffer_start = sender._buffer_stop

    def stop(self, stream_id: int, code: int) -> None:
        """Ask the client to stop sending on the stream; nothing happens where it has ended."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            stream.receiver.stop(code)

    def probe_timeout(self) -> float:
        """Return the seconds after which something lost is noticed (RFC 9002 section 6.2.1)."""
        return self._loss.get_probe_timeout()

    def _handle_streams_blocked_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        super()._handle_streams_blocked_frame(context, frame_type, buf)
        self._events.append(StreamsWanted())

    # --- the end ----------------------------------------------------------------------------

    def release(self) -> None:
        """Let go of everything, once the connection is over; nothing may be called after it.

        Three kinds of cycle keep the memory of a connection otherwise: aioquic's parts hold bound
        methods of it, our hook holds the TLS context that it hooks, and a packet that is not
        acknowledged holds its packet number space.
        """
        for space in self._loss.spaces:
            space.sent_packets.clear()
        context = vars(self).get("tls")
        if context is not None:
            vars(context).clear()
        vars(self).clear()

    def closing(self) -> tuple[int, str, bool] | None:
        """Return (code, reason, by peer) once the connection is closing, else None.

        aioquic tells of a close only when its closing or draining period is over, which is too
        late to cancel what the client has in flight.
        """
        event = self._close_event
        if event is None:
            return None
        by_peer = self._state.name == "DRAINING"
        return event.error_code, event.reason_phrase, by_peer


def _normal_name(server_name: str | None) -> str | None:
    return server_name.lower().rstrip(".") if server_name else None
