"""Passive health and circuit breakers: what all workers saw is judged, and published.

Every `INTERVAL_S` the sums of the traffic table are shown to the judges of all upstreams. Rules
that are not obvious: two keepers may run while a master takes over from another, and only that of
the serving master judges. A backend is judged by its address. Where it is in several upstreams,
each of them may eject it from all; its breaker is that of the first upstream in the file that has
one.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from typing import Final

from spooky.config.model import Config
from spooky.keeper.judges import Ejections, Fuse, breaker_settings, is_judging
from spooky.policy.tally import Tally
from spooky.shm.backend_cells import BackendColumn
from spooky.shm.backends import BackendRow
from spooky.shm.clock import now_ms
from spooky.shm.instance import Cell
from spooky.shm.segment import SharedMemory
from spooky.shm.traffic import TrafficColumn, TrafficTable

INTERVAL_S: Final = 0.05


_EVIDENCE: Final = (
    TrafficColumn.SUCCESSES,
    TrafficColumn.ERROR_RESPONSES,
    TrafficColumn.BAD_STATUSES,
    TrafficColumn.CONNECT_FAILURES,
    TrafficColumn.TIMEOUTS,
    TrafficColumn.RESETS,
    TrafficColumn.ANSWERS,
    TrafficColumn.ANSWER_TIME_US,
)
"""What a `Tally` is made of, in its order, with its errors in two."""


class Ledger:
    """The sums of all workers for some backends, by their rows."""

    def __init__(self, traffic: TrafficTable, rows: Iterable[int]) -> None:
        self._traffic = traffic
        self._rows = list(rows)
        self._requests: list[int] = [-1] * len(self._rows)
        self.tallies: dict[int, Tally] = {}

    def read(self) -> None:
        """Bring the sums up to date; those of backends that were not used cost next to nothing."""
        requests = self._traffic.sums(TrafficColumn.REQUESTS, self._rows)
        changed = [
            row
            for row, before, after in zip(self._rows, self._requests, requests, strict=True)
            if before != after
        ]
        self._requests = requests
        columns = [self._traffic.sums(column, changed) for column in _EVIDENCE]
        for row, successes, errors, bad, *cells in zip(changed, *columns, strict=True):
            self.tallies[row] = Tally(successes, errors + bad, *cells)


class Outliers:
    """The judges of all upstreams of a configuration."""

    def __init__(
        self, config: Config, memory: SharedMemory, backend_rows: Mapping[str, int]
    ) -> None:
        """Take the rows by `Backend.identity`."""
        self._memory = memory
        self._ejections: dict[tuple[str, tuple[int, ...]], Ejections] = {}
        self._fuses: dict[int, Fuse] = {}
        self.follow(config, backend_rows)

    def follow(self, config: Config, backend_rows: Mapping[str, int]) -> None:
        """Take other backends; the judges of what stays go on with what they know."""
        self._config = config
        self._numbers = backend_rows
        backends = self._memory.backends
        self._rows = {number: backends.row(number) for number in backend_rows.values()}
        self._ledger = Ledger(self._memory.traffic, self._rows)
        self._is_begun = False

    async def run(self) -> None:
        """Judge over and over, until cancelled."""
        while True:
            if self._memory.instance.get(Cell.MASTER_PID) == os.getppid():
                self.look(now_ms() / 1000)
            await asyncio.sleep(INTERVAL_S)

    def look(self, now: float) -> None:
        """Judge once; `now` is seconds on the clock of the shared memory."""
        if not self._is_begun:
            self._begin(now)
        self._ledger.read()
        for ejections in self._ejections.values():
            ejections.look(self._ledger.tallies, now)
        for number, fuse in self._fuses.items():
            fuse.look(self._ledger.tallies[number], now)

    def _begin(self, now: float) -> None:
        """Go on from what the rows say; clear what nobody judges by this configuration."""
        self._is_begun = True
        ejections, self._ejections = self._ejections, {}
        fuses, self._fuses = self._fuses, {}
        judged: set[int] = set()
        for upstream in self._config.upstream:
            numbers = [self._numbers[backend.identity] for backend in upstream.backends]
            if is_judging(upstream.passive_health):
                judged.update(numbers)
                key = upstream.name, tuple(numbers)
                self._ejections[key] = ejections.get(key) or Ejections(
                    upstream, numbers, self._rows, now
                )
            if upstream.circuit_breaker is not None:
                settings = breaker_settings(upstream.circuit_breaker)
                for number in numbers:
                    fuse = fuses.get(number) or Fuse(settings, self._rows[number])
                    self._fuses.setdefault(number, fuse)
        for number in self._rows.keys() - judged:
            _clear(self._rows[number], _OF_EJECTIONS)
        for number in self._rows.keys() - self._fuses.keys():
            _clear(self._rows[number], _OF_BREAKERS)


_OF_EJECTIONS: Final = (BackendColumn.EJECTED_UNTIL_MS, BackendColumn.EJECTIONS)
_OF_BREAKERS: Final = (
    BackendColumn.BREAKER,
    BackendColumn.BREAKER_UNTIL_MS,
    BackendColumn.BREAKER_OPENINGS,
)


def _clear(row: BackendRow, columns: Iterable[BackendColumn]) -> None:
    for column in columns:
        row.set(column, 0)
