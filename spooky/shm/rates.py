"""What all processes let pass of each key of a rate limit: rows of cells that readers add up.

Owns the layout. What the cells of a row mean, whom a row is for and what follows is the business
of `worker/meters.py`. The rule: of each row every process has three cells of its own, its lane, and
writes no others, so no count is ever lost; a lane outlives its process, and the next one in the
slot goes on with it. Lanes lie in blocks of eight; blocks that no process uses are left a hole.

A row is read whole, in the order of the columns, and a writer writes its cells in the opposite
order: who sees what a process used sees what came before it as well.
"""

from enum import IntEnum
from struct import Struct
from typing import Final, TypeAlias

LANES: Final = 8
_BLOCK_CELLS: Final = 3 * LANES
_BLOCK_OCTETS: Final = 8 * _BLOCK_CELLS
_BLOCK: Final = Struct(f"@{_BLOCK_CELLS}Q")
"""In the machine's own form, in which each cell is read whole."""
_HEADER_CELLS: Final = 8


class RateColumn(IntEnum):
    """The three cells of a lane; what is in the first two depends on the algorithm."""

    FIRST = 0
    SECOND = 1
    CLAIM = 2
    """How often the row has changed hands (upper half), and the tag of the key (lower half). The
    largest of a row counts."""


Lanes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""A row as it was, by columns."""


class RateTable:
    """Rows for keys, with a lane for each process."""

    def __init__(self, cells: "memoryview[int]", rows: int) -> None:
        """Take `cells_needed(rows, processes)` cells, that are all 0 in a new table."""
        self._header = cells[:_HEADER_CELLS]
        self._cells = cells[_HEADER_CELLS:]
        self.rows = rows

    @staticmethod
    def cells_needed(rows: int, processes: int) -> int:
        """Say how many cells a table takes."""
        return _HEADER_CELLS + rows * _BLOCK_CELLS * -(-processes // LANES)

    def open(self, process: int) -> None:
        """Let readers look at the lane of a process, before it starts; only the master may."""
        self._header[0] = max(self._header[0], process + 1)

    def read(self, row: int) -> Lanes:
        """Read a row: each column over all processes."""
        start = row * _BLOCK_OCTETS
        cells = _BLOCK.unpack_from(self._cells, start)
        processes = self._header[0]
        if processes < LANES:
            end = LANES + processes
            return cells[:processes], cells[LANES:end], cells[2 * LANES : end + LANES]
        first, second, claims = cells[:LANES], cells[LANES : 2 * LANES], cells[2 * LANES :]
        stride = self.rows * _BLOCK_OCTETS
        for block in range(1, -(-processes // LANES)):
            cells = _BLOCK.unpack_from(self._cells, start + block * stride)
            first += cells[:LANES]
            second += cells[LANES : 2 * LANES]
            claims += cells[2 * LANES :]
        return first, second, claims

    def lane(self, process: int) -> "RateLane":
        """Give a process the cells that are its own."""
        block, place = divmod(process, LANES)
        return RateLane(self._cells[block * self.rows * _BLOCK_CELLS :], place)


class RateLane:
    """The cells of one process, which only it writes."""

    __slots__ = ("_cells", "_place")

    def __init__(self, cells: "memoryview[int]", place: int) -> None:
        self._cells = cells
        self._place = place

    def get(self, row: int, column: int) -> int:
        """Read a cell of one's own."""
        return self._cells[row * _BLOCK_CELLS + column * LANES + self._place]

    def set(self, row: int, column: int, value: int) -> None:
        """Write it; `value` is 0 to 2**64 - 1."""
        self._cells[row * _BLOCK_CELLS + column * LANES + self._place] = value


def private_table(rows: int) -> RateTable:
    """Make a table of one process, in its own memory."""
    size = RateTable.cells_needed(rows, 1)
    table = RateTable(memoryview(bytearray(8 * size)).cast("Q"), rows)
    table.open(0)
    return table
