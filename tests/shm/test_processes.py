"""The rows of processes: layout, ownership, what a new owner finds, what readers add up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spooky.shm.processes import (
    COUNTERS,
    KEEPER_ROWS,
    ROW_CELLS,
    ROWS,
    SLOT_LIMIT,
    Column,
    ProcessState,
    ProcessTable,
)
from spooky.shm.segment import CELL_BYTES, SharedMemory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table(memory: SharedMemory) -> ProcessTable:
    return memory.processes


def test_rows_do_not_touch_each_other(table: ProcessTable) -> None:
    for number in range(ROWS):
        for column in Column:
            table.row(number).set(column, 100 * number + column)
    for number in range(ROWS):
        assert [table.row(number).get(column) for column in Column] == [
            100 * number + column for column in Column
        ]


def test_a_row_has_room_for_all_columns() -> None:
    assert len(Column) <= ROW_CELLS
    assert ROW_CELLS * CELL_BYTES % 64 == 0, "whole cache lines"


def test_keepers_come_after_all_slots() -> None:
    assert (*range(SLOT_LIMIT), *KEEPER_ROWS) == tuple(range(ROWS))


@pytest.mark.parametrize("number", [-1, ROWS])
def test_there_are_no_other_rows(table: ProcessTable, number: int) -> None:
    with pytest.raises(IndexError):
        table.row(number)


def test_a_cell_holds_64_bits_and_no_more(table: ProcessTable) -> None:
    row = table.row(0)
    row.set(Column.REQUESTS_TOTAL, 2**64 - 1)
    assert row.get(Column.REQUESTS_TOTAL) == 2**64 - 1
    with pytest.raises(ValueError, match="memoryview"):
        row.set(Column.REQUESTS_TOTAL, 2**64)
    row.set(Column.IN_FLIGHT, 5)
    row.add(Column.IN_FLIGHT, -2)
    row.add(Column.IN_FLIGHT)
    assert row.get(Column.IN_FLIGHT) == 4


def test_counters_are_named_so() -> None:
    assert {column.name for column in COUNTERS} == {
        "REQUESTS_TOTAL",
        "OPENED_TOTAL",
        "HANDED_OVER_TOTAL",
        "LATE_TOTAL",
        "REFUSED_TOTAL",
        "RESETS_TOTAL",
        "RETRIES_TOTAL",
        "RESUMED_TOTAL",
        "RATE_LIMITED_TOTAL",
        "RATE_SPARED_TOTAL",
    }


def test_a_new_owner_finds_no_gauges_but_the_counters(table: ProcessTable) -> None:
    row = table.row(1)
    for column in set(Column) - {Column.STATE}:
        row.set(column, 9)
    for generation, state in [(3, ProcessState.STARTING), (0, ProcessState.GONE)]:
        if generation:
            row.begin(generation)
        else:
            row.end()
        assert row.state is table.state(1) is state
        assert row.get(Column.GENERATION) == generation
        told = {Column.STATE, Column.GENERATION}
        for column in set(Column) - told:
            assert row.get(column) == (9 if column in COUNTERS else 0), column
        row.set(Column.CONNECTIONS, 9)


def test_slots_with_a_process_are_listed_and_keepers_are_not(table: ProcessTable) -> None:
    assert table.occupied() == []
    for number in (0, 7, SLOT_LIMIT - 1, *KEEPER_ROWS):
        table.row(number).begin(1)
    table.row(7).set(Column.STATE, ProcessState.DRAINING)
    assert table.occupied() == [0, 7, SLOT_LIMIT - 1]
    table.row(0).end()
    assert table.occupied() == [7, SLOT_LIMIT - 1]


def test_a_total_is_that_of_all_workers_that_are_and_were(table: ProcessTable) -> None:
    for number, count in [(0, 1), (3, 20), (SLOT_LIMIT - 1, 300), (KEEPER_ROWS[0], 4000)]:
        table.row(number).set(Column.REQUESTS_TOTAL, count)
    table.row(3).end()
    assert table.total(Column.REQUESTS_TOTAL) == 321
    assert table.total(Column.OPENED_TOTAL) == 0


ACROSS = """
import os
from spooky.shm.processes import Column
from spooky.shm.segment import SharedMemory
memory = SharedMemory.create(4)
pid = os.fork()
if pid == 0:
    memory.processes.row(1).set(Column.PID, os.getpid())
    os._exit(0)
os.waitpid(pid, 0)
assert memory.processes.row(1).get(Column.PID) == pid
"""


def test_a_child_writes_what_its_parent_reads() -> None:
    subprocess.run([sys.executable, "-c", ACROSS], check=True, timeout=30, cwd=ROOT, env=os.environ)
