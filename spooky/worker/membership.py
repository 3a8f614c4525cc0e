"""Which backends may be asked now, as everybody in the instance sees it.

It looks at the rows of the backends in shared memory, over and over, and tells an upstream's
balancer when something has changed (`policy.eligibility` says what). It writes nothing. Every
worker looks at the same cells, so all of them follow within one interval of whoever wrote.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from spooky.policy.eligibility import Member, weigh
from spooky.shm.backends import BackendColumn, BackendRow, BackendTable
from spooky.shm.clock import now_ms
from spooky.worker.upstreams import UpstreamGroup

INTERVAL_S: Final = 0.02
_WATCHED: Final = slice(BackendColumn.WEIGHT, BackendColumn.FORCED_HEALTH + 1)


class Membership:
    """The upstreams of a worker and the rows of their backends."""

    def __init__(
        self,
        groups: Iterable[UpstreamGroup],
        table: BackendTable,
        rows: Mapping[str, int],
        loop: asyncio.AbstractEventLoop,
        zone: str | None = None,
    ) -> None:
        """Take the upstreams, and the row of each backend by its identity.

        `zone` is where this instance stands.
        """
        self._loop = loop
        self._rows = {number: table.row(number) for number in set(rows.values())}
        self._groups = [
            _Watched(
                group, [self._rows[rows[backend.identity]] for backend in group.backends], zone
            )
            for group in groups
        ]
        self._seen: dict[int, list[int]] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        seen = {number: row.read(_WATCHED) for number, row in self._rows.items()}
        is_news, self._seen = seen != self._seen, seen
        now = self._loop.time()
        for group in self._groups:
            if is_news or now >= group.due:
                group.look(now)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()


class _Watched:
    """An upstream, and what was last made of its backends."""

    def __init__(self, group: UpstreamGroup, rows: list[BackendRow], zone: str | None) -> None:
        self._group = group
        self._backends = list(zip(group.backends, rows, strict=True))
        self._rules = replace(group.rules, zone=zone or "")
        self._weights: tuple[int, ...] | None = None
        self.due = math.inf
        """When to look again though nothing has changed."""

    def look(self, now: float) -> None:
        """Weigh the backends anew; the balancer hears of it only if that changes a weight."""
        moment_ms = now_ms()
        weighing = weigh(
            [
                Member(
                    row.weight_of(backend.weight),
                    backend.priority,
                    backend.zone or "",
                    *row.fitness(moment_ms),
                )
                for backend, row in self._backends
            ],
            self._rules,
        )
        self.due = math.inf if weighing.again_in is None else now + weighing.again_in
        if self._group.sessions is not None:
            self._group.sessions.keeps = weighing.keeps
        if weighing.weights != self._weights:
            self._weights = weighing.weights
            self._group.reweigh(weighing.weights)
