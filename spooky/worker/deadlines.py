"""The timeouts of exchanges: one sweep over those that are open, several times a timeout.

A timer for each exchange would cost every request for the sake of the few that are late.
"""

import asyncio
import time

from spooky.worker.services import Services

SWEEPS_PER_TIMEOUT = 10
SHORTEST_S = 0.02
LONGEST_S = 1.0


class Sweep:
    """Checks the open exchanges over and over."""

    def __init__(self, services: Services) -> None:
        self._services = services
        shortest = services.upstreams.shortest_timeout() / SWEEPS_PER_TIMEOUT
        self._interval = min(max(shortest, SHORTEST_S), LONGEST_S)
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to sweep."""
        self._handle = self._services.loop.call_later(self._interval, self._run)

    def _run(self) -> None:
        now = time.monotonic()
        for exchange in list(self._services.exchanges):
            exchange.check_time(now)
        self.start()

    def stop(self) -> None:
        """Sweep no more."""
        if self._handle is not None:
            self._handle.cancel()
