"""What bounds one client, backend or exchange: the model of `limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes, counts and timeouts that bound what one client, backend or exchange can take."""

    connections: int = 50_000
    """Client connections of the instance; beyond it: CONNECTION_REFUSED. 0: no bound. An idle one
    costs some 60 KiB, so this many take about 3 GiB."""
    connections_per_address: int = 10_000
    """Those of one client address, IPv6 by /64; beyond it: CONNECTION_REFUSED. 0: no bound. Some
    thousand users may share one address (RFC 6269), so it only keeps one from having them all."""
    handshakes: int = 4096
    """Connections of the instance whose handshake is not complete; beyond it: CONNECTION_REFUSED.
    0: no bound. A handshake takes a round trip or two, so honest clients at this number would be
    more than a thousand a second."""
    connections_per_second: int = 10_000
    """Connections that the instance begins within one second of the clock; beyond it:
    CONNECTION_REFUSED. 0: no bound. More than ten cores can begin."""
    request_header_bytes: int = 32 * 1024
    """Names and values of a request's fields plus 32 each (RFC 9114 4.2.2); beyond it: 431."""
    request_header_count: int = 128
    """Field lines of a request; beyond it: 431."""
    request_header_timeout: float = 10.0
    """From a request stream's first octet to the end of its header section; beyond it: 408.
    0: no limit."""
    request_body_bytes: int = 0
    """Content of a request; beyond it: 413. 0: no limit, for bodies are streamed."""
    request_body_rate: int = 240
    """Octets a second of content that a client has to send at least, on the mean and after
    `rate_grace`; beyond it: 408. 0: no bound. Mobile networks of the nineties had more. Not of a
    gRPC call, nor where the response has begun or the backend is waited for."""
    response_rate: int = 240
    """Octets a second that a client has to take at least of a response that it keeps waiting, and
    of all together; beyond it the stream is reset or the connection closed. 0: no bound."""
    rate_grace: float = 20.0
    """How long a client may be slower than these two rates ask for."""
    response_header_bytes: int = 64 * 1024
    """The same for a response; beyond it: 502."""
    streams_per_connection: int = 128
    """Requests that one client connection may have open."""
    stream_window: int = 256 * 1024
    """Octets of one request body that may wait for the backend."""
    connection_window: int = 1024 * 1024
    """The same for all requests of one client connection together."""
    response_buffer: int = 256 * 1024
    """Octets of one response body that may wait for the client to acknowledge them."""
    control_frames: int = 10_000
    """Frames of one client connection in a second that cost more to take than to send; beyond it
    the connection is closed."""
    cancelled_requests: int = 100
    """Requests of one client connection in a second that it does not see through, and ten times as
    many at once; each that it does see through allows for another one. Beyond it the connection is
    closed."""
    receive_gaps: int = 1024
    """Pieces of one connection's stream data that may wait for what belongs before them."""
    crypto_buffer: int = 64 * 1024
    """Octets of a client's handshake in each of its parts."""
    qpack_table: int = 4096
    """Octets of the table by which a client compresses header fields (RFC 9204 section 3.2)."""
    qpack_blocked_streams: int = 16
    """Requests that may wait for entries of that table (RFC 9204 section 2.1.2)."""
    worker_buffers: int = 1024 * 1024 * 1024
    """Octets that one worker keeps for all of its clients; beyond it the connections that have most
    are closed."""
    retry: str = "auto"
    """`always`: every client first proves its address by a Retry packet, which costs a round trip
    (RFC 9000 section 8.1.2). `off`: none does. `auto`: while `retry_handshakes` are half open."""
    retry_handshakes: int = 100
    """Handshakes of one worker that are not complete from which on `retry: auto` asks for proof."""
    stateless_answers: int = 1000
    """Version negotiations, stateless resets and refusals that one worker sends in a second."""
    client_idle_timeout: float = 30.0
    """QUIC's max_idle_timeout (RFC 9000 section 10.1)."""
    max_datagram_size: int = 1452
    """The largest UDP payload that is tried on a client's path once there is much to send (RFC
    9000 section 14.3). A connection begins with 1200, which every path carries; 1200: no search."""
    retry_body_bytes: int = 64 * 1024
    """Octets of a request body kept to send the request again where that is safe."""
    udp_receive_buffer: int = 8 * 1024 * 1024
    """SO_RCVBUF of a listener's socket; the kernel may give less."""
    udp_send_buffer: int = 8 * 1024 * 1024
    """SO_SNDBUF of a listener's socket; the kernel may give less."""
    backend_stream_window: int = 256 * 1024
    """Octets of one response body that a backend may send ahead."""
    backend_connections: int = 8
    """HTTP/2 connections that one worker opens to one backend."""
    backend_streams: int = 100
    """Requests at a time on one backend connection; the backend's own limit if that is lower."""
    backend_queue: int = 1024
    """Requests of one worker that may wait for a stream of one backend; beyond it: 503."""
    backend_idle_timeout: float = 60.0
    """After which an unused backend connection is closed."""
    backend_ping_interval: float = 15.0
    """Silence after which a backend connection in use is probed by PING at the latest; 0: never."""
    backend_ping_timeout: float = 5.0
    """How much longer the silence may last then; beyond it the connection is given up."""
    backend_rows: int = 256
    """Different backends (by scheme and address) that shared memory has room for, with those of
    older configurations whose workers still drain. Fixed when the master starts."""
    rate_limit_keys: int = 16_384
    """Keys of rate limits that are counted apart at one time by each kind of algorithm. Fixed when
    the master starts."""
