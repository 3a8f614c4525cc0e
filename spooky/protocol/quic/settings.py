"""What all connections of a listener have in common, and aioquic's configuration made of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion

from spooky.protocol.cid import CID_LENGTH
from spooky.protocol.messages import Path
from spooky.protocol.quic.path_mtu import SMALLEST
from spooky.protocol.tickets import SessionTickets

SUPPORTED_VERSIONS = (int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2))


class ServerIdentity(Protocol):
    """A certificate chain, leaf first, and its private key."""

    @property
    def chain(self) -> Sequence[Any]:
        """The certificates, as `cryptography` objects."""

    @property
    def key(self) -> Any:
        """The private key, as a `cryptography` object."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What all connections of one listener in one worker have in common.

    `select` gives the identity for a server name (None: the client sent none). `reset_key`
    derives stateless reset tokens. `random` returns so many random octets. `tickets` None: no
    session is resumed. `new_token(version, path)` makes what a client proves its address with when
    it comes back; None: nothing.
    """

    select: Callable[[str | None], ServerIdentity]
    slot: int
    reset_key: bytes
    random: Callable[[int], bytes]
    idle_timeout: float = 30.0
    max_datagram_size: int = 1452
    """The largest datagram that is tried on a path; it begins with 1,200 octets."""
    streams: int = 128
    stream_window: int = 256 * 1024
    connection_window: int = 1024 * 1024
    send_buffer: int = 256 * 1024
    header_bytes: int = 32 * 1024
    tickets: SessionTickets | None = None
    new_token: Callable[[int, Path], bytes] | None = None

    def configuration(self) -> QuicConfiguration:
        """Make the aioquic configuration; one serves all connections."""
        identity = self.select(None)
        return QuicConfiguration(
            is_client=False,
            alpn_protocols=["h3"],
            certificate=identity.chain[0],
            certificate_chain=list(identity.chain[1:]),
            private_key=identity.key,
            connection_id_length=CID_LENGTH,
            congestion_control_algorithm="cubic",
            idle_timeout=self.idle_timeout,
            max_data=self.connection_window,
            max_datagram_size=SMALLEST,
            max_stream_data=self.stream_window,
            supported_versions=list(SUPPORTED_VERSIONS),
        )
