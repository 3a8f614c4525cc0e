"""What this worker did with each backend, told to everybody.

It owns this process's rows of the traffic table. An outcome is added the moment it is known,
so that a worker that is killed takes no count with it; gauges follow the heartbeat.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

from spooky.config.model import Backend
from spooky.errors import CONSEQUENCES, Kind, Origin
from spooky.shm.traffic import LATENCY_LIMITS_MS, TrafficColumn, TrafficTable
from spooky.worker.observe import Outcome
from spooky.worker.pool import Pool

_LIMITS_US: Final = [limit * 1000 for limit in LATENCY_LIMITS_MS]
_BLAME: Final = {
    Origin.BACKEND: TrafficColumn.FAILURES,
    Origin.CLIENT: TrafficColumn.CLIENT_FAILURES,
    Origin.SELF: TrafficColumn.OWN_FAILURES,
}
_FAILED: Final = {
    kind: int(_BLAME[consequence.origin]) for kind, consequence in CONSEQUENCES.items()
}

# Plain numbers: this runs for each request.
_REQUESTS: Final = int(TrafficColumn.REQUESTS)
_RETRIES: Final = int(TrafficColumn.RETRIES)
_OCTETS_IN: Final = int(TrafficColumn.OCTETS_IN)
_OCTETS_OUT: Final = int(TrafficColumn.OCTETS_OUT)
_TIME: Final = int(TrafficColumn.BACKEND_TIME_US)
_ERROR_RESPONSES: Final = int(TrafficColumn.ERROR_RESPONSES)
_LATENCY: Final = int(TrafficColumn.LATENCY)


class BackendTraffic:
    """This worker's part of the traffic table."""

    def __init__(
        self,
        table: TrafficTable,
        process: int,
        rows: Mapping[str, int],
        pools: Iterable[tuple[str, Backend, Pool]],
    ) -> None:
        """Take the rows by identity, and for each upstream's name its backends and their pools."""
        table.begin(process)
        self._cells: dict[tuple[str, str], memoryview[int]] = {}
        self._pools: dict[int, list[Pool]] = {}
        self._of_row = {row: table.row(process, row) for row in rows.values()}
        for upstream, backend, pool in pools:
            row = rows[backend.identity]
            self._cells[upstream, backend.id] = self._of_row[row]
            self._pools.setdefault(row, []).append(pool)

    def record(self, outcome: Outcome) -> None:
        """Add an exchange to the row of the backend that it ended with, if there was one."""
        cells = self._cells.get((outcome.upstream, outcome.backend))
        if cells is None:
            return
        cells[_REQUESTS] += 1
        if outcome.error is not None:
            cells[_FAILED[outcome.error]] += 1
        elif outcome.status >= 500:
            cells[_ERROR_RESPONSES] += 1
        if outcome.bytes_received:
            cells[_OCTETS_IN] += outcome.bytes_received
        if outcome.bytes_sent:
            cells[_OCTETS_OUT] += outcome.bytes_sent
        if outcome.backend_duration:
            time_us = int(outcome.backend_duration * 1e6)
            cells[_TIME] += time_us
            cells[_LATENCY + bisect_left(_LIMITS_US, time_us)] += 1

    def record_retry(self, upstream: str, backend: str, kind: Kind) -> None:
        """Add an attempt that failed and that another one follows, at any backend."""
        cells = self._cells[upstream, backend]
        cells[_REQUESTS] += 1
        cells[_RETRIES] += 1
        cells[_FAILED[kind]] += 1

    def record_given_up(self, upstream: str, backend: str) -> None:
        """Add an attempt beside another one that neither failed nor answered."""
        self._cells[upstream, backend][_REQUESTS] += 1

    def publish_gauges(self) -> None:
        """Write what is open at this moment."""
        for row, pools in self._pools.items():
            stats = [pool.stats() for pool in pools]
            cells = self._of_row[row]
            cells[TrafficColumn.IN_FLIGHT] = sum(one.in_flight for one in stats)
            cells[TrafficColumn.QUEUED] = sum(one.queued for one in stats)
            cells[TrafficColumn.CONNECTIONS] = sum(one.connections for one in stats)
