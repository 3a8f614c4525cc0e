"""The timeouts of exchanges: one sweep over those that are open, several times a timeout.

A timer for each exchange would cost every request for the sake of the few that are late.
"""

import asyncio
import time

from spooky.config.model import Timeouts
from spooky.errors import Kind
from spooky.protocol.exchange import State
from spooky.worker.services import Services
from spooky.worker.upload import Upload

SWEEPS_PER_TIMEOUT = 10
SHORTEST_S = 0.02
LONGEST_S = 1.0


class Progress:
    """When an exchange began and when it last moved; what it has waited too long for."""

    __slots__ = ("_unread", "active_at", "started_at")

    def __init__(self, now: float) -> None:
        self.started_at = self.active_at = now
        self._unread = 0

    def note_unread(self, count: int, now: float) -> None:
        """Take note of how much the client has not confirmed: any change is a move."""
        if count != self._unread:
            self._unread = count
            self.active_at = now

    def overdue(
        self, timeouts: Timeouts, state: State, upload: Upload, owed: int, now: float
    ) -> Kind | None:
        """Say what has taken too long, None: nothing. `owed`: what the client makes no room for."""
        if timeouts.total and now - self.started_at > timeouts.total:
            return Kind.TOTAL_TIMEOUT
        still_for = now - self.active_at
        if state is State.SENT and upload.finished:
            late = timeouts.response_header and still_for > timeouts.response_header
            return Kind.RESPONSE_TIMEOUT if late else None
        if state is State.WAITING or not timeouts.idle or still_for <= timeouts.idle:
            return None
        if state is State.RESPONDING:
            return Kind.CLIENT_TIMEOUT if owed else Kind.IDLE_TIMEOUT
        return Kind.IDLE_TIMEOUT if upload.is_waiting else Kind.CLIENT_TIMEOUT


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
