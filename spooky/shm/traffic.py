"""What each process did with each backend: counters, gauges and how long it took.

The rule: a row has one writer, the process that it is named after, and counters outlive that
process: its successor in the slot goes on counting where it ended. Readers add up over processes.
The master writes a row only when its process is gone (gauges to 0) or the backend has no process
left (all to 0).

The table is a hole in the segment until somebody writes, and reading would fill a hole with
pages. So each process marks that it has begun, and nobody looks at the rows of one that has not.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

ROW_CELLS: Final = 40
"""A row is five cache lines of its own: writers do not slow one another."""

LATENCY_LIMITS_MS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 60_000)
"""A bucket has what took up to so long and longer than the one before it; one more has the rest."""
BUCKETS: Final = len(LATENCY_LIMITS_MS) + 1


class TrafficColumn(IntEnum):
    """The cells of a row. Counters, the gauges aside."""

    REQUESTS = 0
    """Attempts with this backend that are over: exchanges that ended with it, and those that went
    on with another attempt. Written after all else that is counted of an attempt."""
    FAILURES = 1
    """Those among them that failed by the backend's fault."""
    CLIENT_FAILURES = 2
    """Those that failed by the client's fault: it left, it took too long."""
    OWN_FAILURES = 3
    """Those that failed by Spooky's own decision: a full queue, a stop, a bug."""
    RETRIES = 4
    """Those that another attempt followed, with another backend or this one."""
    OCTETS_IN = 5
    """Content that clients sent."""
    OCTETS_OUT = 6
    """Content that clients were sent."""
    BACKEND_TIME_US = 7
    """The sum of the times from sending to the backend until the end of the exchange, of
    exchanges that ended with it."""
    ERROR_RESPONSES = 8
    """Those that ended well with a status of 500 to 599."""
    IN_FLIGHT = 9
    """Gauge of requests that have a stream."""
    QUEUED = 10
    """Gauge of requests that wait for a stream."""
    CONNECTIONS = 11
    """Gauge of connections to the backend."""
    CONNECT_FAILURES = 12
    """Failures for which no connection could be made."""
    TIMEOUTS = 13
    """Failures for which no answer came in time."""
    RESETS = 14
    """Failures because of a reset, a lost connection or an answer that is none."""
    SUCCESSES = 15
    """Those that ended well with a status below 500."""
    LATENCY = 16
    """The first of the buckets of the times in `BACKEND_TIME_US`."""
    BAD_STATUSES = 29
    """Failures by a status that the configuration lists for retries."""
    ANSWER_TIME_US = 28
    """The sum of the times from sending to the backend until these `ANSWERS` began. Written before
    their number."""
    UNDER_WAY = 32
    """Gauge of attempts that have begun and are not over, of upstreams whose balancer asks for it;
    in contrast to the other gauges it is never late."""
    ANSWERS = 33
    """Answers that have begun, whatever became of them; written at that moment, not at the end."""


GAUGES: Final = (
    TrafficColumn.IN_FLIGHT,
    TrafficColumn.QUEUED,
    TrafficColumn.CONNECTIONS,
    TrafficColumn.UNDER_WAY,
)


class TrafficTotal:
    """What all processes together did with one backend."""

    __slots__ = ("_cells",)

    def __init__(self, cells: list[int]) -> None:
        self._cells = cells

    def get(self, column: TrafficColumn) -> int:
        """Read a sum."""
        return self._cells[column]

    def latency(self) -> list[int]:
        """Count the exchanges in each bucket."""
        return self._cells[TrafficColumn.LATENCY : TrafficColumn.LATENCY + BUCKETS]


class TrafficTable:
    """The rows of all processes for all backends."""

    def __init__(self, cells: "memoryview[int]", processes: int, capacity: int) -> None:
        """Take `cells_needed(processes, capacity)` cells, that are all 0 in a new table."""
        self._begun = cells[:processes]
        self._cells = cells[processes:]
        self._processes = processes
        self._capacity = capacity

    @staticmethod
    def cells_needed(processes: int, capacity: int) -> int:
        """Say how many cells a table takes, for so many processes and backends."""
        return processes + processes * capacity * ROW_CELLS

    def begin(self, process: int) -> None:
        """Mark that a process writes from now on; it does this itself, before it does."""
        self._begun[process] = 1

    def row(self, process: int, backend: int) -> "memoryview[int]":
        """Give a process the cells of its row for a backend; IndexError when there is none."""
        if not (0 <= process < self._processes and 0 <= backend < self._capacity):
            raise IndexError(f"no row of process {process} for backend row {backend}")
        start = (process * self._capacity + backend) * ROW_CELLS
        return self._cells[start : start + ROW_CELLS]

    def total(self, backend: int) -> TrafficTotal:
        """Add a backend's row up over all processes that are and were."""
        rows = [self.row(process, backend).tolist() for process in self._writers()]
        return TrafficTotal([sum(column) for column in zip([0] * ROW_CELLS, *rows, strict=True)])

    def sums(self, column: int, backends: Sequence[int]) -> list[int]:
        """Add one column up over all processes that are and were, for each of these backends.

        That costs less than all of the rows. Where that of `REQUESTS` is what it was, nothing else
        has changed but gauges.
        """
        cells, step = self._cells, self._capacity * ROW_CELLS
        starts = [process * step + column for process in self._writers()]
        return [sum([cells[start + row * ROW_CELLS] for start in starts]) for row in backends]

    def clear_backend(self, backend: int) -> None:
        """Forget a backend that no process has any more; only the master may."""
        for process in self._writers():
            self._zero(process, backend, range(ROW_CELLS))

    def end_process(self, process: int, backends: Iterable[int]) -> None:
        """Set the gauges of a process that is gone to 0; only the master may."""
        if self._begun[process]:
            for backend in backends:
                self._zero(process, backend, GAUGES)

    def _writers(self) -> list[int]:
        return [process for process, begun in enumerate(self._begun.tolist()) if begun]

    def _zero(self, process: int, backend: int, columns: Iterable[int]) -> None:
        row = self.row(process, backend)
        for column in columns:
            row[column] = 0
