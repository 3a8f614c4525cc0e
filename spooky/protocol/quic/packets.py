"""Packets that belong to no connection, as aioquic writes them: a Retry, and a close at the door.

It makes octets and keeps nothing; what is in them is decided in `retry.py` and `stateless.py`.
"""

from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType, encode_quic_retry
from aioquic.quic.packet_builder import QuicPacketBuilder

from spooky.protocol.datagram import Datagram

_LARGEST_DATAGRAM = 1200


def retry_packet(initial: Datagram, source_cid: bytes, token: bytes) -> bytes:
    """Make the Retry packet that answers `initial` (RFC 9000 section 17.2.5)."""
    return encode_quic_retry(
        version=initial.version,
        source_cid=source_cid,
        destination_cid=initial.scid,
        original_destination_cid=initial.dcid,
        retry_token=token,
    )


def closing_initial(initial: Datagram, source_cid: bytes, code: int) -> bytes:
    """Make the Initial packet that answers `initial` by CONNECTION_CLOSE (RFC 9000 10.2.3)."""
    crypto = CryptoPair()
    crypto.setup_initial(cid=initial.dcid, is_client=False, version=initial.version)
    builder = QuicPacketBuilder(
        host_cid=source_cid,
        peer_cid=initial.scid,
        version=initial.version,
        is_client=False,
        max_datagram_size=_LARGEST_DATAGRAM,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=4)
    for value in (code, QuicFrameType.PADDING, 0):
        frame.push_uint_var(value)
    datagrams, _ = builder.flush()
    return datagrams[0]
