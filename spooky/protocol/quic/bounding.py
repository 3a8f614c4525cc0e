"""What a client's frames may cost: how many of a kind, how many pieces, how much of a handshake.

Stream data and acknowledgements are free as long as a packet has no more of them than honest ones
have; every other frame is counted. Data that comes with holes before it is kept by aioquic in a
list that it goes through for each frame: here it is searched by halving, and its length is
bounded. The handshake's data has no flow control (RFC 9000 section 7.5), so it has a bound, too.
"""

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStreamReceiver

from spooky.bounds import Bound
from spooky.errors import H3Code
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.flood import FREE_FRAMES, Floods

_WEIGHTS = {
    **dict.fromkeys(range(0x08, 0x10), 0),
    int(QuicFrameType.PADDING): 0,
    int(QuicFrameType.ACK): 0,
    int(QuicFrameType.ACK_ECN): 0,
    # Keys are made for some of these, and all are answered.
    int(QuicFrameType.NEW_CONNECTION_ID): 10,
    int(QuicFrameType.RETIRE_CONNECTION_ID): 10,
    int(QuicFrameType.PATH_CHALLENGE): 10,
}
"""How much a frame counts, by its type; those that are not here count once."""
HANDSHAKE_PIECES = 64
"""Pieces of handshake data with holes between them. Browsers send up to a dozen, shuffled."""
_NO_FRAME: Any = None
"""In the place of a frame type: the connection is closed as the application would."""
_START, _STOP = attrgetter("start"), attrgetter("stop")


class Pieces(RangeSet):
    """aioquic's set of ranges, which is searched by halving."""

    _RangeSet__ranges: list[range]

    def add(self, start: int, stop: int | None = None) -> None:
        """Add a range, and merge those that it touches."""
        ranges = self._RangeSet__ranges
        end = start + 1 if stop is None else stop
        first = bisect_left(ranges, start, key=_STOP)
        behind = bisect_right(ranges, end, lo=first, key=_START)
        if first < behind:
            start = min(start, ranges[first].start)
            end = max(end, ranges[behind - 1].stop)
        ranges[first:behind] = [range(start, end)]


class Bounding(QuicConnection):
    """A connection that counts what its client makes it do."""

    _settings: ServerSettings
    floods: Floods
    """The budgets of the connection."""
    _frames = 0
    """Frames of the packet that aioquic takes."""
    _pieces = 0
    """At most so many pieces of streams have come with holes before them."""

    # --- frames -------------------------------------------------------------------------------

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
    ) -> tuple[bool, bool]:
        self._frames = 0
        return super()._payload_received(context, plain, crypto_frame_required)

    def count_frame(self, kind: int) -> None:
        """Count a frame that aioquic takes.

        Raises:
            QuicConnectionError: there were too many.
        """
        self._frames += 1
        weight = _WEIGHTS.get(kind, 1)
        if self._frames > FREE_FRAMES:
            weight = weight or 1
        if weight:
            self._spend(weight)

    def _spend(self, frames: int) -> None:
        if not self.floods.spend(frames):
            raise QuicConnectionError(H3Code.EXCESSIVE_LOAD, _NO_FRAME, "too many control frames")

    def _handle_crypto_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        at = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(at)
        pieces = len(self._crypto_streams[context.epoch].receiver._ranges)
        if end > self._settings.crypto_buffer or pieces > HANDSHAKE_PIECES:
            self.floods.refuse(Bound.CRYPTO_BUFFER)
            raise QuicConnectionError(
                QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too much handshake data"
            )
        super()._handle_crypto_frame(context, frame_type, buf)

    # --- pieces -------------------------------------------------------------------------------

    def _handle_stream_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        at = buf.tell()
        stream = self._streams.get(buf.pull_uint_var())
        buf.seek(at)
        before = self._open_pieces(stream.receiver) if stream is not None else 0
        super()._handle_stream_frame(context, frame_type, buf)
        if stream is not None:
            self._count_pieces(stream.receiver, before)

    def _open_pieces(self, receiver: QuicStreamReceiver) -> int:
        """Make the pieces of a stream ready for another one; return how many there are."""
        ranges: Any = receiver._ranges
        if type(ranges) is not Pieces:
            receiver._ranges = Pieces(ranges)
        return len(ranges)

    def _count_pieces(self, receiver: QuicStreamReceiver, before: int) -> None:
        """Hold the pieces of all streams against the bound, where one may have got more."""
        self._pieces += len(receiver._ranges) - before
        if self._pieces <= self._settings.receive_gaps:
            return
        # Streams that are over took theirs along.
        self._pieces = sum(
            len(stream.receiver._ranges)
            for stream in self._streams.values()
            if not stream.receiver.is_finished
        )
        if self._pieces > self._settings.receive_gaps:
            self.floods.refuse(Bound.RECEIVE_GAPS)
            raise QuicConnectionError(H3Code.EXCESSIVE_LOAD, _NO_FRAME, "too many gaps in a stream")

    # --- what is kept -------------------------------------------------------------------------

    def held(self) -> int:
        """Count the octets that are kept for this client, in both directions."""
        kept = 0
        for stream in self._streams.values():
            sender = stream.sender
            kept += len(stream.receiver._buffer) + sender._buffer_stop - sender._buffer_start
        return kept
