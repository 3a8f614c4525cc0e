"""The table that processes share: layout, ownership, what is read out of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spooky.shm import CELL_BYTES, ROW_CELLS, Column, ProcessState, ProcessTable


def test_rows_do_not_touch_each_other() -> None:
    table = ProcessTable(2)
    assert (table.keeper_row, table.master_row) == (4, 5)
    for number in range(6):
        for column in Column:
            table.row(number).set(column, 100 * number + column)
    for number in range(6):
        assert [table.row(number).get(column) for column in Column] == [
            100 * number + column for column in Column
        ]


def test_a_row_has_room_for_all_columns() -> None:
    assert len(Column) <= ROW_CELLS
    assert ROW_CELLS * CELL_BYTES == 64


@pytest.mark.parametrize("number", [-1, 6])
def test_there_are_no_other_rows(number: int) -> None:
    with pytest.raises(IndexError):
        ProcessTable(2).row(number)


def test_a_cell_holds_64_bits_and_no_more() -> None:
    row = ProcessTable(1).row(0)
    row.set(Column.REQUESTS_TOTAL, 2**64 - 1)
    assert row.get(Column.REQUESTS_TOTAL) == 2**64 - 1
    with pytest.raises(ValueError, match="memoryview"):
        row.set(Column.REQUESTS_TOTAL, 2**64)
    row.set(Column.IN_FLIGHT, 5)
    row.add(Column.IN_FLIGHT, -2)
    row.add(Column.IN_FLIGHT)
    assert row.get(Column.IN_FLIGHT) == 4


def test_a_new_owner_finds_no_gauges_but_the_counter() -> None:
    row = ProcessTable(1).row(1)
    for column in set(Column) - {Column.STATE}:
        row.set(column, 9)
    row.begin(3)
    assert row.get(Column.STATE) == ProcessState.STARTING
    assert row.get(Column.GENERATION) == 3
    assert [row.get(one) for one in (Column.PID, Column.CONNECTIONS, Column.IN_FLIGHT)] == [0] * 3
    assert row.get(Column.REQUESTS_TOTAL) == 9
    row.end()
    assert row.get(Column.STATE) == ProcessState.GONE
    assert row.get(Column.GENERATION) == 0
    assert row.get(Column.REQUESTS_TOTAL) == 9


def test_only_ready_workers_of_the_active_generation_count() -> None:
    table = ProcessTable(2)
    master = table.row(table.master_row)
    for number, generation, state in [
        (0, 1, ProcessState.READY),
        (1, 1, ProcessState.DRAINING),
        (2, 2, ProcessState.READY),
        (3, 2, ProcessState.READY),
    ]:
        table.row(number).begin(generation)
        table.row(number).set(Column.STATE, state)
    # The keeper and the master are no workers.
    table.row(table.keeper_row).begin(1)
    table.row(table.keeper_row).set(Column.STATE, ProcessState.READY)
    master.begin(1)
    assert table.ready_workers() == 1
    assert table.is_active(1)
    master.set(Column.GENERATION, 2)
    assert table.ready_workers() == 2
    assert not table.is_active(1)
    assert not table.is_stopping()
    master.set(Column.STATE, ProcessState.DRAINING)
    assert table.is_stopping()


ACROSS = """
import os
from spooky.shm import Column, ProcessTable
table = ProcessTable(1)
pid = os.fork()
if pid == 0:
    table.row(1).set(Column.PID, os.getpid())
    os._exit(0)
os.waitpid(pid, 0)
assert table.row(1).get(Column.PID) == pid
"""


def test_a_child_writes_what_its_parent_reads() -> None:
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", ACROSS], check=True, timeout=30, cwd=root, env=os.environ)
