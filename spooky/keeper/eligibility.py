"""What becomes of each backend by all rules together, told once for all workers.

It looks at the backends' rows as the workers do and comes to what they come to. It notes in the
rows what a backend is used for, and when it was last out of service, which is where a slow start
begins; and it logs when an upstream begins or ends to ignore health, or to need its backups. What
happens to a single backend is logged by whoever finds it out.

The time of being out is noted over and over while it lasts, not when it ends: so it is there
before any worker sees the backend come back.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from spooky.config.model import Config, Upstream
from spooky.policy.census import Census, Place
from spooky.policy.eligibility import Rules, Standing, Weighing
from spooky.shm.backend_cells import BackendColumn, Use
from spooky.shm.backends import BackendRow, BackendTable
from spooky.shm.clock import now_ms

log = logging.getLogger(__name__)

INTERVAL_S: Final = 0.05


class Eligibility:
    """The upstreams of a configuration and the rows of their backends."""

    def __init__(self, config: Config, table: BackendTable, rows: Mapping[str, int]) -> None:
        """Take the configuration, and where the row of each backend is by its identity."""
        self._table = table
        self._upstreams: list[_Watched] = []
        self.follow(config, rows)

    def follow(self, config: Config, rows: Mapping[str, int]) -> None:
        """Take other backends; what was said of their upstreams is not said again."""
        table, zone = self._table, config.zone or ""
        self._rows = [table.row(number) for number in sorted(set(rows.values()))]
        before = {watched.name: watched for watched in self._upstreams}
        self._upstreams = [
            _Watched(
                upstream,
                [table.row(rows[backend.identity]) for backend in upstream.backends],
                zone,
                before.get(upstream.name),
            )
            for upstream in config.upstream
        ]

    async def watch(self) -> None:
        """Look, for ever."""
        while True:
            self.look(now_ms())
            await asyncio.sleep(INTERVAL_S)

    def look(self, moment_ms: int) -> None:
        """Look once."""
        for row in self._rows:
            if row.is_ill:
                row.set(BackendColumn.LAST_ILL_MS, moment_ms)
        for upstream in self._upstreams:
            upstream.look(moment_ms)


class _Watched:
    """An upstream, and what was last said of it."""

    def __init__(
        self,
        upstream: Upstream,
        rows: Sequence[BackendRow],
        zone: str,
        before: "_Watched | None" = None,
    ) -> None:
        self.name = upstream.name
        self._upstream = upstream
        self._rows = rows
        self._census = Census(
            [
                Place(one.weight, one.priority, one.zone or "", row)
                for one, row in zip(upstream.backends, rows, strict=True)
            ],
            Rules(upstream.slow_start, upstream.panic_threshold / 100, zone),
        )
        self._is_panic: bool = before is not None and before._is_panic
        first = min(backend.priority for backend in upstream.backends)
        self._tier: int = first if before is None else before._tier

    def look(self, moment_ms: int) -> None:
        weighing = self._census.take(moment_ms)
        if weighing is None:
            return
        for row, standing in zip(self._rows, weighing.standings, strict=True):
            row.set(BackendColumn.USE, Use[standing.name])
        self._tell(weighing)

    def _tell(self, weighing: Weighing) -> None:
        name = self._upstream.name
        is_panic = Standing.PANIC in weighing.standings
        if is_panic is not self._is_panic:
            self._is_panic = is_panic
            if is_panic:
                log.warning(
                    "upstream %s: less than %d %% of it is well, its health is ignored",
                    name,
                    self._upstream.panic_threshold,
                )
            else:
                log.info("upstream %s: its health counts again", name)
        self._tell_tier(weighing.weights)

    def _tell_tier(self, weights: Sequence[int]) -> None:
        """Tell of the last tier that is asked."""
        asked = [
            backend.priority
            for backend, weight in zip(self._upstream.backends, weights, strict=True)
            if weight
        ]
        if asked and max(asked) != self._tier:
            grows, self._tier = max(asked) > self._tier, max(asked)
            log.log(
                logging.WARNING if grows else logging.INFO,
                "upstream %s: backends of priority %d %s",
                self._upstream.name,
                self._tier,
                "are needed" if grows else "suffice again",
            )
