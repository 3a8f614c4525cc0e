"""Which backends may be asked now, as everybody in the instance sees it.

It looks at the rows of the backends in shared memory, over and over, and tells an upstream's
balancer when something has changed (`policy.eligibility` says what). It writes nothing. Every
worker looks at the same cells, so all of them follow within one interval of whoever wrote.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from spooky.policy.census import Census, Place
from spooky.shm.backends import BackendTable
from spooky.shm.clock import now_ms
from spooky.worker.trials import Quota, TriedRow
from spooky.worker.upstreams import UpstreamGroup

INTERVAL_S: Final = 0.02


class Membership:
    """The upstreams of a worker and the rows of their backends."""

    def __init__(
        self,
        groups: Iterable[UpstreamGroup],
        table: BackendTable,
        rows: Mapping[str, int],
        loop: asyncio.AbstractEventLoop,
        crew: tuple[int, int],
        zone: str | None = None,
    ) -> None:
        """Take the upstreams, and the row of each backend by its identity.

        `crew` is this worker's index and how many workers there are, `zone` is where this instance
        stands.
        """
        self._loop = loop
        numbers = [(group, [rows[one.identity] for one in group.backends]) for group in groups]
        self._rows = {
            number: TriedRow(table.row(number), Quota(*crew)) for number in set(rows.values())
        }
        self._watched = [
            _Watched(group, [self._rows[number] for number in of_group], zone)
            for group, of_group in numbers
        ]
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        for row in self._rows.values():
            if row.is_tried:
                row.renew()
        moment_ms = now_ms()
        for watched in self._watched:
            watched.look(moment_ms)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()


class _Watched:
    """An upstream, and what was last made of its backends."""

    def __init__(self, group: UpstreamGroup, rows: list[TriedRow], zone: str | None) -> None:
        """Take the rows of the upstream's backends, in their order."""
        self._group = group
        self._rows = rows
        self._census = Census(
            [
                Place(one.weight, one.priority, one.zone or "", row)
                for one, row in zip(group.backends, rows, strict=True)
            ],
            replace(group.rules, zone=zone or ""),
        )
        self._weights: tuple[int, ...] | None = None

    def look(self, moment_ms: int) -> None:
        """Look at the backends; the balancer hears of it only if a weight has changed."""
        weighing = self._census.take(moment_ms)
        if weighing is None:
            return
        self._group.trials = {
            place: row.quota for place, row in enumerate(self._rows) if row.is_tried
        }
        if self._group.sessions is not None:
            self._group.sessions.keeps = weighing.keeps
        if weighing.weights != self._weights:
            self._weights = weighing.weights
            self._group.reweigh(weighing.weights)
