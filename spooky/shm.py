"""The memory that all processes share: one row of counters and state per process.

Owns the layout of the segment, which the master makes before its first fork and every child
inherits. Each row has one writer: the process that it describes; the master writes a worker's
or the keeper's row only while no process owns it (before the fork, after the death). Readers
add rows up. There are no locks and no invariant spans two cells: a cell is 8 aligned octets,
which processors read and write whole.

What a worker owes its row: `pid` at once; `state` READY before it says `ready` to the master,
DRAINING when it is told to drain; `heartbeat_ms` (CLOCK_MONOTONIC) every second; the gauges and
the counter as they change. It reads its UDP sockets only while `is_active(its generation)`.
"""

import mmap
from enum import IntEnum


class Column(IntEnum):
    """The cells of a row. Gauges unless said otherwise."""

    PID = 0
    STATE = 1
    """A `ProcessState`."""
    GENERATION = 2
    """Which generation the process belongs to; in the master's row: the one that serves."""
    HEARTBEAT_MS = 3
    """The monotonic clock when the process last came round its loop, in milliseconds."""
    CONNECTIONS = 4
    """Client connections that are open."""
    IN_FLIGHT = 5
    """Requests that have begun and not ended."""
    REQUESTS_TOTAL = 6
    """Counter of requests that have ended; it outlives the processes of the row."""


class ProcessState(IntEnum):
    """How far a process is, as it says itself."""

    GONE = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    """Takes nothing new. In the master's row: the whole instance is stopping."""


ROW_CELLS = 8
"""A row is 64 octets, a cache line of its own: writers do not slow one another."""
CELL_BYTES = 8


class Row:
    """The cells of one process."""

    __slots__ = ("_cells",)

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells

    def get(self, column: Column) -> int:
        """Read a cell."""
        return self._cells[column]

    def set(self, column: Column, value: int) -> None:
        """Write a cell; `value` is 0 to 2**64 - 1."""
        self._cells[column] = value

    def add(self, column: Column, amount: int = 1) -> None:
        """Add to a cell; only its one writer may, for this is a read and a write."""
        self._cells[column] += amount

    @property
    def state(self) -> ProcessState:
        """How far the process is."""
        return ProcessState(self._cells[Column.STATE])

    def begin(self, generation: int) -> None:
        """Make the row ready for a new owner: gauges to nothing, counters kept."""
        self._reset(ProcessState.STARTING, generation)

    def end(self) -> None:
        """Mark that the owner is gone."""
        self._reset(ProcessState.GONE, 0)

    def _reset(self, state: ProcessState, generation: int) -> None:
        for column in (Column.PID, Column.HEARTBEAT_MS, Column.CONNECTIONS, Column.IN_FLIGHT):
            self._cells[column] = 0
        self._cells[Column.GENERATION] = generation
        self._cells[Column.STATE] = state


class ProcessTable:
    """Rows for both banks of workers, then the keeper's row, then the master's.

    Row number and slot number of a worker are the same: `bank * workers + index`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.keeper_row = 2 * workers
        self.master_row = 2 * workers + 1
        rows = 2 * workers + 2
        self._segment = mmap.mmap(-1, rows * ROW_CELLS * CELL_BYTES)
        self._cells = memoryview(self._segment).cast("Q")

    def row(self, number: int) -> Row:
        """Give the view of a row; IndexError when there is no such row."""
        if not 0 <= number <= self.master_row:
            raise IndexError(f"row {number} of {self.master_row + 1}")
        return Row(self._cells[number * ROW_CELLS : (number + 1) * ROW_CELLS])

    def worker_rows(self) -> list[Row]:
        """Give the rows of all slots, of both banks."""
        return [self.row(number) for number in range(2 * self.workers)]

    def active_generation(self) -> int:
        """Say which generation serves new clients."""
        return self.row(self.master_row).get(Column.GENERATION)

    def is_active(self, generation: int) -> bool:
        """Say whether processes of `generation` are the ones to read the UDP sockets.

        False for a generation that is not promoted yet, and for one that drains because another
        took over. True to the end for the last one, which drains at shutdown with nobody after
        it: it must read for itself.
        """
        return self.active_generation() == generation

    def is_stopping(self) -> bool:
        """Say whether the whole instance is shutting down."""
        return self.row(self.master_row).state is ProcessState.DRAINING

    def ready_workers(self) -> int:
        """Count the workers of the active generation that are ready."""
        active = self.active_generation()
        return sum(
            row.state is ProcessState.READY and row.get(Column.GENERATION) == active
            for row in self.worker_rows()
        )
