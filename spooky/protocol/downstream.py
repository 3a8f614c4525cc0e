"""What every engine towards clients is told: its listener's settings, and how a client came.

It owns the values that stand between the worker and whatever speaks QUIC and HTTP/3. It knows no
engine; `downstream_engines.py` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from spooky.protocol.messages import DownstreamEngine, Path
from spooky.protocol.tickets import SessionTickets


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


@dataclass(frozen=True, slots=True)
class Retried:
    """A client that has shown by a token that it receives what is sent to its address.

    `original_destination_cid` is of its very first Initial, `source_cid` of our Retry; both are
    shown to it in the handshake (RFC 9000 section 7.3). `source_cid` None: there was no Retry, it
    brought a token of an earlier connection.
    """

    path: Path
    original_destination_cid: bytes
    source_cid: bytes | None


Begin: TypeAlias = Callable[[bytes, Retried | None], DownstreamEngine]
"""Begin a connection of a listener, with a client whose very first packet had this destination
connection ID; and what the client proved by a token, if it was asked for one."""

Listen: TypeAlias = Callable[[ServerSettings], Begin]
"""Make of a listener's settings, once, what begins its connections."""
