"""What processes have in flight together, and whose row is whose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.errors import StartupError
from spooky.shm.limits import Limit, LimitTable, Use
from spooky.shm.processes import SLOT_LIMIT
from spooky.shm.segment import SharedMemory

USE = st.tuples(st.integers(0, 1_000_000), st.integers(0, 1_000_000), st.booleans())


def a_table(capacity: int = 4, processes: int = SLOT_LIMIT) -> LimitTable:
    size = LimitTable.cells_needed(processes, capacity) * 8
    return LimitTable(memoryview(bytearray(size)).cast("Q"), processes, capacity)


@given(st.dictionaries(st.integers(0, SLOT_LIMIT - 1), USE, max_size=SLOT_LIMIT))
def test_each_sees_the_sums_of_the_others(uses: dict[int, tuple[int, int, bool]]) -> None:
    table = a_table()
    (number,) = table.assign({"upstream api": 100}).values()
    for process, use in uses.items():
        table.row(number, process).say(*use)
    for process in (0, SLOT_LIMIT - 1):
        others = [use for other, use in uses.items() if other != process]
        sums = Use(*(sum(column) for column in zip((0, 0, 0), *others, strict=True)))
        assert table.row(number, process).others() == sums
    total = [sum(use[place] for use in uses.values()) for place in (0, 1)]
    assert table.all() == [Limit("upstream api", 100, *total)]


def test_rows_go_by_name() -> None:
    table = a_table()
    first = table.assign({"instance": 10, "upstream a": 5})
    table.row(first["upstream a"], 3).say(2, 1, claims=True)
    second = table.assign({"upstream b": 1, "upstream a": 7})
    assert second["upstream a"] == first["upstream a"]
    assert len({*first.values(), *second.values()}) == 3
    assert table.all()[1] == Limit("upstream a", 7, 2, 1)
    table.release(["upstream b"])
    assert [one.name for one in table.all()] == ["upstream b"]
    assert table.assign({"upstream a": 1, "x": 1, "y": 1}).keys() == {"upstream a", "x", "y"}
    assert all(one.in_flight == 0 for one in table.all())


def test_too_many_change_nothing() -> None:
    table = a_table(capacity=2)
    table.assign({"a": 1})
    with pytest.raises(StartupError, match="backend_rows higher"):
        table.assign({"b": 1, "c": 1})
    assert [one.name for one in table.all()] == ["a"]


def test_the_master_takes_back_what_the_dead_had() -> None:
    memory = SharedMemory.create(16)
    (number,) = memory.limits.assign({"instance": 3}).values()
    memory.limits.row(number, 5).say(3, 2, claims=True)
    memory.limits.row(number, 6).say(1, 0, claims=False)
    memory.bury(5)
    assert memory.limits.row(number, 7).others() == Use(1, 0, 0)


@pytest.mark.parametrize(("number", "process"), [(-1, 0), (4, 0), (0, -1), (0, SLOT_LIMIT)])
def test_there_are_no_other_rows(number: int, process: int) -> None:
    with pytest.raises(IndexError):
        a_table().row(number, process)
