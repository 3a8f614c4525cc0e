"""Sends what a connection sends most: acknowledgements and stream data, in short header packets.

aioquic builds every packet from scratch and asks every part of the connection, and every stream,
for a frame each time. Here all that is asked once a flight; when one of the rarer frames is due,
the flight is left to aioquic. What is sent, when, and how it is accounted for is the same, but
that an acknowledgement that may wait goes along with data (RFC 9000 section 13.2.1).
"""

from collections import deque
from operator import attrgetter
from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.connection import END_STATES, QuicNetworkPath
from aioquic.quic.packet import QuicPacketType, push_ack_frame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from spooky.protocol.quic.crediting import Crediting
from spooky.protocol.quic.frame_types import ACK, FIN, LENGTH, OFFSET, STREAM
from spooky.protocol.quic.keys import make_sealer
from spooky.protocol.quic.pacing import Pacer
from spooky.protocol.quic.path_mtu import SMALLEST, MtuSearch
from spooky.protocol.quic.protection import Sealer
from spooky.protocol.quic.returning import Returning
from spooky.protocol.varint import encode

SMALLEST_STREAM_FRAME = 24
"""Room below which a STREAM frame is not begun: its header, and some octets to be worth it."""

LONG_FLIGHT = 4
"""Packets sent at once from which on larger ones would be of use."""

KEY_PACKETS = 1 << 22
"""After how many packets it is looked whether the keys are still the same, and new ones are asked
for: twice as many at most have the same ones. AES-GCM is good for 2^23 (RFC 9001 section 6.6)."""
AMPLIFICATION = 3
"""How much more than it received may go to an address that is not proven (RFC 9000 section 8.1)."""

LENGTH_BYTES = 2
ACK_BYTES = 512
"""Room for an ACK frame; the oldest ranges are left out where it is too small."""
FIXED_BIT = 0x40
SERVER_INITIATED = 1
PING = b"\x01"
_WAS_SENT = attrgetter("was_sent")
_OCTETS = [bytes((value,)) for value in range(256)]


class SentPacket:
    """A short header packet in flight, with what aioquic's recovery reads of one."""

    __slots__ = (
        "delivery_handlers",
        "in_flight",
        "is_ack_eliciting",
        "packet_number",
        "sent_bytes",
        "sent_time",
    )
    epoch = Epoch.ONE_RTT
    packet_type = QuicPacketType.ONE_RTT
    is_crypto_packet = False

    def __init__(self, number: int, now: float) -> None:
        self.packet_number = number
        self.sent_time = now
        self.sent_bytes = 0
        self.is_ack_eliciting = False
        self.in_flight = False
        self.delivery_handlers: list[tuple[Any, tuple[Any, ...]]] = []


