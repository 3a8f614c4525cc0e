"""The segment itself: a memfd, mapped by every process, and the tables that it is cut into.

The master makes it before its first fork, so that children inherit the mapping. Others find it
through the master's descriptors and attach to it, as `spooky status` does; a new master that
takes over from an old one is given the descriptor.
"""

import contextlib
import mmap
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from spooky.errors import StartupError
from spooky.shm.backends import BackendTable
from spooky.shm.bounds import BoundTable
from spooky.shm.connections import ConnectionTable
from spooky.shm.instance import Instance
from spooky.shm.limits import LimitTable
from spooky.shm.notes import Notes
from spooky.shm.processes import SLOT_LIMIT, ProcessTable
from spooky.shm.rate_counts import RateCounts
from spooky.shm.rates import RateTable
from spooky.shm.traffic import TrafficTable

NAME: Final = "spooky"
CELL_BYTES: Final = 8
MAGIC: Final = 0x53504F4F4B590009
"""`SPOOKY` and the version of the layout: who attaches to another one must not guess."""
_BACKEND_ROWS: Final = 1
"""The cell of the header that says how many rows for backends there are."""
_RATE_ROWS: Final = 2
"""And the one that says how many each table of rates has."""
_HEADER_CELLS: Final = 8
RATE_ROWS: Final = 1024
"""Room for keys of rates where nobody says how much."""


class SharedMemory:
    """The tables of one instance."""

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        """Cut up a segment whose header is written. StartupError if it is not of this version."""
        self.fd = fd
        cells = memoryview(memory).cast("Q")
        if cells[0] != MAGIC or len(cells) < sum(_sizes(*_rows(cells))):
            raise StartupError("the shared memory is that of another version of Spooky")
        rows, rates = _rows(cells)
        start, parts = 0, []
        for size in _sizes(rows, rates):
            parts.append(cells[start : start + size])
            start += size
        self.instance = Instance(parts[1])
        self.processes = ProcessTable(parts[2])
        self.backends = BackendTable(parts[3], rows)
        self.limits = LimitTable(parts[4], SLOT_LIMIT, _limit_rows(rows))
        self.traffic = TrafficTable(parts[5], SLOT_LIMIT, rows)
        self.buckets = RateTable(parts[6], rates)
        self.windows = RateTable(parts[7], rates)
        self.rate_counts = RateCounts(parts[8], SLOT_LIMIT)
        self.notes = Notes(parts[9])
        self.bounds = BoundTable(parts[10], SLOT_LIMIT)
        self.connections = ConnectionTable(parts[11], SLOT_LIMIT)

    @classmethod
    def create(cls, backend_rows: int, rate_rows: int = RATE_ROWS) -> "SharedMemory":
        """Make a new segment, all zero, with room for so many backends and keys of rates."""
        fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
        size = sum(_sizes(backend_rows, rate_rows)) * CELL_BYTES
        os.ftruncate(fd, size)
        memory = mmap.mmap(fd, size)
        header = memoryview(memory).cast("Q")
        header[_BACKEND_ROWS], header[_RATE_ROWS] = backend_rows, rate_rows
        header[0] = MAGIC
        return cls(fd, memory)

    @classmethod
    def attach(cls, fd: int, *, writable: bool) -> "SharedMemory":
        """Map a segment that another process made. StartupError if it is not of this version."""
        size = os.fstat(fd).st_size
        if size < _HEADER_CELLS * CELL_BYTES:
            raise StartupError("the shared memory is that of another version of Spooky")
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return cls(fd, mmap.mmap(fd, size, access=access))

    def expect(self, slot: int) -> None:
        """Let all look at what the process of a slot will write; only the master may."""
        self.buckets.open(slot)
        self.windows.open(slot)

    def bury(self, slot: int) -> None:
        """Note that the process of a row is gone; only the master may."""
        self.processes.row(slot).end()
        if slot < SLOT_LIMIT:
            self.traffic.end_process(slot, self.backends.taken())
            self.limits.end_process(slot)
            self.connections.end_process(slot)

    def release_backends(self, identities_to_keep: Collection[str]) -> None:
        """Forget backends that no process has any more, with their counts; only the master may."""
        for row in self.backends.release(identities_to_keep):
            self.traffic.clear_backend(row)


def _rows(cells: "memoryview[int]") -> tuple[int, int]:
    return cells[_BACKEND_ROWS], cells[_RATE_ROWS]


def _sizes(backend_rows: int, rate_rows: int) -> tuple[int, ...]:
    """Say how many cells each part takes: the header, then the tables."""
    return (
        _HEADER_CELLS,
        Instance.CELLS,
        ProcessTable.CELLS,
        BackendTable.cells_needed(backend_rows),
        LimitTable.cells_needed(SLOT_LIMIT, _limit_rows(backend_rows)),
        TrafficTable.cells_needed(SLOT_LIMIT, backend_rows),
        RateTable.cells_needed(rate_rows, SLOT_LIMIT),
        RateTable.cells_needed(rate_rows, SLOT_LIMIT),
        RateCounts.cells_needed(SLOT_LIMIT),
        Notes.CELLS,
        BoundTable.cells_needed(SLOT_LIMIT),
        ConnectionTable.cells_needed(SLOT_LIMIT),
    )


def _limit_rows(backend_rows: int) -> int:
    """Say how many limits there may be: one for each backend and its upstream, and the whole."""
    return 2 * backend_rows + 1


def attach_to(pid: int) -> SharedMemory:
    """Map the segment of a running master, to read. StartupError when that cannot be."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        for entry in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry).startswith(f"/memfd:{NAME} "):
                    fd = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
                    return SharedMemory.attach(fd, writable=False)
    except PermissionError:
        raise StartupError(
            f"no permission to look into process {pid}: be root, or the user that started it"
        ) from None
    except FileNotFoundError:
        raise StartupError(f"process {pid} is gone") from None
    raise StartupError(f"process {pid} has no shared memory of Spooky's")
