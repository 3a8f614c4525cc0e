"""Counts of bounds that were reached: by process, and added up by name."""

import pytest

from spooky.bounds import Bound
from spooky.shm.bounds import ROOM, BoundTable


@pytest.fixture
def table() -> BoundTable:
    return BoundTable(memoryview(bytearray(8 * BoundTable.cells_needed(3))).cast("Q"), 3)


def test_all_processes_add_up(table: BoundTable) -> None:
    table.counts(0).reached(Bound.CONNECTIONS)
    table.counts(2).reached(Bound.CONNECTIONS, 4)
    table.counts(2).reached(Bound.CONNECTIONS)
    assert table.totals()["connections"] == 6
    assert sum(table.totals().values()) == 6


@pytest.mark.parametrize("process", [-1, 3])
def test_no_row_for_who_has_none(table: BoundTable, process: int) -> None:
    with pytest.raises(IndexError):
        table.counts(process)


def test_there_is_room_for_every_bound(table: BoundTable) -> None:
    assert max(Bound) < ROOM
    assert list(table.totals()) == [bound.name.lower() for bound in Bound]
