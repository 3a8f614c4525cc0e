"""How many requests something may make: the model of `rate_limits`."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

UNITS_NS: Final = {
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
TOKEN_BUCKET: Final = "token-bucket"
LEAKY_BUCKET: Final = "leaky-bucket"
SLIDING_WINDOW: Final = "sliding-window"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in a second, minute, hour or day (`s`, `m`, `h`, `d`)."""

    count: int
    unit: str

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"

    @property
    def window_ns(self) -> int:
        """The unit, in nanoseconds."""
        return UNITS_NS[self.unit]

    @property
    def interval_ns(self) -> int:
        """From one request to the next, rounded up: never more than the rate."""
        return -(-self.window_ns // self.count)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests of each client, connection, API key or upstream may pass."""

    name: str
    """What it is called in logs and in the `RateLimit` fields."""
    rate: Rate
    """How many requests in how long, such as `100/s`, `30/m`, `1000/h` or `5000/d`."""
    key: str = "client_ip"
    """What is counted apart: `client_ip`, `cid` (the client's connection), `header:NAME`,
    `cookie:NAME`, `query:NAME` (requests without it are not limited), `path`, `authority`,
    `upstream`, `backend` (of which another is asked then), or `all` for one count of everything."""
    algorithm: str = TOKEN_BUCKET
    """`token-bucket`, `leaky-bucket` or `sliding-window`."""
    burst: int | None = None
    """Token bucket: how many requests may come at once; None: the number in `rate`. Leaky bucket:
    how many may be ahead of their turn; None: none."""
    delay: int | None = 0
    """Leaky bucket: how many requests ahead of their turn pass at once; those beyond it wait for
    it. None (`off`): none waits, all of `burst` pass at once."""
    path_prefix: str = "/"
    """Which requests it is for, by whole segments of their path."""
    scope: str = "instance"
    """`instance`: over all workers, and kept over reloads. `worker`: each worker counts alone."""
    exempt: tuple[Network, ...] = ()
    """Client addresses that it is not for."""
    ipv6_prefix: int = 64
    """Clients by IPv6 are counted by so many bits of their address."""
    headers: str = "refused"
    """Which responses have the `RateLimit` fields: `refused` ones, or `always` all of them."""
    dry_run: bool = False
    """Whether it only counts and logs what it would have refused."""

    @property
    def capacity(self) -> int:
        """How many requests pass at once after a long silence."""
        if self.algorithm == LEAKY_BUCKET:
            return (self.burst or 0) + 1
        return self.rate.count if self.burst is None else self.burst
