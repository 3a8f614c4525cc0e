"""The settings of a listener as aioquic wants to have them."""

from aioquic.quic.configuration import QuicConfiguration

from spooky.protocol.cid import CID_LENGTH
from spooky.protocol.datagram import VERSIONS
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.quic.path_mtu import SMALLEST


def configuration_of(settings: ServerSettings) -> QuicConfiguration:
    """Make the aioquic configuration; one serves all connections."""
    identity = settings.select(None)
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        certificate=identity.chain[0],
        certificate_chain=list(identity.chain[1:]),
        private_key=identity.key,
        connection_id_length=CID_LENGTH,
        congestion_control_algorithm="cubic",
        idle_timeout=settings.idle_timeout,
        max_data=settings.connection_window,
        max_datagram_size=SMALLEST,
        max_stream_data=settings.stream_window,
        supported_versions=list(VERSIONS),
    )
