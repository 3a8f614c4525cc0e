"""What the exchanges of a worker share, and what an exchange needs of its client connection."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from spooky.config.limits import Limits
from spooky.policy.routing import RouteTable
from spooky.protocol.messages import Path
from spooky.shm.bounds import BoundCounts
from spooky.worker.courses import Course
from spooky.worker.observe import Observer
from spooky.worker.upstreams import Upstreams


class Overdue(Protocol):
    """Something that may have waited for too long."""

    def check_time(self, now: float) -> None:
        """Give up if so; `now` on the clock of `time.monotonic`."""


class Connection(Protocol):
    """What an exchange needs of the client connection that it belongs to."""

    path: Path
    server_name: str | None
    name: bytes
    """Tells it from other connections as long as it lasts."""

    def touch(self) -> None:
        """Flush what was sent at the end of this turn."""

    def finished(self, stream: int) -> None:
        """Forget the exchange."""


@dataclass(slots=True)
class Services:
    """What all exchanges of a worker share.

    `misdirected(server_name, host)` says whether a host must not be asked for on a connection
    that was opened for `server_name` (RFC 9110 section 15.5.20).
    """

    loop: asyncio.AbstractEventLoop
    limits: Limits
    upstreams: Upstreams
    routes: RouteTable[Course]
    observer: Observer
    new_request_id: Callable[[], bytes]
    misdirected: Callable[[str | None, str], bool]
    bounds: BoundCounts
    """Where it is counted that a peer came up against a bound."""
    exchanges: set[Overdue] = field(default_factory=set)
