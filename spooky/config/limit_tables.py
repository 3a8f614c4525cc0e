"""The keys of `limits`."""

from spooky.config.limits import Limits
from spooky.config.scalars import choice, duration, integer, size
from spooky.config.shapes import Field, Section

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DAY = 86_400
_WAIT = duration(0.001, DAY)
_WAIT_OR_NONE = duration(0.001, DAY, zero=True)
_COUNT_OR_NONE = integer(0, 10_000_000)
_WINDOW = size(4 * KIB, GIB)
_SOCKET_BUFFER = size(4 * KIB, GIB)

LIMITS = Section(
    Limits,
    {
        "connections": Field(_COUNT_OR_NONE),
        "connections_per_address": Field(_COUNT_OR_NONE),
        "handshakes": Field(_COUNT_OR_NONE),
        "connections_per_second": Field(_COUNT_OR_NONE),
        "request_header_bytes": Field(size(KIB, MIB)),
        "request_header_count": Field(integer(1, 10_000)),
        "request_header_timeout": Field(duration(0, DAY)),
        "request_body_bytes": Field(size(0, 1024 * GIB)),
        "request_body_rate": Field(size(0, GIB)),
        "response_rate": Field(size(0, GIB)),
        "rate_grace": Field(duration(0.1, DAY)),
        "response_header_bytes": Field(size(KIB, MIB)),
        "streams_per_connection": Field(integer(1, 65_535)),
        "stream_window": Field(_WINDOW),
        "connection_window": Field(_WINDOW),
        "response_buffer": Field(_WINDOW),
        "control_frames": Field(integer(100, 10_000_000)),
        "cancelled_requests": Field(integer(1, 1_000_000)),
        "receive_gaps": Field(integer(16, 1_000_000)),
        "crypto_buffer": Field(size(4 * KIB, 512 * KIB)),
        "qpack_table": Field(size(0, 64 * KIB)),
        "qpack_blocked_streams": Field(integer(0, 1024)),
        "worker_buffers": Field(size(MIB, 1024 * GIB)),
        "retry": Field(choice(["auto", "off", "always"])),
        "retry_handshakes": Field(integer(1, 1_000_000)),
        "stateless_answers": Field(integer(1, 1_000_000)),
        "client_idle_timeout": Field(duration(0.1, DAY)),
        "max_datagram_size": Field(size(1200, 1452)),
        "retry_body_bytes": Field(size(0, 16 * MIB)),
        "udp_receive_buffer": Field(_SOCKET_BUFFER),
        "udp_send_buffer": Field(_SOCKET_BUFFER),
        "backend_stream_window": Field(_WINDOW),
        "backend_connections": Field(integer(1, 1024)),
        "backend_streams": Field(integer(1, 65_535)),
        "backend_queue": Field(integer(0, 1_000_000)),
        "backend_idle_timeout": Field(duration(0.1, DAY)),
        "backend_ping_interval": Field(_WAIT_OR_NONE),
        "backend_ping_timeout": Field(_WAIT),
        "backend_rows": Field(integer(16, 4096)),
        "rate_limit_keys": Field(integer(1024, 262_144)),
    },
)
