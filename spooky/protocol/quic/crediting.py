"""Flow control by consumption: a client may send as much as was passed on, not as was received.

aioquic doubles its windows once half of them is used, on receipt (RFC 9000 section 4 leaves it to
the receiver); here it only announces what `credit` allowed, in steps of half a window.
"""

from typing import Any

from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream

from spooky.protocol.downstream import ServerSettings


class Crediting(QuicConnection):
    """The flow control of a connection of ours."""

    _settings: ServerSettings
    _connection_credit = 0
    """Octets that were given back and not announced yet."""
    _limits_grown = False
    """Some stream's limit is to be announced."""

    def credit(self, stream_id: int, count: int) -> None:
        """Let the client send `count` more octets, on the stream and on the connection.

        The client is told in steps of half a window, so that a frame is not sent for every
        packet.
        """
        self._credit_connection(count)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.receiver._final_size is None:
            stream.max_stream_data_local += count
            self._limits_grown |= self._is_grown(stream)

    def _credit_connection(self, count: int) -> None:
        self._connection_credit += count
        if self._connection_credit * 2 >= self._settings.connection_window:
            self._local_max_data.value += self._connection_credit
            self._connection_credit = 0

    def credit_reset(self, stream_id: int) -> None:
        """Give back what a reset stream took of the connection's window without delivering it."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            receiver = stream.receiver
            self._credit_connection(receiver.highest_offset - receiver._buffer_start)

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        # aioquic doubles the window once half of it is used, on receipt: with `used` out of its
        # sight it only announces what `credit` allowed.
        limit = self._local_max_data
        used, limit.used = limit.used, 0
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _is_grown(self, stream: QuicStream) -> bool:
        """Say whether the client is to be told of the credit that it has on the stream."""
        grown = stream.max_stream_data_local - stream.max_stream_data_local_sent
        return grown * 2 >= self._settings.stream_window

    def _on_max_stream_data_delivery(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        self._limits_grown |= self._is_grown(stream)

    def _write_stream_limits(self, builder: Any, space: Any, stream: QuicStream) -> None:
        if not self._is_grown(stream):
            return
        receiver = stream.receiver
        highest, receiver.highest_offset = receiver.highest_offset, 0
        try:
            super()._write_stream_limits(builder, space, stream)
        finally:
            receiver.highest_offset = highest
