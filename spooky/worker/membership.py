"""Which backends may be asked now, as everybody in the instance sees it.

It looks at the rows of the backends in shared memory, over and over, and tells an upstream's
balancer when something has changed (`policy.eligibility` says what). It writes nothing. Every
worker looks at the same cells, so all of them follow within one interval of whoever wrote.

Most looks find nothing new: one copy of the cells of all backends tells that, so that the cost of
a look hardly depends on how many there are.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from spooky.policy.census import Census, Place
from spooky.shm.backends import BackendTable
from spooky.shm.clock import now_ms
from spooky.worker.trials import TriedRow
from spooky.worker.upstreams import UpstreamGroup

INTERVAL_S: Final = 0.02


class Membership:
    """The upstreams of a worker and the rows of their backends."""

    def __init__(
        self,
        groups: Iterable[UpstreamGroup],
        table: BackendTable,
        rows: Mapping[str, TriedRow],
        loop: asyncio.AbstractEventLoop,
        zone: str | None = None,
    ) -> None:
        """Take the upstreams, the table, and the row of each backend by its identity.

        `zone` is where this instance stands.
        """
        self._loop = loop
        self._table = table
        self._sight = b""
        """What the table looked like the last time."""
        self._zone = zone
        self._watched = {group.name: _Watched(group, rows, zone) for group in groups}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        moment_ms = now_ms()
        sight = self._table.sight()
        is_new, self._sight = sight != self._sight, sight
        for watched in self._watched.values():
            if is_new or watched.is_due(moment_ms):
                watched.look(moment_ms)

    def renew(self, group: UpstreamGroup, rows: Mapping[str, TriedRow]) -> None:
        """Look at the backends that an upstream has by now, at once."""
        watched = self._watched[group.name] = _Watched(group, rows, self._zone)
        watched.look(now_ms())

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()


class _Watched:
    """An upstream, and what was last made of its backends."""

    def __init__(
        self, group: UpstreamGroup, rows: Mapping[str, TriedRow], zone: str | None
    ) -> None:
        self._group = group
        self._rows = [rows[backend.identity] for backend in group.backends]
        self._census = Census(
            [
                Place(backend.weight, backend.priority, backend.zone or "", row)
                for backend, row in zip(group.backends, self._rows, strict=True)
            ],
            replace(group.rules, zone=zone or ""),
        )
        self._weights: tuple[int, ...] | None = None

    def is_due(self, moment_ms: int) -> bool:
        """Say whether something may change though no row has: a slow start, trials used up."""
        return bool(self._group.trials) or moment_ms >= self._census.due_ms

    def look(self, moment_ms: int) -> None:
        """Look at the backends; the balancer hears of it only if a weight has changed."""
        weighing = self._census.take(moment_ms)
        if weighing is None:
            return
        quotas = ((place, row.quota()) for place, row in enumerate(self._rows))
        self._group.trials = {place: quota for place, quota in quotas if quota is not None}
        if self._group.sessions is not None:
            self._group.sessions.keeps = weighing.keeps
        if weighing.weights != self._weights:
            self._weights = weighing.weights
            self._group.reweigh(weighing.weights)
