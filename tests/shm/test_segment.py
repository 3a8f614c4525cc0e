"""The segment: made, found through the descriptors of a process, refused."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spooky.bounds import Bound
from spooky.errors import StartupError
from spooky.shm.connections import ROWS, WIDTH
from spooky.shm.instance import Cell, Change, Instance
from spooky.shm.notes import OCTETS
from spooky.shm.processes import SLOT_LIMIT, Column
from spooky.shm.rates import RateColumn
from spooky.shm.segment import MAGIC, NAME, SharedMemory, attach_to
from spooky.shm.traffic import TrafficColumn

ROOT = Path(__file__).parents[2]
ANOTHER_VERSION = "the shared memory is that of another version of Spooky"


def test_a_new_segment_is_all_zero_but_for_its_name_and_its_rows(memory: SharedMemory) -> None:
    octets = os.pread(memory.fd, os.fstat(memory.fd).st_size, 0)
    assert int.from_bytes(octets[:8], sys.byteorder) == MAGIC
    assert int.from_bytes(octets[8:16], sys.byteorder) == memory.backends.capacity
    assert int.from_bytes(octets[16:24], sys.byteorder) == memory.buckets.rows
    assert not any(octets[24:])
    assert os.readlink(f"/proc/self/fd/{memory.fd}").startswith(f"/memfd:{NAME} ")
    assert not os.get_inheritable(memory.fd)


def test_the_tables_do_not_touch_each_other(memory: SharedMemory) -> None:
    last = memory.processes.row(257)
    for cell in set(Cell) - {Cell.RELOADS_BEGUN}:
        memory.instance.set(cell, 2**64 - 1)
    for text in ("x" * 4096, "y" * 4096):
        memory.instance.end_change(Change.RELOAD, text, succeeded=True)
    assert not any(memory.processes.row(0).get(column) for column in Column)
    memory.processes.row(0).set(Column.PID, 5)
    last.set(Column.RESETS_TOTAL, 6)
    assert memory.instance.outcome(Change.RELOAD).text == "y" * 2048
    assert list(memory.backends.taken()) == []
    final = memory.backends.capacity - 1
    memory.backends.row(final).take("i" * 200, [2**64 - 1] * 4)
    assert (last.get(Column.RESETS_TOTAL), memory.traffic.total(0).get(TrafficColumn.REQUESTS)) == (
        6,
        0,
    )
    memory.traffic.begin(SLOT_LIMIT - 1)
    memory.traffic.row(SLOT_LIMIT - 1, final)[-1] = 8
    assert not any(map(any, memory.buckets.read(0)))
    memory.expect(SLOT_LIMIT - 1)
    for table in (memory.buckets, memory.windows):
        table.lane(SLOT_LIMIT - 1).set(table.rows - 1, RateColumn.CLAIM, 7)
        assert table.read(table.rows - 1) == ((0,) * 256, (0,) * 256, (0,) * 255 + (7,))
    assert not any(map(any, memory.windows.read(0)))
    assert memory.notes.read().text == ""
    memory.notes.write("z" * OCTETS)
    assert not any(map(any, memory.windows.read(0)))
    assert not any(memory.bounds.totals().values())
    memory.bounds.counts(SLOT_LIMIT - 1).reached(Bound(0), 9)
    assert memory.notes.read().text == "z" * OCTETS
    connections = memory.connections.counts(SLOT_LIMIT - 1)
    assert connections.tally(0) == (0, 0, 0)
    # The very last counter of the segment, and nothing behind it.
    connections.begin(0)
    connections.complete((ROWS * WIDTH - 1,))
    tail = os.pread(memory.fd, 9, os.fstat(memory.fd).st_size - 8)
    assert tail == bytes(4) + (1).to_bytes(4, sys.byteorder)
    assert sum(memory.bounds.totals().values()) == 9


def test_counts_of_connections_end_with_their_process(memory: SharedMemory) -> None:
    """Those of bounds that were reached do not."""
    places = (5,)
    for slot in (0, 7):
        memory.connections.counts(slot).begin(100)
        memory.connections.counts(slot).complete(places)
        memory.bounds.counts(slot).reached(Bound.CONNECTIONS)
    memory.bury(7)
    assert memory.connections.counts(7).tally(100) == (1, 0, 1)
    assert memory.connections.counts(7).of_client(places) == 1
    assert memory.bounds.totals()["connections"] == 2


def test_two_views_of_one_segment(memory: SharedMemory) -> None:
    other = SharedMemory.attach(memory.fd, writable=True)
    other.processes.row(3).set(Column.PID, 77)
    assert memory.processes.row(3).get(Column.PID) == 77
    memory.instance.set(Cell.MASTER_PID, 78)
    assert other.instance.get(Cell.MASTER_PID) == 78
    reader = SharedMemory.attach(memory.fd, writable=False)
    assert reader.instance.get(Cell.MASTER_PID) == 78
    with pytest.raises(TypeError, match="read-only"):
        reader.instance.set(Cell.MASTER_PID, 1)


def another_magic(fd: int) -> None:
    os.pwrite(fd, (MAGIC + 1).to_bytes(8, sys.byteorder), 0)


def too_small(fd: int) -> None:
    os.ftruncate(fd, os.fstat(fd).st_size - 8)


@pytest.mark.parametrize("spoil", [another_magic, too_small, lambda fd: os.ftruncate(fd, 0)])
def test_a_segment_of_another_version_is_refused(
    memory: SharedMemory, spoil: Callable[[int], None]
) -> None:
    SharedMemory.attach(memory.fd, writable=False)
    spoil(memory.fd)
    with pytest.raises(StartupError, match=ANOTHER_VERSION):
        SharedMemory.attach(memory.fd, writable=False)


# --- through another process -------------------------------------------------------------------

HOLDER = """
import os, sys
from spooky.shm.instance import Serving
from spooky.shm.rates import RateColumn
from spooky.shm.segment import SharedMemory
{first}
memory.instance.promote(Serving(4, 2, 3), 99)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(first: str = "memory = SharedMemory.create(16)") -> Iterator[int]:
    """Run a process that holds a segment; give its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(first=first)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def test_another_process_attaches_to_read() -> None:
    with holder() as pid:
        instance: Instance = attach_to(pid).instance
        assert instance.serving() == (4, 2, 3)
        with pytest.raises(TypeError, match="read-only"):
            instance.set(Cell.ADMISSION, 1)
    # The mapping outlives the process that made it.
    assert instance.serving() == (4, 2, 3)


def test_a_takeover_document_is_not_taken_for_the_segment() -> None:
    first = f'other = os.memfd_create("{NAME}-takeover"); memory = SharedMemory.create(16)'
    with holder(first) as pid:
        assert attach_to(pid).instance.serving() == (4, 2, 3)


def test_a_process_of_another_version_is_refused() -> None:
    first = "memory = SharedMemory.create(16); os.pwrite(memory.fd, bytes(8), 0)"
    with holder(first) as pid, pytest.raises(StartupError, match=ANOTHER_VERSION):
        attach_to(pid)


def test_a_process_without_a_segment_is_refused() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        with pytest.raises(
            StartupError, match=f"process {stranger.pid} has no shared memory of Spooky's"
        ):
            attach_to(stranger.pid)
        stranger.kill()


def test_a_process_that_is_gone_is_refused() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(30)
    with pytest.raises(StartupError, match=f"process {gone.pid} is gone"):
        attach_to(gone.pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without the right")
def test_a_process_of_somebody_else_is_refused() -> None:
    with holder() as pid:
        script = (
            "import os\n"
            "from spooky.shm.segment import attach_to\n"
            "os.setresuid(65534, 65534, 65534)\n"
            f"attach_to({pid})\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
        )
    assert re.search(rf"StartupError: no permission to look into process {pid}: ", done.stderr)


def test_descriptors_are_not_lost_by_looking() -> None:
    with holder() as pid:
        before = len(os.listdir("/proc/self/fd"))
        memory = attach_to(pid)
        assert len(os.listdir("/proc/self/fd")) == before + 2, "its own and the mapping's"
        os.close(memory.fd)
        del memory
        assert len(os.listdir("/proc/self/fd")) == before
