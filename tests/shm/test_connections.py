"""Counts of client connections: added up over processes, gone with the process that had them."""

import random

import pytest

from spooky.shm.connections import WIDTH, ConnectionTable, Tally, places_of

KEY = b"k" * 32
PROCESSES = 3


@pytest.fixture
def table() -> ConnectionTable:
    cells = memoryview(bytearray(8 * ConnectionTable.cells_needed(PROCESSES))).cast("Q")
    return ConnectionTable(cells, PROCESSES)


def test_all_processes_add_up(table: ConnectionTable) -> None:
    first, last = table.counts(0), table.counts(2)
    ours, others = places_of(b"\x7f\0\0\1", KEY), places_of(b"\x7f\0\0\2", KEY)
    for counts in (first, first, last):
        counts.begin(10)
    assert table.counts(1).tally(10) == Tally(open=3, half_open=3, begun=3)
    first.complete(ours)
    last.complete(ours)
    assert [counts.of_client(ours) for counts in (first, last, table.counts(1))] == [2, 2, 2]
    assert first.of_client(others) == 0
    last.end(ours)
    first.end(None)
    assert first.tally(10) == Tally(open=1, half_open=0, begun=3)
    assert first.of_client(ours) == 1


def test_only_what_was_begun_within_the_second_counts(table: ConnectionTable) -> None:
    first, last = table.counts(0), table.counts(2)
    for second, counts in ((10, first), (11, first), (11, first), (10, last)):
        counts.begin(second)
    assert [first.tally(second).begun for second in (9, 10, 11, 12)] == [0, 1, 2, 0]


def test_what_a_process_had_is_gone_with_it(table: ConnectionTable) -> None:
    places = places_of(b"\x7f\0\0\1", KEY)
    for process in range(PROCESSES):
        counts = table.counts(process)
        counts.begin(7)
        counts.begin(7)
        counts.complete(places)
    table.end_process(1)
    assert table.counts(1).tally(7) == Tally(open=4, half_open=2, begun=4)
    assert table.counts(1).of_client(places) == 2
    for process in (0, 2):
        table.counts(process).end(places)
        table.counts(process).end(None)
    assert table.counts(1).tally(7) == Tally(open=0, half_open=0, begun=4)
    assert table.counts(1).of_client(places) == 0


@pytest.mark.parametrize("process", [-1, PROCESSES])
def test_no_cells_for_who_has_none(table: ConnectionTable, process: int) -> None:
    with pytest.raises(IndexError):
        table.counts(process)


def test_others_hardly_ever_add_to_the_count_of_a_client(table: ConnectionTable) -> None:
    """As many clients as a quarter of the counters of a row, each with many connections."""
    counts = table.counts(0)
    rand = random.Random(5)
    for _ in range(WIDTH // 4):
        places = places_of(rand.randbytes(4), KEY)
        for _ in range(5):
            counts.begin(1)
            counts.complete(places)
    found = [counts.of_client(places_of(rand.randbytes(16), KEY)) for _ in range(2000)]
    assert sum(map(bool, found)) < 2000 * 0.01


def test_the_key_decides_who_shares_a_place() -> None:
    assert places_of(b"a", KEY) == places_of(b"a", KEY)
    assert not set(places_of(b"a", KEY)) & set(places_of(b"a", b"other"))
