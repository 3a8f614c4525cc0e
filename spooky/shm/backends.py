"""One row per backend: who it is, how it is, and how much of the traffic it may have.

The rule: a row belongs to an identity (scheme, host and port), not to a place in the file, so a
reload forgets neither health nor counts. The master assigns rows before it starts the processes of
a configuration, because it has read the configuration by then: a worker finds its rows at its start
and asks nobody. Those of backends that operators add it assigns before it lets anybody know of
them. Each column says who writes it. The master also clears a row, but only when no process is left
that has the backend.

Rows are told apart by the whole SHA-256 of the identity, of which the key is the first part, so
that two identities with the same key are two rows.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from typing import Final

from spooky.errors import StartupError
from spooky.shm.backend_cells import (
    OUT_OF_HEALTH,
    BackendColumn,
    Breaker,
    Duty,
    Fitness,
    Health,
    ProbeCounts,
)

NAME_OCTETS: Final = 96
ADDRESS_OCTETS: Final = 160
REASON_OCTETS: Final = 128
_FIXED_CELLS: Final = 32
_NAME: Final = _FIXED_CELLS * 8
_ADDRESS: Final = _NAME + NAME_OCTETS
_REASON: Final = _ADDRESS + ADDRESS_OCTETS
_DECIDING: Final = (
    *range(BackendColumn.WEIGHT, BackendColumn.BREAKER + 1),
    *range(BackendColumn.WEIGHT_SET, BackendColumn.EJECTED_UNTIL_MS + 1),
)
ROW_CELLS: Final = _FIXED_CELLS + (NAME_OCTETS + ADDRESS_OCTETS + REASON_OCTETS) // 8
"""Whole cache lines: the writers of two rows do not slow one another."""


class BackendRow:
    """The cells of one backend."""

    __slots__ = ("_cells", "_octets")

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells
        self._octets = cells.cast("B")

    def get(self, column: BackendColumn) -> int:
        """Read a cell."""
        return self._cells[column]

    def read(self, columns: slice) -> list[int]:
        """Read neighbouring cells, in the order of the columns."""
        return self._cells[columns].tolist()

    def set(self, column: BackendColumn, value: int) -> None:
        """Write a cell that is yours; `value` is 0 to 2**64 - 1."""
        self._cells[column] = value

    @property
    def address(self) -> str:
        """The identity, cut where it is very long."""
        return self._read(_ADDRESS, ADDRESS_OCTETS)

    @property
    def name(self) -> str:
        """`upstream/id`, several of them where there are, cut where it is very long."""
        return self._read(_NAME, NAME_OCTETS)

    @property
    def reason(self) -> str:
        """Why its health is what it is, cut where it is very long; empty: it was never probed."""
        return self._read(_REASON, REASON_OCTETS)

    def explain(self, reason: str) -> None:
        """Write why its health is what it is; only the keeper may.

        It is no cell: who reads while it changes may see some of both.
        """
        self._write(_REASON, REASON_OCTETS, reason)

    @property
    def probe_counts(self) -> ProbeCounts:
        """How the last probes went."""
        cell = self._cells[BackendColumn.PROBES_IN_A_ROW]
        return ProbeCounts(cell & 0xFFFF, cell >> 16 & 0xFFFF, cell >> 32)

    def count_probes(self, counts: ProbeCounts) -> None:
        """Write how the last probes went; only the keeper may."""
        cell = counts.failures | counts.passes << 16 | counts.setbacks << 32
        self._cells[BackendColumn.PROBES_IN_A_ROW] = cell

    @property
    def health(self) -> Health:
        """How it is: what an operator says, or else what was found."""
        cells = self._cells
        return Health(cells[BackendColumn.FORCED_HEALTH] or cells[BackendColumn.HEALTH])

    def weight_of(self, configured: int) -> int:
        """Say which weight holds where an upstream has it with a `configured` one.

        An operator's holds until a configuration comes to serve that has another than before.
        """
        cells = self._cells
        is_set = cells[BackendColumn.WEIGHT_SET]
        if is_set and cells[BackendColumn.WEIGHT_SET_OVER] == cells[BackendColumn.WEIGHT]:
            return is_set - 1
        return configured

    @property
    def is_ill(self) -> bool:
        """Whether it is out of service for now, and comes back to a slow start."""
        cells = self._cells
        return (
            cells[BackendColumn.DUTY] == Duty.OUT
            or self.health in OUT_OF_HEALTH
            or cells[BackendColumn.EJECTED_UNTIL_MS] != 0
            or cells[BackendColumn.BREAKER] != Breaker.CLOSED
        )

    def deciding(self) -> list[int]:
        """Read the cells that `fitness` and `weight_of` go by, time aside: unchanged, so are they.

        What changes with every probe is not among them.
        """
        found = self._cells[BackendColumn.WEIGHT : BackendColumn.BREAKER + 1].tolist()
        found += self._cells[BackendColumn.WEIGHT_SET : BackendColumn.EJECTED_UNTIL_MS + 1].tolist()
        return found

    def fitness(self, now_ms: int) -> Fitness:
        """Say whether the backend may be asked."""
        cells = self._cells
        last_ill_ms = cells[BackendColumn.LAST_ILL_MS]
        return Fitness(
            is_out=cells[BackendColumn.DUTY] == Duty.OUT,
            is_draining=cells[BackendColumn.DUTY] == Duty.DRAINING,
            is_breaker_open=cells[BackendColumn.BREAKER] == Breaker.OPEN,
            is_unhealthy=self.health in OUT_OF_HEALTH,
            is_ejected=cells[BackendColumn.EJECTED_UNTIL_MS] != 0,
            part=1 - min(cells[BackendColumn.WEIGHT_CUT], 1000) / 1000,
            well_for=(now_ms - last_ill_ms) / 1000 if last_ill_ms else math.inf,
        )

    def effective_weight(self) -> int:
        """Say what of its weight the backend has now; 1 at least while it has any at all."""
        share = 1000 - min(self._cells[BackendColumn.WEIGHT_CUT], 1000)
        weight = self.weight_of(self._cells[BackendColumn.WEIGHT])
        return max(1, weight * share // 1000) if weight and share else 0

    def describe(self, name: str, weight: int, generation: int) -> None:
        """Enter what a configuration says of it; only the master may.

        The name is no cell: who reads while it changes may see some of both.
        """
        self.rename(name)
        self._cells[BackendColumn.WEIGHT] = weight
        self._cells[BackendColumn.GENERATION] = generation

    def rename(self, name: str) -> None:
        """Enter another name, where it is another; only the master may."""
        if self.name != name:
            self._write(_NAME, NAME_OCTETS, name)

    def take(self, identity: str, digest: Sequence[int]) -> None:
        """Make a free row that of an identity; only the master may."""
        self._write(_ADDRESS, ADDRESS_OCTETS, identity)
        self._cells[1 : len(digest)] = _cells_of(digest[1:])
        # Last: who sees the key finds the rest in place.
        self._cells[BackendColumn.KEY] = digest[0]

    def clear(self) -> None:
        """Make the row free; only the master may."""
        self._cells[BackendColumn.KEY] = 0
        self._octets[:] = bytes(len(self._octets))

    def has(self, digest: Sequence[int]) -> bool:
        """Say whether the row is that of a digest."""
        return self._cells[: len(digest)].tolist() == digest

    def _read(self, start: int, size: int) -> str:
        octets = self._octets[start : start + size].tobytes()
        return octets.partition(b"\0")[0].decode(errors="ignore")

    def _write(self, start: int, size: int, text: str) -> None:
        octets = text.encode()[:size].decode(errors="ignore").encode()
        self._octets[start : start + size] = octets.ljust(size, b"\0")


class BackendTable:
    """The rows of all backends that any process has."""

    def __init__(self, cells: "memoryview[int]", capacity: int) -> None:
        """Take `cells_needed(capacity)` cells, that are all 0 in a new table."""
        self._cells = cells
        self.capacity = capacity

    @staticmethod
    def cells_needed(capacity: int) -> int:
        """Say how many cells a table of so many rows takes."""
        return capacity * ROW_CELLS

    def row(self, number: int) -> BackendRow:
        """Give the view of a row; IndexError when there is no such row."""
        if not 0 <= number < self.capacity:
            raise IndexError(f"backend row {number} of {self.capacity}")
        return BackendRow(self._cells[number * ROW_CELLS : (number + 1) * ROW_CELLS])

    def sight(self) -> bytes:
        """Copy the cells of all rows that `deciding` reads: unchanged, so is all that it reads."""
        cells = self._cells
        return b"".join([cells[column::ROW_CELLS].tobytes() for column in _DECIDING])

    def taken(self) -> Iterator[int]:
        """List the rows that belong to a backend."""
        return (row for row in range(self.capacity) if self._cells[row * ROW_CELLS])

    def assign(self, identities: Collection[str]) -> dict[str, int]:
        """Give each identity its row, the one that it has where it has one.

        Only the master may. StartupError when there are not enough; then nothing has changed.
        """
        found = self.find(identities)
        taken = set(self.taken())
        fresh = [identity for identity in dict.fromkeys(identities) if identity not in found]
        free = sorted(set(range(self.capacity)) - taken)
        if len(fresh) > len(free):
            raise StartupError(
                f"limits.backend_rows: there is room for {self.capacity} different backends, "
                f"{len(taken)} are in use, {len(fresh)} more are wanted: wait until workers of "
                "older configurations have drained, or set it higher and restart"
            )
        for identity, number in zip(fresh, free, strict=False):
            self.row(number).take(identity, digest_of(identity))
            found[identity] = number
        return found

    def find(self, identities: Collection[str]) -> dict[str, int]:
        """Look up the rows of those identities that have one."""
        taken = [(number, self.row(number)) for number in self.taken()]
        digests = {identity: digest_of(identity) for identity in identities}
        return {
            identity: number
            for identity, digest in digests.items()
            for number, row in taken
            if row.has(digest)
        }

    def release(self, identities_to_keep: Collection[str]) -> list[int]:
        """Free the rows of all other backends, which no process may have any more.

        Only the master may. Returns what was freed, whose counts are to be cleared too.
        """
        kept = [digest_of(identity) for identity in identities_to_keep]
        gone = [
            number
            for number in self.taken()
            if not any(self.row(number).has(digest) for digest in kept)
        ]
        for number in gone:
            self.row(number).clear()
        return gone


def digest_of(identity: str) -> list[int]:
    """Digest an identity into four cells, the first of which is its key."""
    octets = memoryview(sha256(identity.encode()).digest()).cast("Q").tolist()
    return [octets[0] or 1, *octets[1:]]


def _cells_of(values: Sequence[int]) -> "memoryview[int]":
    cells = memoryview(bytearray(len(values) * 8)).cast("Q")
    for place, value in enumerate(values):
        cells[place] = value
    return cells
