"""Clients that take their responses too slowly: one look over all connections, now and then.

A stream counts while it has more than the client has made room for, and a connection while anything
else waits to be sent: then the client confirms too little, or its path carries too little.
What has been handed to the engine is looked at, too, long after its request is over.
"""

import asyncio
import time
from collections.abc import Callable, Collection

from spooky.bounds import Bound
from spooky.errors import H3Code
from spooky.policy.pace import Pace
from spooky.protocol.messages import ALL_STREAMS
from spooky.worker.client import Client
from spooky.worker.services import Services

LOOKS_PER_GRACE = 10
SHORTEST_S = 0.05
LONGEST_S = 2.0


class Readers:
    """Watches how the clients of a worker read."""

    def __init__(self, clients: Callable[[], Collection[Client]], services: Services) -> None:
        self._clients = clients
        self._services = services
        grace = services.limits.rate_grace
        self._interval = min(max(grace / LOOKS_PER_GRACE, SHORTEST_S), LONGEST_S)
        self._looked_at = 0.0
        self._watched: dict[Client, dict[int, Pace]] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look, where there is a bound."""
        if self._services.limits.response_rate:
            self._handle = self._services.loop.call_later(self._interval, self._run)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _run(self) -> None:
        now = time.monotonic()
        watched = {}
        for client in self._clients():
            paces = self._watched.get(client)
            # Who had nothing to take at the last look, and asked for nothing since, has nothing.
            if paces is None and client.is_quiet_since(self._looked_at):
                continue
            if held := client.held_up():
                watched[client] = self._look(client, held, paces or {}, now)
        self._watched, self._looked_at = watched, now
        self.start()

    def _look(
        self, client: Client, held: dict[int, int], before: dict[int, Pace], now: float
    ) -> dict[int, Pace]:
        limits = self._services.limits
        paces = {stream: before.get(stream) or Pace(now) for stream in held}
        for stream, pace in paces.items():
            pace.look(now, kept=True)
            if pace.is_too_slow(held[stream], limits.response_rate, limits.rate_grace):
                self._services.bounds.reached(Bound.RESPONSE_RATE)
                self._end(client, stream)
        return paces

    def _end(self, client: Client, stream: int) -> None:
        if stream == ALL_STREAMS:
            client.close(H3Code.EXCESSIVE_LOAD, "the responses are taken too slowly")
        else:
            client.give_up(stream)