class Sending(Crediting, Returning):
    """The sending side of a connection of ours."""

    _mtu: MtuSearch
    _mtu_path: QuicNetworkPath | None = None
    """The path that the search is about."""
    _key_due = KEY_PACKETS
    """The packet number at which to look whether the keys are worn."""
    _key_secret: bytes | None = None
    """What the keys were made of when that was last looked at."""

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """Take what is to be sent now; nothing before a datagram was understood."""
        if not self._network_paths:
            return []
        self._follow_path()
        if self._packet_number >= self._key_due:
            self._renew_keys()
        if not self._is_plain():
            return self._everything_to_send(now)
        self._discard_finished()
        if self._announces_limits():
            return self._everything_to_send(now)
        return self._plain_to_send(now)

    # --- whether aioquic is needed ------------------------------------------------------------

    def _is_plain(self) -> bool:
        """Say whether only acknowledgements, stream data and limits may be due."""
        path = self._network_paths[0]
        return not (
            not self._handshake_confirmed
            or self._close_pending
            or self._state in END_STATES
            or len(self._network_paths) > 1
            or not path.is_validated
            or path.remote_challenges
            or self._probe_pending
            or self._handshake_done_pending
            or self._ping_pending
            or self._retire_connection_ids
            or self._limits_grown
            or self._streams_blocked_pending
            or self._datagrams_pending
            or self._new_token is not None
            or self._quic_logger is not None
            or self._cryptos[Epoch.ONE_RTT]._update_key_requested
            or not self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
            or not all(map(_WAS_SENT, self._host_cids))
        )

    def _announces_limits(self) -> bool:
        """Say whether MAX_DATA or MAX_STREAMS is due, the latter in steps of half the streams."""
        data = self._local_max_data
        if data.value != data.sent:
            return True
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            if limit.value != limit.sent and limit.sent - limit.used < limit.value - limit.sent:
                return True
        return False

    def _everything_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        space = self._spaces[Epoch.ONE_RTT]
        if space.ack_at is not None:
            space.ack_at = min(space.ack_at, now)
        datagrams = self._within_reach(super().datagrams_to_send(now))
        self._limits_grown = any(map(self._is_grown, self._streams.values()))
        return datagrams

    def _discard_finished(self) -> None:
        """Forget streams that both sides are done with, which lets the client open others."""
        finished = [number for number, stream in self._streams.items() if stream.is_finished]
        for number in finished:
            del self._streams[number]
            if not number & SERVER_INITIATED:
                self._stream_limit(number).value += 1
        if finished:
            self._streams_queue = [s for s in self._streams_queue if not s.is_finished]

    def _within_reach(self, datagrams: list[tuple[bytes, Any]]) -> list[tuple[bytes, Any]]:
        """Leave out what an address that is not proven must not get.

        aioquic minds that in all that it sends but a close (RFC 9000 section 8.1).
        """
        path = self._network_paths[0]
        if path.is_validated or path.bytes_sent <= AMPLIFICATION * path.bytes_received:
            return datagrams
        return []

    def _renew_keys(self) -> None:
        """Ask for new keys, unless there were new ones since this was last called.

        So the client has acknowledged packets of the keys in use, as it has to before they may
        change again (RFC 9001 section 6.1): far fewer are ever in flight.
        """
        secret = self._cryptos[Epoch.ONE_RTT].send.secret
        if secret is self._key_secret:
            self.request_key_update()
        self._key_secret = secret
        self._key_due = self._packet_number + KEY_PACKETS

    # --- a flight -----------------------------------------------------------------------------

    def _plain_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        self._pacing_at = None
        ready: deque[QuicStream] = deque()
        for stream in self._streams_queue:
            sender = stream.sender
            if stream.receiver.stop_pending or sender.reset_pending:
                return self._everything_to_send(now)
            if not sender.buffer_is_empty and not stream.is_blocked:
                ready.append(stream)
        space = self._spaces[Epoch.ONE_RTT]
        due = space.ack_at is not None and space.ack_at <= now
        if not ready and not due:
            return []
        if due and not ready and len(space.ack_queue) > 1:
            # aioquic adds a PING to some of these, so that the ranges are ever forgotten.
            return self._everything_to_send(now)
        return self._send_flight(ready, now, ack_due=due)

    def _send_flight(
        self, ready: deque[QuicStream], now: float, *, ack_due: bool
    ) -> list[tuple[bytes, Any]]:
        """Send as many packets as there is data for, and the window and pacing allow."""
        loss, space = self._loss, self._spaces[Epoch.ONE_RTT]
        sealer = self._sealer()
        pacer: Pacer = loss._pacer  # type: ignore[assignment]
        allowed = pacer.allowance(now)
        window = loss.congestion_window - loss.bytes_in_flight
        is_doubted = self._mtu.is_doubted
        datagrams: list[bytes] = []
        while ready or ack_due:
            packet = SentPacket(self._packet_number, now)
            ack = b"" if space.ack_at is None else self._ack_frame(packet, now)
            size = min(self._max_datagram_size, window) if allowed else 0
            frames = self._stream_frames(packet, ready, size - sealer.overhead - len(ack))
            if not frames and not ack_due:
                break
            if ack:
                space.ack_at, ack_due = None, False
                frames.insert(0, ack)
            datagram = sealer.seal(packet.packet_number, b"".join(frames))
            packet.sent_bytes = len(datagram)
            datagrams.append(datagram)
            self._packet_number += 1
            if is_doubted and packet.sent_bytes > SMALLEST:
                packet.delivery_handlers.append((self._on_large_delivery, (self._mtu,)))
            loss.on_packet_sent(packet=packet, space=space)  # type: ignore[arg-type]
            if packet.in_flight:
                window -= packet.sent_bytes
                allowed -= 1
                pacer.spend()
                self._stay_awake(now)
        if ready:
            self._wait_turn(ready)
            if not allowed:
                self._pacing_at = pacer.next_send_time(now)
        if len(datagrams) >= LONG_FLIGHT:
            probe = self._mtu.next_probe(self._network_paths[0].bytes_sent)
            if probe is not None:
                datagrams.append(self._probe_mtu(probe, sealer, now))
        return self._account(datagrams)

    def _stream_frames(
        self, packet: SentPacket, ready: deque[QuicStream], room: int
    ) -> list[bytes]:
        """Fill `room` octets of a packet from streams in turn; take those out that are done."""
        frames: list[bytes] = []
        while ready and room >= SMALLEST_STREAM_FRAME:
            stream = ready[0]
            sender = stream.sender
            before = sender.highest_offset
            at = sender.next_offset
            head = encode(stream.stream_id or 0) + (encode(at) if at else b"")
            frame = sender.get_frame(
                room - 1 - len(head) - LENGTH_BYTES,
                min(
                    before + self._remote_max_data - self._remote_max_data_used,
                    stream.max_stream_data_remote,
                ),
            )
            if frame is None:
                ready.popleft()
                continue
            self._remote_max_data_used += sender.highest_offset - before
            size = len(frame.data)
            kind = STREAM | LENGTH | (OFFSET if at else 0) | (FIN if frame.fin else 0)
            frames.append(_OCTETS[kind] + head + (size | 0x4000).to_bytes(LENGTH_BYTES, "big"))
            frames.append(frame.data)
            room -= len(frames[-2]) + size
            packet.is_ack_eliciting = packet.in_flight = True
            packet.delivery_handlers.append((sender.on_data_delivery, (at, at + size, frame.fin)))
            if sender._pending_eof or len(sender._pending):
                ready.rotate(-1)
            else:
                # aioquic would find out by asking the stream once more.
                sender.buffer_is_empty = True
                ready.popleft()
        return frames

    # --- the path's MTU -----------------------------------------------------------------------

    def _follow_path(self) -> None:
        """Begin the search for the largest datagram anew where the client has moved."""
        path = self._network_paths[0]
        if path is not self._mtu_path:
            self._mtu_path = path
            self._mtu = MtuSearch(self._mtu.largest)
            self._use_mtu()

    def _use_mtu(self) -> None:
        self._max_datagram_size = self._loss._pacer._max_datagram_size = self._mtu.current

    def _probe_mtu(self, size: int, sealer: Sealer, now: float) -> bytes:
        """Make a PING of `size` octets. Its loss says nothing of congestion (RFC 9000 14.4)."""
        packet = SentPacket(self._packet_number, now)
        packet.is_ack_eliciting = True
        packet.sent_bytes = size
        packet.delivery_handlers.append((self._on_mtu_delivery, (self._mtu, size)))
        self._packet_number += 1
        self._loss.on_packet_sent(packet=packet, space=self._spaces[Epoch.ONE_RTT])  # type: ignore[arg-type]
        return sealer.seal(packet.packet_number, PING.ljust(size - sealer.overhead, b"\x00"))

    def _on_mtu_delivery(self, delivery: QuicDeliveryState, search: MtuSearch, size: int) -> None:
        if delivery is QuicDeliveryState.ACKED:
            search.acknowledged(size)
            self._use_mtu()
        else:
            search.lost()

    def handle_timer(self, now: float) -> None:
        """Act on a deadline that has passed; nothing happens once the connection is over."""
        if self._close_at is not None:
            super().handle_timer(now)
            if self._loss._pto_count and self._mtu.current > SMALLEST:
                self._mtu.doubt(self._loss._pto_count)
                self._use_mtu()

    def _on_large_delivery(self, delivery: QuicDeliveryState, search: MtuSearch) -> None:
        if delivery is QuicDeliveryState.ACKED:
            search.large_delivered()
        else:
            search.large_lost()
            self._use_mtu()

    # --- frames -------------------------------------------------------------------------------

    def _ack_frame(self, packet: SentPacket, now: float) -> bytes:
        space = self._spaces[Epoch.ONE_RTT]
        waited = now - (space.largest_received_time or now)
        delay = int(waited * 1e6) >> self._local_ack_delay_exponent
        buffer = Buffer(capacity=ACK_BYTES)
        buffer.push_uint_var(ACK)
        push_ack_frame(buffer, space.ack_queue, delay, ACK_BYTES - 1)
        packet.delivery_handlers.append(
            (self._on_ack_delivery, (space, space.largest_received_packet))
        )
        return buffer.data

    def _sealer(self) -> Sealer:
        crypto = self._cryptos[Epoch.ONE_RTT]
        first = FIXED_BIT | self._spin_bit << 5 | crypto.key_phase << 2
        return make_sealer(crypto.send, first, self._peer_cid.cid)

    def _wait_turn(self, ready: deque[QuicStream]) -> None:
        """Let the streams that were not served go first in the next flight."""
        waiting = set(ready)
        self._streams_queue = [s for s in self._streams_queue if s not in waiting]
        self._streams_queue[:0] = ready

    def _stay_awake(self, now: float) -> None:
        """Begin the idle time anew with the first packet since a receipt (RFC 9000 10.1)."""
        if not self._ack_eliciting_sent_since_receipt:
            self._close_at = now + self._idle_timeout()
            self._ack_eliciting_sent_since_receipt = True

    def _account(self, datagrams: list[bytes]) -> list[tuple[bytes, Any]]:
        path = self._network_paths[0]
        path.bytes_sent += sum(map(len, datagrams))
        return [(datagram, path.addr) for datagram in datagrams]
