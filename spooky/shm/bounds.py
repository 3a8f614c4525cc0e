"""How often each bound was reached, by all processes: counters that outlive them.

A process has a row of its own, which nobody else writes; the next one in its slot goes on with it.
"""

from typing import Final

from spooky.bounds import Bound

ROOM: Final = 64
"""Bounds that a row has room for: more than there are, so that the layout need not change."""


class BoundCounts:
    """What one process counts."""

    __slots__ = ("_cells",)

    def __init__(self, cells: "memoryview[int]") -> None:
        """Take `ROOM` cells that no other process writes."""
        self._cells = cells

    def reached(self, bound: Bound, times: int = 1) -> None:
        """Count that a peer came up against a bound."""
        self._cells[bound] += times

    def all(self) -> dict[Bound, int]:
        """Say how often each bound was reached in this process and those before it in its slot."""
        return {bound: self._cells[bound] for bound in Bound}


class BoundTable:
    """The rows of all processes."""

    def __init__(self, cells: "memoryview[int]", processes: int) -> None:
        """Take `cells_needed(processes)` cells, that are all 0 in a new table."""
        self._cells = cells
        self._processes = processes

    @staticmethod
    def cells_needed(processes: int) -> int:
        """Say how many cells a table takes."""
        return processes * ROOM

    def counts(self, process: int) -> BoundCounts:
        """Give a process its row; IndexError when there is none."""
        if not 0 <= process < self._processes:
            raise IndexError(f"no row for process {process}")
        return BoundCounts(self._cells[process * ROOM : (process + 1) * ROOM])

    def totals(self) -> dict[str, int]:
        """Say how often each bound was reached since the instance was started, by its name."""
        return {bound.name.lower(): sum(self._cells[bound::ROOM].tolist()) for bound in Bound}
