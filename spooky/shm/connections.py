"""How many client connections there are: of all, of one client, in their handshake, and new ones.

Each process writes its own cells and no others, and a question adds up those of all; so none drifts
when a process dies: the master sets its cells to 0. Two processes that ask at the same moment
do not see each other's answer, so a bound may be exceeded by one for each other process.

Clients are counted without a table of them (a count-min sketch: Cormode and Muthukrishnan, 2005):
each has a counter in each of several rows, shared with whoever has the same place there, and the
least of them is its count. It is never too low, and too high only where others share all places,
which nobody can arrange who does not know the key that the places are made with.
"""

from hashlib import blake2b
from typing import Final, NamedTuple

ROWS: Final = 4
WIDTH: Final = 8192
"""Counters of a row: with 50,000 connections of as many clients one is 6 at the mean."""
_OPEN, _HALF_OPEN, _BEGUN, _USED = range(4)
"""The columns, each with a cell for each process."""
_COLUMNS: Final = 4
_COUNTERS_A_CELL: Final = 2
_LANE_CELLS: Final = ROWS * WIDTH // _COUNTERS_A_CELL
_SECOND_AT: Final = 32
_LOWER: Final = (1 << _SECOND_AT) - 1

Places = tuple[int, ...]
"""Where a client is counted."""


class Tally(NamedTuple):
    """What there is in the instance."""

    open: int
    half_open: int
    """Those of them whose handshake is not complete."""
    begun: int
    """Those that were begun within this second."""


def places_of(client: bytes, key: bytes) -> Places:
    """Say where a client is counted; `key` is secret, and the same in all processes."""
    digest = blake2b(client, key=key, digest_size=2 * ROWS, person=b"connections").digest()
    numbers = memoryview(digest).cast("H").tolist()
    return tuple(row * WIDTH + number % WIDTH for row, number in enumerate(numbers))


class ConnectionCounts:
    """The counts of all processes, as one of them asks and adds to them."""

    def __init__(self, cells: "memoryview[int]", processes: int, process: int) -> None:
        self._columns = [
            cells[column * processes : (column + 1) * processes] for column in range(_COLUMNS)
        ]
        # Counters of 32 bits: half the memory, and more than there can be connections.
        self._counters = cells[_COLUMNS * processes :].cast("B").cast("I")
        self._process = process
        self._start = process * ROWS * WIDTH

    def tally(self, second: int) -> Tally:
        """Add up what all processes have; `second` is now, in whole seconds of a common clock."""
        now = (second & _LOWER) << _SECOND_AT
        open_, half_open, begun, _ = self._columns
        of_now = [cell - now for cell in begun.tolist() if now <= cell <= now | _LOWER]
        return Tally(sum(open_.tolist()), sum(half_open.tolist()), sum(of_now))

    def of_client(self, places: Places) -> int:
        """Say how many connections a client has whose handshake is complete."""
        counters, size = self._counters, ROWS * WIDTH
        used = [process for process, flag in enumerate(self._columns[_USED].tolist()) if flag]
        return min(sum([counters[one * size + place] for one in used]) for place in places)

    def begin(self, second: int) -> None:
        """Count a connection that is begun."""
        columns, process = self._columns, self._process
        columns[_OPEN][process] += 1
        columns[_HALF_OPEN][process] += 1
        now = (second & _LOWER) << _SECOND_AT
        columns[_BEGUN][process] = max(columns[_BEGUN][process], now) + 1

    def complete(self, places: Places) -> None:
        """Count that a handshake is complete, and the connection its client's."""
        self._columns[_HALF_OPEN][self._process] -= 1
        self._columns[_USED][self._process] = 1
        for place in places:
            self._counters[self._start + place] += 1

    def end(self, places: Places | None) -> None:
        """Count that a connection is over; `places` of its client, None: it was half open."""
        self._columns[_OPEN][self._process] -= 1
        if places is None:
            self._columns[_HALF_OPEN][self._process] -= 1
            return
        for place in places:
            self._counters[self._start + place] -= 1


class ConnectionTable:
    """The counts of all processes."""

    def __init__(self, cells: "memoryview[int]", processes: int) -> None:
        """Take `cells_needed(processes)` cells, that are all 0 in a new table."""
        self._cells = cells
        self._processes = processes

    @staticmethod
    def cells_needed(processes: int) -> int:
        """Say how many cells a table takes; what nobody writes takes no memory."""
        return processes * (_COLUMNS + _LANE_CELLS)

    def counts(self, process: int) -> ConnectionCounts:
        """Give a process its view; IndexError when there is no such process."""
        if not 0 <= process < self._processes:
            raise IndexError(f"no cells for process {process}")
        return ConnectionCounts(self._cells, self._processes, process)

    def end_process(self, process: int) -> None:
        """Set to 0 what a process that is gone had; only the master may."""
        was_used = self._cells[_USED * self._processes + process]
        for column in range(_COLUMNS):
            self._cells[column * self._processes + process] = 0
        if was_used:
            start = _COLUMNS * self._processes + process * _LANE_CELLS
            lane = self._cells[start : start + _LANE_CELLS].cast("B")
            lane[:] = bytes(len(lane))
