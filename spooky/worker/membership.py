"""Which backends may be asked now, as everybody in the instance sees it.

It looks at the rows of the backends in shared memory, over and over, and tells an upstream's
balancer when something has changed. It writes nothing. Every worker looks at the same cells, so
all of them follow within one interval of whoever wrote.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from spooky.shm.backends import BackendColumn, BackendRow, BackendTable, Breaker, Duty, Health
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
    ) -> None:
        """Take the upstreams, and the row of each backend by its identity."""
        self._loop = loop
        self._trials = trials
        self._rows = {number: table.row(number) for number in set(rows.values())}
        self._groups = [
            (group, [rows[backend.identity] for backend in group.backends]) for group in groups
        ]
        self._seen: dict[int, tuple[list[int], bool]] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        if self._look() != self._seen:
            for group, numbers in self._groups:
                self._tell(group, numbers)
            self._seen = self._look()

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _look(self) -> dict[int, tuple[list[int], bool]]:
        """Say what decides: the cells, and whether there are trials left."""
        return {
            number: (row.read(_WATCHED), self._trials.left(number) > 0)
            for number, row in self._rows.items()
        }

    def _tell(self, group: UpstreamGroup, numbers: list[int]) -> None:
        weights = []
        trials: dict[int, Quota] = {}
        for place, (backend, number) in enumerate(zip(group.backends, numbers, strict=True)):
            row = self._rows[number]
            serves = _may_serve(row)
            if serves and row.get(BackendColumn.BREAKER) == Breaker.HALF_OPEN:
                trials[place] = self._trials.quota(number, row)
                serves = trials[place].left > 0
            weights.append(row.weight_of(backend.weight) if serves else 0)
        group.reweigh(weights)
        group.trials = trials


def _may_serve(row: BackendRow) -> bool:
    return (
        row.get(BackendColumn.DUTY) == Duty.SERVING
        and row.health is not Health.UNHEALTHY
        and row.get(BackendColumn.BREAKER) != Breaker.OPEN
        and not row.get(BackendColumn.EJECTED_UNTIL_MS)
    )
