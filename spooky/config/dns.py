"""How names of backends are looked up: the model of `dns`."""

from dataclasses import dataclass
from typing import Final

PORT: Final = 53


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A name server: its IP address and UDP port."""

    address: str
    port: int = PORT


@dataclass(frozen=True, slots=True)
class Dns:
    """How names of backends are looked up, again and again at their time to live."""

    servers: tuple[DnsServer, ...] = ()
    """Name servers to ask, the first that answers counts; none: those of /etc/resolv.conf."""
    timeout: float = 2.0
    """For one look-up, all servers together."""
    min_ttl: float = 1.0
    """An answer is good for at least so long, whatever it says."""
    max_ttl: float = 300.0
    """An answer is good for at most so long."""
