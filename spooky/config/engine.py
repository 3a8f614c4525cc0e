"""Which implementations of the protocols carry requests: the model of `engine`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Engine:
    """Which implementations of the protocols carry requests."""

    downstream: str = "aioquic"
    """QUIC and HTTP/3 towards clients: only `aioquic`."""
    upstream: str = "lean"
    """HTTP/2 towards backends, requests and health checks alike. `lean`: Spooky's own. `h2`: the
    library of that name, at several times the CPU time."""
