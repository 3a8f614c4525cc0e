"""What a worker keeps for its clients in memory: past the bound it parts with the largest first.

Each connection is bounded by its windows, so a few of them cannot do harm; thousands that take
nothing of what they asked for can. It looks at all of them once a second and decides nothing
about a request.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from spooky.bounds import Bound
from spooky.errors import H3Code
from spooky.worker.client import Client
from spooky.worker.services import Services

log = logging.getLogger("spooky.worker")

LOOK_EVERY_S: Final = 1.0


class Ballast:
    """The bound on what all clients of a worker may have it keep."""

    def __init__(self, clients: Callable[[], Iterable[Client]], services: Services) -> None:
        self._clients = clients
        self._services = services
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._timer = self._services.loop.call_later(LOOK_EVERY_S, self._recur)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _recur(self) -> None:
        self.look()
        self.start()

    def look(self) -> None:
        """Close the connections that have most, until the others are within the bound."""
        held = [(client.held(), client) for client in self._clients()]
        excess = sum(octets for octets, _ in held) - self._services.limits.worker_buffers
        if excess <= 0:
            return
        shed = 0
        for octets, client in sorted(held, key=lambda one: one[0], reverse=True):
            if excess <= 0:
                break
            excess -= octets
            shed += 1
            client.close(H3Code.EXCESSIVE_LOAD, "too much is buffered")
        self._services.bounds.reached(Bound.WORKER_BUFFERS, shed)
        log.warning("closed %d connections: limits.worker_buffers was reached", shed)
