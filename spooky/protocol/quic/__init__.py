"""The QUIC connection on aioquic: the only package that touches aioquic's private attributes.

Its version is pinned exactly, and the tests name every attribute that is used here.
"""

from spooky.protocol.quic.connection import ServerConnection, StreamsWanted
from spooky.protocol.quic.receiving import StreamData
from spooky.protocol.quic.settings import configuration_of

__all__ = [
    "ServerConnection",
    "StreamData",
    "StreamsWanted",
    "configuration_of",
]
