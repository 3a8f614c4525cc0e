"""The segment itself: a memfd, mapped by every process, and the tables that it is cut into.

The master makes it before its first fork, so that children inherit the mapping. Others find it
through the master's descriptors and attach to it, as `spooky status` does; a new master that
takes over from an old one is given the descriptor.
"""

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final

from spooky.errors import StartupError
from spooky.shm.instance import Instance
from spooky.shm.processes import ProcessTable

NAME: Final = "spooky"
CELL_BYTES: Final = 8
MAGIC: Final = 0x53504F4F4B590001
"""`SPOOKY` and the version of the layout: who attaches to another one must not guess."""
_HEADER_CELLS: Final = 8


class SharedMemory:
    """The tables of one instance."""

    def __init__(self, fd: int, memory: mmap.mmap, *, fresh: bool) -> None:
        self.fd = fd
        cells = memoryview(memory).cast("Q")
        if fresh:
            cells[0] = MAGIC
        elif cells[0] != MAGIC:
            raise StartupError("the shared memory is that of another version of Spooky")
        start = _HEADER_CELLS
        self.instance = Instance(cells[start : start + Instance.CELLS])
        start += Instance.CELLS
        self.processes = ProcessTable(cells[start : start + ProcessTable.CELLS])

    @classmethod
    def create(cls) -> "SharedMemory":
        """Make a new segment, all zero."""
        fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
        os.ftruncate(fd, _size())
        return cls(fd, mmap.mmap(fd, _size()), fresh=True)

    @classmethod
    def attach(cls, fd: int, *, writable: bool) -> "SharedMemory":
        """Map a segment that another process made. StartupError if it is not of this version."""
        size = os.fstat(fd).st_size
        if size < _size():
            raise StartupError("the shared memory is that of another version of Spooky")
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        return cls(fd, mmap.mmap(fd, size, access=access), fresh=False)


def _size() -> int:
    return (_HEADER_CELLS + Instance.CELLS + ProcessTable.CELLS) * CELL_BYTES


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
