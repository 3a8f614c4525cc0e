"""What all processes let pass of each key of a rate limit: rows of cells that readers add up.

Owns the layout. What the cells of a row mean, whom a row is for and what follows is the business
of `worker/meters.py`. The rule: of each row every process has three cells of its own, its lane, and
writes no others, so no count is ever lost; a lane outlives its process, and the next one in the
slot goes on with it.

Lanes lie in blocks, of 8, 8, 16, 32, 64 and 128: a block that no process uses is left a hole, and
few reads are enough for many processes. Of a block a row has its columns one after the other.

A block is read in the order of the columns, and a writer writes its cells in the opposite order:
who sees what a process used sees what came before it as well.
"""

from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

LANES: Final = 8
"""Those of the first block; the others double what there is."""
_CELL: Final = 8
_COLUMNS: Final = 3
_HEADER_CELLS: Final = 8
_FIRST_BLOCK: Final = Struct(f"@{_COLUMNS * LANES}Q")
"""In the machine's own form, in which each cell is read whole."""


class RateColumn(IntEnum):
    """The three cells of a lane; what is in the first two depends on the algorithm."""

    FIRST = 0
    SECOND = 1
    CLAIM = 2
    """How often the row has changed hands (upper half), and the tag of the key (lower half). The
    largest of a row counts."""


Lanes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""A row as it was, by columns."""


class Block(NamedTuple):
    """So many lanes of all rows: where they are in the table, in octets, and how they are read."""

    start: int
    """Where the first row begins."""
    stride: int
    """From one row to the next."""
    column: int
    """From one column to the next."""
    unpack: Callable[[bytes], tuple[Any, ...]]
    """Reads a column."""


class RateTable:
    """Rows for keys, with a lane for each process."""

    def __init__(self, cells: "memoryview[int]", rows: int) -> None:
        """Take `cells_needed(rows, processes)` cells, that are all 0 in a new table."""
        self._header = cells[:_HEADER_CELLS]
        self._cells = cells[_HEADER_CELLS:]
        self.octets = self._cells.cast("B")
        self.rows = rows
        self._blocks: tuple[int, list[Block]] = (-1, [])
        """Those of so many processes."""

    @staticmethod
    def cells_needed(rows: int, processes: int) -> int:
        """Say how many cells a table takes."""
        return _HEADER_CELLS + rows * _COLUMNS * sum(size for _, size in _blocks(processes))

    @property
    def processes(self) -> int:
        """How many lanes may have been written."""
        return self._header[0]

    def open(self, process: int) -> None:
        """Let readers look at the lane of a process, before it starts; only the master may."""
        self._header[0] = max(self._header[0], process + 1)

    def read(self, row: int) -> Lanes:
        """Read a row: each column over all processes."""
        columns: tuple[list[int], ...] = ([], [], [])
        for block in self.blocks():
            for number, column in enumerate(columns):
                start = block.start + row * block.stride + number * block.column
                octets = self.octets[start : start + block.column]
                column.extend(block.unpack(octets.tobytes()))
        first, second, claims = (tuple(column[: self.processes]) for column in columns)
        return first, second, claims

    def read_first(self, row: int) -> tuple[int, ...]:
        """Read what a row has in the first block, the columns one after the other."""
        return _FIRST_BLOCK.unpack_from(self._cells, row * _FIRST_BLOCK.size)

    def blocks(self) -> list[Block]:
        """List where the lanes in use are."""
        processes, blocks = self._blocks
        if processes != self._header[0]:
            processes = self._header[0]
            blocks = [self._block(first, size) for first, size in _blocks(processes)]
            self._blocks = processes, blocks
        return blocks

    def lane(self, process: int) -> "RateLane":
        """Give a process the cells that are its own."""
        first, size = _blocks(process + 1)[-1]
        return RateLane(self._cells[self._start(first) :], size, process - first)

    def _start(self, first: int) -> int:
        """Say with which cell the block begins of which `first` is the first lane."""
        return self.rows * _COLUMNS * first

    def _block(self, first: int, size: int) -> Block:
        column = size * _CELL
        return Block(
            self._start(first) * _CELL, _COLUMNS * column, column, Struct(f"@{size}Q").unpack
        )


class RateLane:
    """The cells of one process, which only it writes."""

    __slots__ = ("_block", "_place", "_size")

    def __init__(self, block: "memoryview[int]", size: int, place: int) -> None:
        """Take a block of so many lanes, and the place in it."""
        self._block = block
        self._size = size
        self._place = place

    def get(self, row: int, column: int) -> int:
        """Read a cell of one's own."""
        return self._block[(row * _COLUMNS + column) * self._size + self._place]

    def set(self, row: int, column: int, value: int) -> None:
        """Write it; `value` is 0 to 2**64 - 1."""
        self._block[(row * _COLUMNS + column) * self._size + self._place] = value


def _blocks(processes: int) -> list[tuple[int, int]]:
    """List the blocks for so many processes: the first lane of each, and how many there are."""
    blocks = [(0, LANES)]
    while (end := sum(blocks[-1])) < processes:
        blocks.append((end, end))
    return blocks


def private_table(rows: int) -> RateTable:
    """Make a table of one process, in its own memory."""
    size = RateTable.cells_needed(rows, 1)
    table = RateTable(memoryview(bytearray(8 * size)).cast("Q"), rows)
    table.open(0)
    return table
