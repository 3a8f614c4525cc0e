"""Takes what a connection receives most: stream data and acknowledgements, in short header packets.

aioquic parses each datagram as if it could be anything. Here a batch is first tried as packets of
the path and the keys in use; whatever else it is, and every rarer frame, is left to aioquic. What
is accepted, and what closes the connection, is the same, but that an acknowledgement of a packet
that was never sent is an error (RFC 9000 section 13.1).

A rule: `_receive_plain` changes nothing before it is sure of the packet.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aioquic._buffer import Buffer
from aioquic.quic.connection import (
    END_STATES,
    QuicConnectionError,
    QuicReceiveContext,
)
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicErrorCode, QuicStreamFrame
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import FinalSizeError, QuicStream, QuicStreamReceiver, StreamFinishedError
from aioquic.tls import Epoch

from spooky.protocol.flood import FREE_FRAMES
from spooky.protocol.messages import Path
from spooky.protocol.quic.bounding import Bounding
from spooky.protocol.quic.frame_types import ACK, FIN, LENGTH, OFFSET, STREAM
from spooky.protocol.quic.keys import make_opener
from spooky.protocol.quic.protection import SPIN, Opener
from spooky.protocol.varint import MAX_VARINT

ACK_EVERY = 10
"""Packets that are acknowledged together at the latest, as a batch of them is read at once."""
ACK_DELAY_S = 0.005
"""How long an acknowledgement waits for something to go along with. Clients reckon with 25 ms."""
FORGERIES = 1 << 36
"""Datagrams that may fail to open; more would break ChaCha20-Poly1305 (RFC 9001 section 6.6), and
AES-GCM is good for more."""
SERVER_UNI = 3


@dataclass(slots=True)
class StreamData(QuicEvent):
    """What came on a stream in a batch of datagrams, in order."""

    stream_id: int
    pieces: list[bytes] = field(default_factory=list)
    end_stream: bool = False


@dataclass(frozen=True, slots=True)
class _Way:
    """The path and the keys in use, as long as nothing unusual happens."""

    path: Path
    opener: Opener
    context: QuicReceiveContext
    close_at: float
    """When the connection is over if nothing comes after this batch."""


class Receiving(Bounding):
    """The receiving side of a connection of ours."""

    _gathered: dict[int, StreamData]
    """The events of this batch that later octets of a stream may still be added to."""
    _unacknowledged = 0
    """Packets received since the acknowledgement that is due was put off."""
    _unopened = 0
    """Datagrams that were left to aioquic: all that could not be opened, and a few others."""

    def receive(self, datagrams: Iterable[tuple[bytes, Path]], now: float) -> None:
        """Take a batch of datagrams, each with the path that it came by."""
        self._gathered = {}
        self.floods.now = now
        way = self._way(now)
        for data, path in datagrams:
            if way is None or path is not way.path or not self._receive_plain(data, way):
                self._gathered.clear()
                self._unopened += 1
                self.receive_datagram(data, path, now)
                if self._unopened >= FORGERIES:
                    self.close(QuicErrorCode.AEAD_LIMIT_REACHED)
                way = self._way(now)

    def _way(self, now: float) -> _Way | None:
        """Return what plain packets look like now; None where there are none yet, or any more."""
        crypto = self._cryptos[Epoch.ONE_RTT].recv if self._handshake_confirmed else None
        if (
            crypto is None
            or crypto.aead is None
            or self._state in END_STATES
            or self._close_pending
            or self._quic_logger is not None
            or self._cryptos[Epoch.ZERO_RTT].recv.is_valid()
        ):
            return None
        path = self._network_paths[0]
        opener = make_opener(crypto, self.host_cid)
        context = QuicReceiveContext(Epoch.ONE_RTT, self.host_cid, path, None, now, None)
        return _Way(path.addr, opener, context, now + self._idle_timeout())

    def _receive_plain(self, data: bytes, way: _Way) -> bool:
        """Take one datagram; return False, with nothing done, if it is for aioquic."""
        space = self._spaces[Epoch.ONE_RTT]
        opened = way.opener.open(data, space.expected_packet_number)
        if opened is None:
            return False
        number, first, payload = opened
        if not payload:
            return False
        if number in space.received_packets:
            return True
        now = way.context.time
        if not way.context.network_path.is_validated:
            way.context.network_path.bytes_received += len(data)
        if number > self._spin_highest_pn:
            self._spin_bit = bool(first & SPIN)
            self._spin_highest_pn = number
        try:
            is_ack_eliciting = self._take_frames(payload, way.context)
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
            return True
        if self._state in END_STATES or self._close_pending:
            return True
        self._close_at = way.close_at
        self._ack_eliciting_sent_since_receipt = False
        self._record(number, now, is_ack_eliciting=is_ack_eliciting)
        return True

    def _record(self, number: int, now: float, *, is_ack_eliciting: bool) -> None:
        """Note that the packet is to be acknowledged."""
        space = self._spaces[Epoch.ONE_RTT]
        in_order = number == space.largest_received_packet + 1
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
            space.expected_packet_number = number + 1
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if is_ack_eliciting:
            self._unacknowledged = 1 if space.ack_at is None else self._unacknowledged + 1
            if not in_order or self._unacknowledged >= ACK_EVERY:
                space.ack_at = now
            elif space.ack_at is None:
                space.ack_at = now + ACK_DELAY_S

    # --- frames -------------------------------------------------------------------------------

    def _payload_received(
        self,
        context: QuicReceiveContext,
        plain: bytes,
        crypto_frame_required: bool = False,  # noqa: ARG002 - aioquic's
    ) -> tuple[bool, bool]:
        # The first packet that a client sends has a CRYPTO frame (RFC 9000 section 17.2.2), but
        # it may be lost, or come after the client's probe: aioquic would close the connection.
        return super()._payload_received(context, plain)

    def _take_frames(self, payload: bytes, context: QuicReceiveContext) -> bool:
        """Take the frames of a packet; say whether it is to be acknowledged."""
        at, end = 0, len(payload)
        is_ack_eliciting = False
        frames = 0
        while at < end:
            frames += 1
            if frames > FREE_FRAMES:
                self._spend(1)
            kind = payload[at]
            if kind & ~7 == STREAM:
                at = self._take_stream(kind, payload, at + 1)
                is_ack_eliciting = True
            elif kind == ACK:
                at = self._take_ack(payload, at + 1, context)
            elif kind == 0:
                at = end - len(payload[at:].lstrip(b"\x00"))
            else:
                self._gathered.clear()
                rest, _ = self._payload_received(context, payload[at:])
                return is_ack_eliciting or rest
        return is_ack_eliciting

    def _take_ack(self, payload: bytes, at: int, context: QuicReceiveContext) -> int:
        buffer = Buffer(data=payload[at:])
        largest = _decode(payload, at, ACK)[0]
        if largest >= self._packet_number:
            raise _violation(
                QuicErrorCode.PROTOCOL_VIOLATION, ACK, "a packet was acknowledged that was not sent"
            )
        try:
            self._handle_ack_frame(context, ACK, buffer)
        except ValueError:
            raise _malformed(ACK) from None
        return at + buffer.tell()

    def _take_stream(self, kind: int, payload: bytes, at: int) -> int:
        """Take the STREAM frame at `at`; return where the next one begins."""
        number, at = _decode(payload, at, kind)
        offset, stop = 0, len(payload)
        if kind & OFFSET:
            offset, at = _decode(payload, at, kind)
        if kind & LENGTH:
            length, at = _decode(payload, at, kind)
            if at + length > stop:
                raise _malformed(kind)
            stop = at + length
        end = offset + stop - at
        if end > MAX_VARINT:
            raise _violation(
                QuicErrorCode.FRAME_ENCODING_ERROR, kind, "offset + length cannot exceed 2^62 - 1"
            )
        stream = self._streams.get(number)
        if stream is None or number & 3 == SERVER_UNI:
            self._assert_stream_can_receive(kind, number)
            try:
                stream = self._get_or_create_stream(kind, number)
            except StreamFinishedError:
                return stop
        self._take_data(stream, kind, offset, payload[at:stop])
        return stop

    def _take_data(self, stream: QuicStream, kind: int, offset: int, data: bytes) -> None:
        """Hold stream data against the limits that were announced, and hand it on."""
        receiver = stream.receiver
        end, fin = offset + len(data), kind & FIN != 0
        if end > stream.max_stream_data_local:
            raise _violation(QuicErrorCode.FLOW_CONTROL_ERROR, kind, "Over stream data limit")
        news = max(0, end - receiver.highest_offset)
        limit = self._local_max_data
        if limit.used + news > limit.value:
            raise _violation(QuicErrorCode.FLOW_CONTROL_ERROR, kind, "Over connection data limit")
        if (
            offset == receiver._buffer_start
            and data
            and receiver._final_size is None
            and not receiver._buffer
        ):
            # In order, as nearly all is; with nothing waiting, the final size is news, too.
            receiver._buffer_start = receiver.highest_offset = end
            if fin:
                receiver._final_size = end
                receiver.is_finished = True
            self._gather(stream.stream_id or 0, data, end=fin)
        else:
            self._take_odd_data(receiver, kind, QuicStreamFrame(data, fin, offset))
        limit.used += news

    def _take_odd_data(
        self, receiver: QuicStreamReceiver, kind: int, frame: QuicStreamFrame
    ) -> None:
        if not frame.data and not frame.fin:
            self._spend(1)
        before = self._open_pieces(receiver)
        try:
            event = receiver.handle_frame(frame)
        except FinalSizeError as error:
            raise _violation(QuicErrorCode.FINAL_SIZE_ERROR, kind, str(error)) from None
        self._count_pieces(receiver, before)
        if event is not None:
            self._gather(event.stream_id, event.data, end=event.end_stream)

    def _gather(self, stream: int, data: bytes, *, end: bool) -> None:
        known = self._gathered.get(stream)
        if known is None:
            known = self._gathered[stream] = StreamData(stream)
            self._events.append(known)
        known.pieces.append(data)
        known.end_stream = end


def _decode(data: bytes, at: int, kind: int) -> tuple[int, int]:
    """Decode the variable-length integer at `at` (RFC 9000 section 16)."""
    try:
        first = data[at]
        if first < 0x40:
            return first, at + 1
        if first < 0x80:
            return (first & 0x3F) << 8 | data[at + 1], at + 2
    except IndexError:
        raise _malformed(kind) from None
    end = at + (4 if first < 0xC0 else 8)
    if end > len(data):
        raise _malformed(kind)
    return int.from_bytes(data[at:end], "big") & (0x3FFFFFFF if first < 0xC0 else MAX_VARINT), end


def _malformed(kind: int) -> QuicConnectionError:
    return _violation(QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Failed to parse frame")


def _violation(code: QuicErrorCode, kind: int, reason: str) -> QuicConnectionError:
    return QuicConnectionError(error_code=code, frame_type=kind, reason_phrase=reason)
