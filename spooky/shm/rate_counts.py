"""What became of the requests that each rate limit was asked about, by all processes.

A row for each limit, by its name, so that the workers of two configurations that both have it add
up, and reloads forget nothing. In a row each process has a cache line of its own, which nobody else
writes; it outlives its process, and the next one in the slot goes on with it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from spooky.shm.named_rows import NamedRows

CAPACITY: Final = 1024
"""Twice as many as a configuration may have, so that a reload may name all of them anew."""
_LINE_CELLS: Final = 8
_SHORTAGE: Final = (
    "rate limits over all workers, {taken} are in use, {wanted} more are wanted: wait until "
    "workers of older configurations have drained"
)


class _Count(IntEnum):
    ADMITTED = 0
    REFUSED = 1
    SPARED = 2


@dataclass(frozen=True, slots=True)
class RateCount:
    """What one limit did since it was first configured."""

    name: str
    admitted: int
    """Requests that it let pass, and that went on; of a limit of backends, those sent to one."""
    refused: int
    spared: int
    """Those that it would have refused, were it not for a dry run."""


class RateCounter:
    """One limit's counts, as one process adds to them."""

    __slots__ = ("_cells",)

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells

    def admitted(self) -> None:
        """Count a request that passed."""
        self._cells[_ADMITTED] += 1

    def refused(self) -> None:
        """Count one that did not."""
        self._cells[_REFUSED] += 1

    def spared(self) -> None:
        """Count one that would not have passed, were it not for a dry run."""
        self._cells[_SPARED] += 1


# Plain numbers: these are used for each request.
_ADMITTED: Final = int(_Count.ADMITTED)
_REFUSED: Final = int(_Count.REFUSED)
_SPARED: Final = int(_Count.SPARED)


class RateCounts:
    """The rows of all rate limits."""

    def __init__(self, cells: "memoryview[int]", processes: int) -> None:
        """Take `cells_needed(processes)` cells, that are all 0 in a new table."""
        self._processes = processes
        self._rows = NamedRows(cells, processes * _LINE_CELLS, CAPACITY, _SHORTAGE)

    @staticmethod
    def cells_needed(processes: int) -> int:
        """Say how many cells a table takes."""
        return NamedRows.cells_needed(processes * _LINE_CELLS, CAPACITY)

    def assign(self, names: Iterable[str]) -> dict[str, int]:
        """Give each limit its row, as `NamedRows` does; only the master may. StartupError."""
        return self._rows.assign(names)

    def release(self, names_to_keep: Collection[str]) -> None:
        """Free all other rows, which no process may have any more; only the master may."""
        self._rows.release(names_to_keep)

    def counter(self, number: int, process: int) -> RateCounter:
        """Give a process its part of a row; IndexError when there is none."""
        if not (0 <= number < CAPACITY and 0 <= process < self._processes):
            raise IndexError(f"no row {number} of process {process}")
        start = process * _LINE_CELLS
        return RateCounter(self._rows.row(number)[start : start + _LINE_CELLS])

    def all(self) -> list[RateCount]:
        """List what every limit did, by name."""
        return sorted((self._count(row) for row in self._rows.taken()), key=lambda one: one.name)

    def _count(self, number: int) -> RateCount:
        row = self._rows.row(number)
        sums = [sum(row[column::_LINE_CELLS].tolist()) for column in _Count]
        return RateCount(self._rows.name(number), *sums)
