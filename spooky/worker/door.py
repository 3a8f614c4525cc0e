"""Whether a client may begin a connection: the bounds on connections, over all workers.

It counts and says; it sends nothing. A connection counts from its first packet, but among those of
its client's address only from the end of its handshake: until then the address may be forged,
and nobody must be able to use up what another one may have. IPv6 clients are counted by their
/64, and a connection stays its first address's when the client moves.
"""

import time
from collections.abc import Callable

from spooky.bounds import Bound
from spooky.config.limits import Limits
from spooky.policy.rate.clients import Clients
from spooky.shm.bounds import BoundCounts
from spooky.shm.connections import ConnectionCounts, Places, places_of
from spooky.worker.client import Client

IPV6_PREFIX = 64


class Door:
    """The connections of one worker, as the bounds see them."""

    def __init__(
        self,
        counts: ConnectionCounts,
        limits: Limits,
        bounds: BoundCounts,
        key: bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin; `key` is the secret that all workers find places of addresses with."""
        self._counts = counts
        self._limits = limits
        self._bounds = bounds
        self._key = key
        self._clock = clock
        self._clients = Clients(IPV6_PREFIX, ())
        self._complete: dict[Client, Places] = {}
        """Those whose handshake is complete, and where they are counted."""

    def is_closed(self, address: str) -> bool:
        """Say, and count, whether no connection may be begun by a client of this address."""
        limits = self._limits
        tally = self._counts.tally(int(self._clock()))
        if _is_reached(tally.open, limits.connections):
            bound = Bound.CONNECTIONS
        elif _is_reached(tally.half_open, limits.handshakes):
            bound = Bound.HANDSHAKES
        elif _is_reached(tally.begun, limits.connections_per_second):
            bound = Bound.CONNECTIONS_PER_SECOND
        elif self._is_full(self._places(address)):
            bound = Bound.CONNECTIONS_PER_ADDRESS
        else:
            return False
        self._bounds.reached(bound)
        return True

    def begin(self) -> None:
        """Count a connection that is begun."""
        self._counts.begin(int(self._clock()))

    def complete(self, client: Client) -> bool:
        """Count that a handshake is complete; False: its address has too many connections."""
        places = self._places(client.path.peer[0])
        is_full = self._is_full(places)
        # Counted in any case, and whatever the bound: the workers of another one ask, too.
        self._complete[client] = places
        self._counts.complete(places)
        if is_full:
            self._bounds.reached(Bound.CONNECTIONS_PER_ADDRESS)
        return not is_full

    def end(self, client: Client) -> None:
        """Count that a connection is over."""
        self._counts.end(self._complete.pop(client, None))

    def _places(self, address: str) -> Places:
        return places_of(self._clients.key_of(address) or b"", self._key)

    def _is_full(self, places: Places) -> bool:
        most = self._limits.connections_per_address
        return most > 0 and self._counts.of_client(places) >= most


def _is_reached(count: int, most: int) -> bool:
    return 0 < most <= count
