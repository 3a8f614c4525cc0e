"""What rate limits did, counted by all processes."""

import pytest

from spooky.config.rate_tables import MOST_LIMITS
from spooky.shm.processes import SLOT_LIMIT
from spooky.shm.rate_counts import CAPACITY, RateCount, RateCounts
from spooky.shm.segment import SharedMemory


def a_table(processes: int = 3) -> RateCounts:
    size = RateCounts.cells_needed(processes) * 8
    return RateCounts(memoryview(bytearray(size)).cast("Q"), processes)


def test_the_counts_of_all_processes_add_up() -> None:
    table = a_table()
    rows = table.assign(["b", "a"])
    for process, times in enumerate((1, 2, 4)):
        counter = table.counter(rows["a"], process)
        for _ in range(times):
            counter.admitted()
    table.counter(rows["a"], 1).refused()
    table.counter(rows["b"], 2).spared()
    assert table.all() == [RateCount("a", 7, 1, 0), RateCount("b", 0, 0, 1)]


def test_a_limit_keeps_its_counts_until_nobody_has_it() -> None:
    table = a_table()
    table.counter(table.assign(["a", "b"])["a"], 0).admitted()
    table.counter(table.assign(["a"])["a"], 1).admitted()
    table.release(["a"])
    assert table.all() == [RateCount("a", 2, 0, 0)]
    table.release([])
    table.assign(["a"])
    assert table.all() == [RateCount("a", 0, 0, 0)]


@pytest.mark.parametrize(("number", "process"), [(CAPACITY, 0), (-1, 0), (0, 3), (0, -1)])
def test_there_is_nothing_outside_of_the_table(number: int, process: int) -> None:
    with pytest.raises(IndexError):
        a_table().counter(number, process)


def test_a_process_that_died_has_counted_what_it_has() -> None:
    memory = SharedMemory.create(16)
    memory.rate_counts.counter(memory.rate_counts.assign(["a"])["a"], SLOT_LIMIT - 1).refused()
    memory.bury(SLOT_LIMIT - 1)
    assert memory.rate_counts.all() == [RateCount("a", 0, 1, 0)]


def test_a_reload_may_name_all_limits_anew() -> None:
    assert CAPACITY >= 2 * MOST_LIMITS
