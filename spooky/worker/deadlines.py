"""The timeouts of exchanges: one sweep over those that are open, several times a timeout.

A timer for each exchange would cost every request for the sake of the few that are late.
"""

import asyncio
import time

from spooky.config.limits import Limits
from spooky.config.model import Timeouts
from spooky.errors import Kind
from spooky.policy.deadline import is_grpc_call
from spooky.policy.pace import Pace
from spooky.protocol.exchange import State
from spooky.protocol.messages import RequestHead
from spooky.worker.services import Services
from spooky.worker.upload import Upload

SWEEPS_PER_TIMEOUT = 10
SHORTEST_S = 0.02
LONGEST_S = 1.0


class Progress:
    """When an exchange began and when it last moved; what it has waited too long for."""

    __slots__ = ("_pace", "_unread", "active_at", "started_at")

    def __init__(self, now: float) -> None:
        self.started_at = self.active_at = now
        self._unread = 0
        self._pace: Pace | None = None

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

    def slow(
        self, limits: Limits, state: State, upload: Upload, head: RequestHead | None, now: float
    ) -> Kind | None:
        """Say whether the client sends content too slowly, None: it does not.

        A gRPC call may be a conversation, in which neither side owes the other anything.
        """
        if upload.complete or not limits.request_body_rate:
            return None
        pace = self._pace
        if pace is None:
            if head is not None and not is_grpc_call(head.headers):
                self._pace = Pace(now)
            return None
        pace.look(now, kept=state is State.SENT and not upload.is_waiting)
        is_slow = pace.is_too_slow(upload.received, limits.request_body_rate, limits.rate_grace)
        return Kind.SLOW_REQUEST if is_slow else None


class Sweep:
    """Checks the open exchanges over and over."""

    def __init__(self, services: Services) -> None:
        self._services = services
        shortest = min(services.upstreams.shortest_timeout(), services.limits.rate_grace)
        self._interval = min(max(shortest / SWEEPS_PER_TIMEOUT, SHORTEST_S), LONGEST_S)
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
