"""The bounds on what clients and backends can make an instance spend, by the names operators see.

A name here is that of its count in `spooky status`; the value is the place of its count in shared
memory. What a bound is and which key sets it is told in docs/bounds.md.
"""

from enum import IntEnum, unique


@unique
class Bound(IntEnum):
    """One bound. Values are never given away anew: counts outlive reloads and upgrades."""

    CONNECTIONS = 0
    """Client connections of the instance."""
    CONTROL_FRAMES = 32
    """Frames of a connection that cost more to take than to send."""
    CANCELLED_REQUESTS = 33
    """Requests of a connection that the client does not see through."""
    RECEIVE_GAPS = 34
    """Pieces of a connection's stream data that came with holes before them."""
    CRYPTO_BUFFER = 35
    """Handshake data of a connection."""
    QPACK_BLOCKED_STREAMS = 36
    """Requests of a connection that wait for entries of the QPACK table."""
    WORKER_BUFFERS = 37
    """Octets that a worker keeps for all of its clients."""
    STATELESS_ANSWERS = 40
    """Answers in a second to packets of which no connection is known."""
