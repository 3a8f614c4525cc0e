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
    CONNECTIONS_PER_ADDRESS = 1
    """Those of one client address."""
    HANDSHAKES = 2
    """Client connections whose handshake is not complete."""
    CONNECTIONS_PER_SECOND = 3
    """Client connections that are begun within a second."""
    STREAMS_PER_CONNECTION = 4
    """Requests that are open on one client connection."""
    CLIENT_IDLE_TIMEOUT = 5
    """Time without a packet of a client."""
    REQUEST_HEADER_BYTES = 6
    """Octets of a request's header or trailer section, or of its encoded form."""
    REQUEST_HEADER_COUNT = 7
    """Field lines of one."""
    REQUEST_HEADER_TIMEOUT = 8
    """Time until the header section is complete."""
    REQUEST_BODY_BYTES = 9
    """Octets of a request's content."""
    REQUEST_BODY_RATE = 10
    """How slowly a client may send content."""
    RESPONSE_RATE = 11
    """How slowly it may take responses."""
    IDLE_TIMEOUT = 12
    """Time in which nothing of an exchange moves."""
    TOTAL_TIMEOUT = 13
    """Time that an exchange may take."""
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
