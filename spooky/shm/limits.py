"""What each process has in flight of what is limited over all of them.

A row for each limit, by its name, so that the workers of two configurations that both have it
add up. In a row each process has a cell of its own, and nobody else writes it; the master sets it
to 0 when the process is gone. The master also assigns and frees rows (`named_rows.py`).

The rule: a cell has three numbers in it, side by side and wide enough that the sum of all cells
has their sums. So one look at a row says all, and no number is newer than another.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from spooky.shm.named_rows import NamedRows

_SHORTAGE: Final = (
    "limits over all workers, {taken} are in use, {wanted} more are wanted (admission and "
    "backend_limits): wait until workers of older configurations have drained, or set "
    "limits.backend_rows higher and restart"
)
_CLAIMS_BITS: Final = 12
_WAITING_BITS: Final = 28
_IN_FLIGHT_AT: Final = _CLAIMS_BITS + _WAITING_BITS


class Use(NamedTuple):
    """How much of a limit is in use, by one process or several."""

    in_flight: int
    waiting: int
    claims: int
    """How many processes wait for others to give something back."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and its use; `most` 0: it bounds something else than what is in flight."""

    name: str
    most: int
    in_flight: int
    waiting: int


class LimitRow:
    """One limit, as one process sees it."""

    __slots__ = ("_cells", "_process")

    def __init__(self, cells: "memoryview[int]", process: int) -> None:
        self._cells = cells
        self._process = process

    def others(self) -> Use:
        """Add up what all other processes say."""
        cells = self._cells.tolist()
        return _unpack(sum(cells) - cells[self._process])

    def say(self, in_flight: int, waiting: int, claims: bool) -> None:
        """Write our own cell."""
        cell = in_flight << _IN_FLIGHT_AT | waiting << _CLAIMS_BITS | claims
        self._cells[self._process] = cell


class LimitTable:
    """The rows of all limits: what may be in flight, then the cells of the processes."""

    def __init__(self, cells: "memoryview[int]", processes: int, capacity: int) -> None:
        """Take `cells_needed(processes, capacity)` cells, that are all 0 in a new table."""
        self._rows = NamedRows(cells, 1 + processes, capacity, _SHORTAGE)
        self._processes = processes
        self.capacity = capacity

    @staticmethod
    def cells_needed(processes: int, capacity: int) -> int:
        """Say how many cells a table takes, for so many processes and limits."""
        return NamedRows.cells_needed(1 + processes, capacity)

    def row(self, number: int, process: int) -> LimitRow:
        """Give a process its view of a row; IndexError when there is none."""
        if not (0 <= number < self.capacity and 0 <= process < self._processes):
            raise IndexError(f"no row {number} of process {process}")
        return LimitRow(self._rows.row(number)[1:], process)

    def assign(self, limits: Mapping[str, int]) -> dict[str, int]:
        """Give each limit its row, the one that it has where it has one; only the master may.

        `limits` has what may be in flight, by name. StartupError when there are not enough rows;
        then nothing has changed.
        """
        found = self._rows.assign(limits)
        for name, number in found.items():
            self._rows.row(number)[0] = limits[name]
        return found

    def find(self, name: str) -> int | None:
        """Look up the row of a limit; None where it has none."""
        return self._rows.find(name)

    def release(self, names_to_keep: Collection[str]) -> None:
        """Free all other rows, which no process may have any more; only the master may."""
        self._rows.release(names_to_keep)

    def end_process(self, process: int) -> None:
        """Set to 0 what a process that is gone had; only the master may."""
        for number in self._rows.taken():
            self._rows.row(number)[1 + process] = 0

    def all(self) -> list[Limit]:
        """List the limits, by name."""
        found = (self._limit(number) for number in self._rows.taken())
        return sorted(found, key=lambda one: one.name)

    def _limit(self, number: int) -> Limit:
        most, *uses = self._rows.row(number).tolist()
        use = _unpack(sum(uses))
        return Limit(self._rows.name(number), most, use.in_flight, use.waiting)


def _unpack(cell: int) -> Use:
    return Use(
        in_flight=cell >> _IN_FLIGHT_AT,
        waiting=cell >> _CLAIMS_BITS & (1 << _WAITING_BITS) - 1,
        claims=cell & (1 << _CLAIMS_BITS) - 1,
    )
