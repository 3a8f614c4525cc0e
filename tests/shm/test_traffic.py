"""Counts of many processes: none is lost, none is torn, and they add up."""

import contextlib
import os
import signal
import time
from collections.abc import Callable

import pytest

from spooky.shm.processes import SLOT_LIMIT, Column, ProcessState
from spooky.shm.segment import SharedMemory
from spooky.shm.traffic import BUCKETS, GAUGES, ROW_CELLS, TrafficColumn

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"
UPDATES = 10_000_000
WRITERS = 4
BOTH_HALVES = (1 << 32) + 1
"""Added each time: a torn read shows as halves that differ."""
PATIENCE_S = 60.0


def test_a_row_has_room_for_all_columns() -> None:
    buckets = range(TrafficColumn.LATENCY, TrafficColumn.LATENCY + BUCKETS)
    others = set(TrafficColumn) - {TrafficColumn.LATENCY}
    assert max(*buckets, *others) < ROW_CELLS
    assert others.isdisjoint(buckets)


def test_readers_add_up_over_processes() -> None:
    memory = SharedMemory.create(16)
    traffic = memory.traffic
    for process in (0, 7, SLOT_LIMIT - 1):
        traffic.begin(process)
        for backend in (0, 15):
            for place in range(ROW_CELLS):
                traffic.row(process, backend)[place] = 1000 * process + 100 * backend + place
    for backend in (0, 15):
        for column in TrafficColumn:
            expected = sum(
                1000 * process + 100 * backend + column for process in (0, 7, SLOT_LIMIT - 1)
            )
            assert traffic.total(backend).get(column) == expected
    assert traffic.total(1).get(TrafficColumn.REQUESTS) == 0
    for column in TrafficColumn:
        totals = [traffic.total(backend).get(column) for backend in (15, 1, 0)]
        assert traffic.sums(column, (15, 1, 0)) == totals
    assert len(traffic.total(0).latency()) == BUCKETS


@pytest.mark.parametrize(("process", "backend"), [(-1, 0), (0, -1), (SLOT_LIMIT, 0), (0, 16)])
def test_there_are_no_other_rows(process: int, backend: int) -> None:
    with pytest.raises(IndexError):
        SharedMemory.create(16).traffic.row(process, backend)


def test_a_successor_counts_on_where_a_dead_process_ended() -> None:
    memory = SharedMemory.create(16)
    (row,) = memory.backends.assign([A]).values()
    traffic = memory.traffic
    process = memory.processes.row(3)
    process.begin(1)
    traffic.begin(3)
    traffic.row(3, row)[TrafficColumn.REQUESTS] += 5
    for gauge in GAUGES:
        traffic.row(3, row)[gauge] = 9
    memory.bury(3)
    assert process.get(Column.STATE) == ProcessState.GONE
    assert [traffic.total(row).get(gauge) for gauge in GAUGES] == [0] * len(GAUGES)
    traffic.begin(3)
    traffic.row(3, row)[TrafficColumn.REQUESTS] += 1
    assert traffic.total(row).get(TrafficColumn.REQUESTS) == 6


def test_the_counts_of_a_backend_end_with_its_row() -> None:
    memory = SharedMemory.create(16)
    rows = memory.backends.assign([A, B])
    for process in (1, 2):
        memory.traffic.begin(process)
        for row in rows.values():
            memory.traffic.row(process, row)[TrafficColumn.REQUESTS] += 4
    memory.release_backends([B])
    assert memory.traffic.total(rows[A]).get(TrafficColumn.REQUESTS) == 0
    assert memory.traffic.total(rows[B]).get(TrafficColumn.REQUESTS) == 8


def test_what_nobody_writes_takes_no_memory() -> None:
    memory = SharedMemory.create(4096)
    rows = memory.backends.assign([A])
    before = os.fstat(memory.fd).st_blocks
    memory.traffic.begin(5)
    memory.traffic.row(5, rows[A])[TrafficColumn.REQUESTS] += 1
    for row in range(4096):
        memory.traffic.total(row)
    memory.bury(6)
    memory.release_backends([])
    # Looking for counts of one process, not of 256: 1 MiB and not 256.
    assert os.fstat(memory.fd).st_blocks - before < 2 * 1024 * 1024 // 512


def in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def write(memory: SharedMemory, process: int, rows: list[int], gate: int) -> None:
    """Add as a worker does, a count at a time, in turn to two columns of each backend."""
    memory.traffic.begin(process)
    os.read(gate, 1)
    views = [memory.traffic.row(process, row) for row in rows]
    first, second = int(TrafficColumn.REQUESTS), int(TrafficColumn.OCTETS_IN)
    for _ in range(UPDATES // WRITERS // len(rows) // 2):
        for view in views:
            view[first] += BOTH_HALVES
            view[second] += BOTH_HALVES


def test_ten_million_updates_by_many_processes() -> None:
    """4 writers add 10,000,000 times in all while one reads: no count is lost, none is torn."""
    memory = SharedMemory.create(16)
    rows = list(memory.backends.assign([A, B]).values())
    gate, opener = os.pipe()
    pids = [
        in_child(lambda process=process: write(memory, process, rows, gate))  # type: ignore[misc]
        for process in range(WRITERS)
    ]
    reader = SharedMemory.attach(os.dup(memory.fd), writable=False)
    os.write(opener, b"x" * WRITERS)
    try:
        looks = watch(reader, rows, set(pids))
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(gate)
        os.close(opener)
    columns = (TrafficColumn.REQUESTS, TrafficColumn.OCTETS_IN)
    counts = [reader.traffic.total(row).get(column) for row in rows for column in columns]
    assert counts == [UPDATES // 4 * BOTH_HALVES] * 4
    print(f"{sum(counts) // BOTH_HALVES:,} updates, {looks:,} looks, none lost or torn")
    assert looks > 100


def watch(reader: SharedMemory, rows: list[int], writers: set[int]) -> int:
    """Read until all writers are gone; return how often."""
    seen, looks = 0, 0
    deadline = time.monotonic() + PATIENCE_S
    while writers:
        assert time.monotonic() < deadline
        for row in rows:
            for process in range(WRITERS):
                count = reader.traffic.row(process, row)[TrafficColumn.REQUESTS]
                assert count >> 32 == count & 0xFFFFFFFF, f"torn: {count:#x}"
        total = sum(reader.traffic.total(row).get(TrafficColumn.REQUESTS) for row in rows)
        assert total >= seen, "a count went back"
        seen, looks = total, looks + 1
        for writer in list(writers):
            ended, status = os.waitpid(writer, os.WNOHANG)
            if ended:
                assert status == 0
                writers.discard(writer)
    return looks
