"""What this worker did with each backend, told to everybody.

It owns this process's rows of the traffic table. An outcome is added the moment it is known,
so that a worker that is killed takes no count with it; gauges follow the heartbeat. The rule that
is not obvious: the count of attempts is added last, for who sees it grow reads the rest.
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

_HOW: Final = {
    Kind.CONNECT_FAILED: TrafficColumn.CONNECT_FAILURES,
    Kind.CONNECT_TIMEOUT: TrafficColumn.CONNECT_FAILURES,
    Kind.RESPONSE_TIMEOUT: TrafficColumn.TIMEOUTS,
    Kind.TRY_TIMEOUT: TrafficColumn.TIMEOUTS,
    Kind.IDLE_TIMEOUT: TrafficColumn.TIMEOUTS,
    Kind.BACKEND_RESET: TrafficColumn.RESETS,
    Kind.BACKEND_GONE: TrafficColumn.RESETS,
    Kind.BAD_RESPONSE: TrafficColumn.RESETS,
    Kind.BAD_STATUS: TrafficColumn.BAD_STATUSES,
}
"""What passive health makes of a failure; of the others it makes nothing."""

# Plain numbers: this runs for each request.
_REQUESTS: Final = int(TrafficColumn.REQUESTS)
_RETRIES: Final = int(TrafficColumn.RETRIES)
_OCTETS_IN: Final = int(TrafficColumn.OCTETS_IN)
_OCTETS_OUT: Final = int(TrafficColumn.OCTETS_OUT)
_TIME: Final = int(TrafficColumn.BACKEND_TIME_US)
_ERROR_RESPONSES: Final = int(TrafficColumn.ERROR_RESPONSES)
_SUCCESSES: Final = int(TrafficColumn.SUCCESSES)
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
        self._table = table
        self._process = process
        self.cells: dict[str, memoryview[int]] = {}
        """By the identities of the backends."""
        self._pools: dict[str, list[Pool]] = {}
        for _, backend, pool in pools:
            self.enrol(backend.identity, rows[backend.identity], pool)

    def enrol(self, identity: str, row: int, pool: Pool) -> None:
        """Count from now on for a backend, and tell of one more pool that it has."""
        if identity not in self.cells:
            self.cells[identity] = self._table.row(self._process, row)
        self._pools.setdefault(identity, []).append(pool)

    def dismiss(self, identity: str, pool: Pool) -> None:
        """Tell no more of a pool; after the last one of its backend, count for it no more."""
        pools = self._pools[identity]
        pools.remove(pool)
        if not pools:
            self.publish_gauges()
            del self._pools[identity], self.cells[identity]

    def record(self, outcome: Outcome) -> None:
        """Add an exchange to the row of the backend that it ended with, if there was one."""
        cells = self.cells.get(outcome.identity)
        if cells is None:
            return
        if outcome.error is not None:
            _add_failure(cells, outcome.error, answered=outcome.answer_time > 0)
        else:
            cells[_ERROR_RESPONSES if outcome.status >= 500 else _SUCCESSES] += 1
        if outcome.bytes_received:
            cells[_OCTETS_IN] += outcome.bytes_received
        if outcome.bytes_sent:
            cells[_OCTETS_OUT] += outcome.bytes_sent
        if outcome.backend_duration:
            time_us = int(outcome.backend_duration * 1e6)
            cells[_TIME] += time_us
            cells[_LATENCY + bisect_left(_LIMITS_US, time_us)] += 1
        cells[_REQUESTS] += 1

    def record_retry(self, identity: str, kind: Kind) -> None:
        """Add an attempt that failed and that another one follows, at any backend."""
        cells = self.cells.get(identity)
        if cells is None:
            return
        cells[_RETRIES] += 1
        _add_failure(cells, kind, answered=False)
        cells[_REQUESTS] += 1

    def record_given_up(self, identity: str) -> None:
        """Add an attempt beside another one that neither failed nor answered."""
        if identity in self.cells:
            self.cells[identity][_REQUESTS] += 1

    def publish_gauges(self) -> None:
        """Write what is open at this moment."""
        for identity, pools in self._pools.items():
            stats = [pool.stats() for pool in pools]
            cells = self.cells[identity]
            cells[TrafficColumn.IN_FLIGHT] = sum(one.in_flight for one in stats)
            cells[TrafficColumn.QUEUED] = sum(one.queued for one in stats)
            cells[TrafficColumn.CONNECTIONS] = sum(one.connections for one in stats)


def _add_failure(cells: "memoryview[int]", kind: Kind, *, answered: bool) -> None:
    cells[_FAILED[kind]] += 1
    how = _HOW.get(kind)
    if how is not None:
        cells[how] += 1
    elif kind is Kind.TOTAL_TIMEOUT and not answered:
        # Of an answer that has begun, nobody knows who made it last.
        cells[TrafficColumn.TIMEOUTS] += 1
