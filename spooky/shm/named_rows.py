"""Rows of shared memory that belong to names: the master assigns and frees them.

A row is its own memory apart from whether it is taken: who looks for one touches no other's. What
is in a row is the business of the table that is made of them.
"""

from collections.abc import Collection, Iterable

from spooky.errors import StartupError
from spooky.shm.backends import digest_of

NAME_OCTETS = 216
_REST_CELLS = 3
"""The digest's, after its first one, which is the key."""
_NAME = 4
_HEAD_CELLS = _NAME + NAME_OCTETS // 8


class NamedRows:
    """Rows of so many cells each, by names."""

    def __init__(self, cells: "memoryview[int]", size: int, capacity: int, shortage: str) -> None:
        """Take `cells_needed(size, capacity)` cells, that are all 0 in a new table.

        `shortage` tells an operator what there is too much of and what to do, from "limits ..." on.
        """
        self._keys = cells[:capacity]
        self._cells = cells[capacity:]
        self._size = _HEAD_CELLS + size
        self._shortage = shortage
        self.capacity = capacity

    @staticmethod
    def cells_needed(size: int, capacity: int) -> int:
        """Say how many cells so many rows take."""
        return capacity * (1 + _HEAD_CELLS + size)

    def row(self, number: int) -> "memoryview[int]":
        """Give the cells of a row."""
        return self._row(number)[_HEAD_CELLS:]

    def taken(self) -> list[int]:
        """List the rows that have a name."""
        return [number for number, key in enumerate(self._keys.tolist()) if key]

    def name(self, number: int) -> str:
        """Tell the name of a row, cut where it is very long."""
        octets = self._row(number)[_NAME:_HEAD_CELLS].tobytes()
        return octets.partition(b"\0")[0].decode(errors="ignore")

    def assign(self, names: Iterable[str]) -> dict[str, int]:
        """Give each name its row, the one that it has where it has one; only the master may.

        StartupError when there are not enough rows; then nothing has changed.
        """
        taken = {self._digest(number): number for number in self.taken()}
        digests = {name: tuple(digest_of(name)) for name in names}
        fresh = [name for name, digest in digests.items() if digest not in taken]
        free = sorted(set(range(self.capacity)) - set(taken.values()))
        if len(fresh) > len(free):
            raise StartupError(
                f"there is room for {self.capacity} {self._shortage}".format(
                    taken=len(taken), wanted=len(fresh)
                )
            )
        for name, number in zip(fresh, free, strict=False):
            self._enter(number, name, digests[name])
            taken[digests[name]] = number
        return {name: taken[digest] for name, digest in digests.items()}

    def find(self, name: str) -> int | None:
        """Look up the row of a name; None where it has none."""
        digest = tuple(digest_of(name))
        return next((number for number in self.taken() if self._digest(number) == digest), None)

    def release(self, names_to_keep: Collection[str]) -> None:
        """Free all other rows, which no process may have any more; only the master may."""
        kept = {tuple(digest_of(name)) for name in names_to_keep}
        for number in self.taken():
            if self._digest(number) not in kept:
                self._keys[number] = 0
                row = self._row(number)
                row[:] = memoryview(bytes(len(row) * 8)).cast("Q")

    def _row(self, number: int) -> "memoryview[int]":
        return self._cells[number * self._size : (number + 1) * self._size]

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
