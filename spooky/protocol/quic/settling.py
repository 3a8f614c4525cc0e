"""What a connection lets go of once nobody needs it: most are idle for most of their life.

With the handshake confirmed its keys are gone (RFC 9001 section 4.9), so no packet of its epochs
can be opened or made any more: what served them is replaced by one of each for all connections,
which nothing writes to. The half that a unidirectional stream does not have is such a one, too.
"""

from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

_NO_KEYS = CryptoPair()
_NO_STREAM = QuicStream(readable=False, writable=False)
_NO_SPACE = QuicPacketSpace()
_NO_SPACE.discarded = True
UNIDIRECTIONAL = 2


class Settling(QuicConnection):
    """A connection that becomes smaller when it is established."""

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE):
            self._cryptos[epoch] = _NO_KEYS
            self._crypto_streams[epoch] = _NO_STREAM
            self._spaces[epoch] = _NO_SPACE
        self._cryptos_initial = dict.fromkeys(self._cryptos_initial, _NO_KEYS)
        self._loss.spaces = [self._spaces[Epoch.ONE_RTT]]
        context = self.tls
        context.handshake_extensions, context.received_extensions = [], []
        context._ec_private_keys, context._x25519_private_key = [], None

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        stream = super()._get_or_create_stream(frame_type, stream_id)
        if stream_id & UNIDIRECTIONAL:
            stream.sender = _NO_STREAM.sender
        return stream

    def _get_or_create_stream_for_send(self, stream_id: int) -> QuicStream:
        stream = super()._get_or_create_stream_for_send(stream_id)
        if stream_id & UNIDIRECTIONAL:
            stream.receiver = _NO_STREAM.receiver
        return stream
