"""Which backends may be asked now, as everybody in the instance sees it.

It looks at the rows of the backends in shared memory, over and over, and tells an upstream's
balancer when something has changed. It writes nothing. Every worker looks at the same cells, so
all of them follow within one interval of whoever wrote.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from spooky.shm.backends import (
    OUT_OF_HEALTH,
    BackendColumn,
    BackendRow,
    BackendTable,
    Breaker,
    Duty,
)
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
    ) -> None:
        """Take the upstreams, and the row of each backend by its identity."""
        self._loop = loop
        self._rows = {number: table.row(number) for number in set(rows.values())}
        self._groups = [
            (group, [self._rows[rows[backend.identity]] for backend in group.backends])
            for group in groups
        ]
        self._seen: dict[int, list[int]] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        seen = {number: row.read(_WATCHED) for number, row in self._rows.items()}
        if seen != self._seen:
            self._seen = seen
            for group, rows in self._groups:
                _reweigh(group, rows)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()


def _reweigh(group: UpstreamGroup, rows: list[BackendRow]) -> None:
    weights = [
        row.weight_of(backend.weight) if _may_serve(row) else 0
        for backend, row in zip(group.backends, rows, strict=True)
    ]
    group.reweigh(weights)


def _may_serve(row: BackendRow) -> bool:
    return (
        row.get(BackendColumn.DUTY) == Duty.SERVING
        and row.health not in OUT_OF_HEALTH
        and row.get(BackendColumn.BREAKER) != Breaker.OPEN
    )
