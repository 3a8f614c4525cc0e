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
from spooky.shm.backends import BackendColumn, BackendRow, BackendTable, Breaker
from spooky.shm.clock import now_ms
from spooky.worker.trials import Quota, Trials
from spooky.worker.upstreams import UpstreamGroup

INTERVAL_S: Final = 0.02
_WATCHED: Final = slice(BackendColumn.WEIGHT, BackendColumn.EJECTED_UNTIL_MS + 1)


class Membership:
    """The upstreams of a worker and the rows of their backends."""

    def __init__(
        self,
        groups: Iterable[UpstreamGroup],
        table: BackendTable,
        rows: Mapping[str, int],
        loop: asyncio.AbstractEventLoop,
        trials: Trials,
        zone: str | None = None,
    ) -> None:
        """Take the upstreams, and the row of each backend by its identity.

        `trials` are this worker's, `zone` is where this instance stands.
        """
        self._loop = loop
        self._trials = trials
        self._rows = {number: table.row(number) for number in set(rows.values())}
        self._groups = [
            _Watched(
                group,
                {
                    number: self._rows[number]
                    for number in (rows[backend.identity] for backend in group.backends)
                },
                trials,
                zone,
            )
            for group in groups
        ]
        self._seen: dict[int, tuple[list[int], bool]] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        seen = {
            number: (row.read(_WATCHED), self._trials.is_spent(number))
            for number, row in self._rows.items()
        }
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

    def __init__(
        self, group: UpstreamGroup, rows: Mapping[int, BackendRow], trials: Trials, zone: str | None
    ) -> None:
        """Take the rows of the backends by their numbers, in the order of the upstream."""
        self._group = group
        self._backends = list(zip(group.backends, rows.items(), strict=True))
        self._trials = trials
        self._rules = replace(group.rules, zone=zone or "")
        self._weights: tuple[int, ...] | None = None
        self.due = math.inf
        """When to look again though nothing has changed."""

    def look(self, now: float) -> None:
        """Weigh the backends anew; the balancer hears of it only if that changes a weight."""
        quotas: dict[int, Quota] = {}
        weighing = weigh(self._members(now_ms(), quotas), self._rules)
        self._group.trials = quotas
        self.due = math.inf if weighing.again_in is None else now + weighing.again_in
        if self._group.sessions is not None:
            self._group.sessions.keeps = weighing.keeps
        if weighing.weights != self._weights:
            self._weights = weighing.weights
            self._group.reweigh(weighing.weights)

    def _members(self, moment_ms: int, quotas: dict[int, Quota]) -> list[Member]:
        """Read the rows; enter what may be tried of backends whose breaker is half open."""
        members = []
        for place, (backend, (number, row)) in enumerate(self._backends):
            fitness = row.fitness(moment_ms)
            if row.get(BackendColumn.BREAKER) == Breaker.HALF_OPEN:
                quotas[place] = self._trials.quota(number, row)
                fitness = fitness._replace(is_breaker_open=not quotas[place].left)
            weight, zone = row.weight_of(backend.weight), backend.zone or ""
            members.append(Member(weight, backend.priority, zone, *fitness))
        return members
