"""What each process has in flight of what is limited over all of them.

A row for each limit, by its name, so that the workers of two configurations that both have it
add up. In a row each process has a cell of its own, and nobody else writes it; the master sets it
to 0 when the process is gone. The master also assigns and frees rows, as those of backends.

Whether a row is taken is said apart from the rows: who looks for one touches no other's memory.

The rule: a cell has three numbers in it, side by side and wide enough that the sum of all cells
has their sums. So one look at a row says all, and no number is newer than another.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from spooky.errors import StartupError
from spooky.shm.backends import digest_of

NAME_OCTETS: Final = 216
_REST_CELLS: Final = 3
"""The digest's, after its first one, which is the key."""
_MOST: Final = 3
_NAME: Final = 4
_HEAD_CELLS: Final = _NAME + NAME_OCTETS // 8

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
    """The rows of all limits."""

    def __init__(self, cells: "memoryview[int]", processes: int, capacity: int) -> None:
        """Take `cells_needed(processes, capacity)` cells, that are all 0 in a new table."""
        self._keys = cells[:capacity]
        self._cells = cells[capacity:]
        self._processes = processes
        self.capacity = capacity

    @staticmethod
    def cells_needed(processes: int, capacity: int) -> int:
        """Say how many cells a table takes, for so many processes and limits."""
        return capacity * (1 + _HEAD_CELLS + processes)

    def row(self, number: int, process: int) -> LimitRow:
        """Give a process its view of a row; IndexError when there is none."""
        if not (0 <= number < self.capacity and 0 <= process < self._processes):
            raise IndexError(f"no row {number} of process {process}")
        return LimitRow(self._row(number)[_HEAD_CELLS:], process)

    def assign(self, limits: Mapping[str, int]) -> dict[str, int]:
        """Give each limit its row, the one that it has where it has one; only the master may.

        `limits` has what may be in flight, by name. StartupError when there are not enough rows;
        then nothing has changed.
        """
        taken = {self._digest(number): number for number in self._taken()}
        digests = {name: tuple(digest_of(name)) for name in limits}
        fresh = [name for name, digest in digests.items() if digest not in taken]
        free = sorted(set(range(self.capacity)) - set(taken.values()))
        if len(fresh) > len(free):
            raise StartupError(
                f"there is room for {self.capacity} limits over all workers, {len(taken)} are in "
                f"use, {len(fresh)} more are wanted (admission and backend_limits): wait until "
                "workers of older configurations have drained, or set limits.backend_rows higher "
                "and restart"
            )
        for name, number in zip(fresh, free, strict=False):
            self._enter(number, name, digests[name])
            taken[digests[name]] = number
        found = {name: taken[digest] for name, digest in digests.items()}
        for name, number in found.items():
            self._row(number)[_MOST] = limits[name]
        return found

    def find(self, name: str) -> int | None:
        """Look up the row of a limit; None where it has none."""
        digest = tuple(digest_of(name))
        return next((row for row in self._taken() if self._digest(row) == digest), None)

    def release(self, names_to_keep: Collection[str]) -> None:
        """Free all other rows, which no process may have any more; only the master may."""
        kept = {tuple(digest_of(name)) for name in names_to_keep}
        for number in list(self._taken()):
            if self._digest(number) not in kept:
                self._keys[number] = 0
                row = self._row(number)
                row[:] = memoryview(bytes(len(row) * 8)).cast("Q")

    def end_process(self, process: int) -> None:
        """Set to 0 what a process that is gone had; only the master may."""
        for number in self._taken():
            self._row(number)[_HEAD_CELLS + process] = 0

    def all(self) -> list[Limit]:
        """List the limits, by name."""
        return sorted((self._limit(number) for number in self._taken()), key=lambda one: one.name)

    def _limit(self, number: int) -> Limit:
        row = self._row(number)
        name = row[_NAME:_HEAD_CELLS].tobytes().partition(b"\0")[0].decode(errors="ignore")
        use = _unpack(sum(row[_HEAD_CELLS:].tolist()))
        return Limit(name, row[_MOST], use.in_flight, use.waiting)

    def _taken(self) -> Iterator[int]:
        return (number for number, key in enumerate(self._keys.tolist()) if key)

    def _row(self, number: int) -> "memoryview[int]":
        size = _HEAD_CELLS + self._processes
        return self._cells[number * size : (number + 1) * size]

    def _digest(self, number: int) -> tuple[int, ...]:
        return (self._keys[number], *self._row(number)[:_REST_CELLS].tolist())

    def _enter(self, number: int, name: str, digest: tuple[int, ...]) -> None:
        row = self._row(number)
        octets = name.encode()[: NAME_OCTETS - 1].ljust(NAME_OCTETS, b"\0")
        row[_NAME:_HEAD_CELLS] = memoryview(octets).cast("Q")
        for place, part in enumerate(digest[1:]):
            row[place] = part
        # Last: who sees the key finds the rest in place.
        self._keys[number] = digest[0]


def _unpack(cell: int) -> Use:
    return Use(
        in_flight=cell >> _IN_FLIGHT_AT,
        waiting=cell >> _CLAIMS_BITS & (1 << _WAITING_BITS) - 1,
        claims=cell & (1 << _CLAIMS_BITS) - 1,
    )
