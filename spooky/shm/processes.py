"""One row of state, gauges and counters per process.

A row is written by the process that it describes; the master writes a worker's or a keeper's row
only while no process owns it (before the fork, after the death). What a worker owes its row:
`pid` at once; `state` READY before it says `ready` to the master, DRAINING when it is told to
drain; `heartbeat_ms` (CLOCK_MONOTONIC) twice a second; gauges and counters as they change.
"""

from enum import IntEnum
from typing import Final

SLOT_LIMIT: Final = 256
"""Slots are told apart by one octet of a connection ID."""
KEEPER_ROWS: Final = (256, 257)
"""A keeper each for the two masters that there are while one takes over from the other."""
ROWS: Final = 258
ROW_CELLS: Final = 24
"""A row is three cache lines of its own: writers do not slow one another."""


class Column(IntEnum):
    """The cells of a row. Gauges unless said otherwise."""

    PID = 0
    STATE = 1
    """A `ProcessState`."""
    GENERATION = 2
    HEARTBEAT_MS = 3
    """The monotonic clock when the process last came round its loop, in milliseconds."""
    CONNECTIONS = 4
    """Client connections that are open."""
    IN_FLIGHT = 5
    """Requests that have begun and not ended."""
    REQUESTS_TOTAL = 6
    """Counter of requests that have ended. Counters outlive the processes of the row."""
    OPENED_TOTAL = 7
    """Counter of client connections that were begun."""
    HANDED_OVER_TOTAL = 8
    """Counter of datagrams that were passed on to the worker that they are for."""
    LATE_TOTAL = 9
    """Counter of those among them that wanted a new connection of a draining worker."""
    REFUSED_TOTAL = 10
    """Counter of new connections that were refused."""
    RESETS_TOTAL = 11
    """Counter of stateless resets that were sent."""
    RETRIES_TOTAL = 12
    """Counter of Retry packets that were sent."""
    RATE_LIMITED_TOTAL = 13
    """Counter of requests that a rate limit refused."""
    RATE_SPARED_TOTAL = 14
    """Counter of those that one would have refused, were it not a dry run."""
    FOLLOWS = 15
    """The number of the note with operators' changes of which the process has carried out all: it
    has no backend any more that this one, or one before it, took away."""
    RESUMED_TOTAL = 16
    """Counter of handshakes that went on with the TLS session of an earlier connection."""


COUNTERS: Final = frozenset(column for column in Column if column.name.endswith("_TOTAL"))


class ProcessState(IntEnum):
    """How far a process is, as it says itself."""

    GONE = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    """Takes nothing new."""


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
        for column in Column:
            if column not in COUNTERS:
                self._cells[column] = 0
        self._cells[Column.GENERATION] = generation
        self._cells[Column.STATE] = state


def other_keeper_row(row: int) -> int:
    """Say which of the two is free while `row` is taken."""
    first, second = KEEPER_ROWS
    return second if row == first else first


class ProcessTable:
    """Rows for all slots, by their numbers, then for the keepers."""

    CELLS: Final = ROWS * ROW_CELLS

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells

    def row(self, number: int) -> Row:
        """Give the view of a row; IndexError when there is no such row."""
        if not 0 <= number < ROWS:
            raise IndexError(f"row {number} of {ROWS}")
        return Row(self._cells[number * ROW_CELLS : (number + 1) * ROW_CELLS])

    def state(self, slot: int) -> ProcessState:
        """Say how far the process of a slot is."""
        return ProcessState(self._cells[slot * ROW_CELLS + Column.STATE])

    def occupied(self) -> list[int]:
        """List the slots that have a process, or wait for one that was just started."""
        return [slot for slot in range(SLOT_LIMIT) if self.state(slot) is not ProcessState.GONE]

    def followed(self) -> int:
        """Say what every process that is there follows; of one that starts nothing is known yet."""
        rows = [self._cells[row : row + ROW_CELLS] for row in range(0, ROWS * ROW_CELLS, ROW_CELLS)]
        there = (row for row in rows if row[Column.STATE] != ProcessState.GONE)
        return min((row[Column.FOLLOWS] for row in there), default=0)

    def total(self, column: Column) -> int:
        """Add a column up over all workers that are and were."""
        return sum(self._cells[slot * ROW_CELLS + column] for slot in range(SLOT_LIMIT))
