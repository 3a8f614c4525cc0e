"""The rows of backends: who has which, across reloads, and when there are not enough."""

import os

import pytest

from spooky.errors import StartupError
from spooky.shm import backends
from spooky.shm.backend_cells import BackendColumn, Health, ProbeCounts
from spooky.shm.backends import BackendRow, BackendTable
from spooky.shm.segment import SharedMemory

A, B, C, D = (f"http://10.0.0.{number}:80" for number in range(1, 5))


def make_table(capacity: int) -> BackendTable:
    octets = bytearray(BackendTable.cells_needed(capacity) * 8)
    return BackendTable(memoryview(octets).cast("Q"), capacity)


def contents(table: BackendTable) -> dict[int, str]:
    return {row: table.row(row).address for row in table.taken()}


def test_each_identity_has_a_row_of_its_own() -> None:
    table = make_table(3)
    rows = table.assign([A, B, C])
    assert sorted(rows.values()) == [0, 1, 2]
    assert contents(table) == {row: identity for identity, row in rows.items()}


def test_a_reload_forgets_nothing_of_a_backend_that_stays() -> None:
    table = make_table(3)
    before = table.assign([A, B])
    table.row(before[B]).set(BackendColumn.HEALTH, Health.UNHEALTHY)
    # In another order, beside a new one: the place in the file does not matter.
    after = table.assign([C, B])
    assert after[B] == before[B]
    assert after[C] not in before.values()
    assert table.row(after[B]).get(BackendColumn.HEALTH) == Health.UNHEALTHY


def test_another_table_on_the_same_cells_finds_the_same_rows() -> None:
    cells = memoryview(bytearray(BackendTable.cells_needed(4) * 8)).cast("Q")
    rows = BackendTable(cells, 4).assign([A, B])
    assert BackendTable(cells, 4).assign([B, A]) == rows


def test_a_row_that_was_given_back_starts_from_nothing() -> None:
    table = make_table(2)
    rows = table.assign([A, B])
    row = table.row(rows[A])
    row.describe("web/a", 5, 1)
    row.set(BackendColumn.HEALTH, Health.UNHEALTHY)
    assert table.release([B]) == [rows[A]]
    assert contents(table) == {rows[B]: B}
    again = table.assign([C])
    assert again == {C: rows[A]}
    assert (row.name, row.address) == ("", C)
    assert row.get(BackendColumn.HEALTH) == Health.UNKNOWN
    assert row.effective_weight() == 0


def test_a_full_table_says_which_key_to_change_and_changes_nothing() -> None:
    table = make_table(3)
    rows = table.assign([A, B])
    with pytest.raises(StartupError, match=r"limits\.backend_rows: .* 3 .*2 are in use, 2 more"):
        table.assign([A, C, D])
    assert contents(table) == {row: identity for identity, row in rows.items()}
    table.release([A])
    assert len(table.assign([A, C, D])) == 3


def test_identities_with_the_same_key_are_different_backends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody can find two such identities, so the digest is bent.
    genuine = backends.digest_of
    monkeypatch.setattr(backends, "digest_of", lambda identity: [7, *genuine(identity)[1:]])
    table = make_table(3)
    rows = table.assign([A, B])
    assert {table.row(row).get(BackendColumn.KEY) for row in rows.values()} == {7}
    assert table.assign([B]) == {B: rows[B]}
    assert table.release([B]) == [rows[A]]
    assert contents(table) == {rows[B]: B}


def test_a_key_is_never_that_of_a_free_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def digest(self) -> bytes:
            return bytes(32)

    monkeypatch.setattr(backends, "sha256", lambda _: Nothing())
    assert backends.digest_of(A) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("web/a1", "web/a1"),
        ("", ""),
        ("x" * 200, "x" * 96),
        # Cut between characters, never within one.
        ("x" + "ä" * 100, "x" + "ä" * 47),
    ],
)
def test_names_are_cut_to_their_room(name: str, shown: str) -> None:
    table = make_table(2)
    row = table.row(table.assign([A])[A])
    row.describe("a longer name than the next", 1, 1)
    row.describe(name, 100, 2)
    assert (row.name, row.address) == (shown, A)
    assert contents(table) == {0: A}


def test_a_long_address_is_cut_and_still_told_apart() -> None:
    table = make_table(2)
    host = "a" * 250
    rows = table.assign([f"http://{host}:80", f"http://{host}:81"])
    assert sorted(rows.values()) == [0, 1]
    assert table.row(0).address == table.row(1).address == f"http://{'a' * 153}"


@pytest.mark.parametrize(
    ("weight", "cut", "effective"),
    [
        (100, 0, 100),
        (100, 250, 75),
        (100, 1000, 0),
        (100, 9999, 0),
        (1, 999, 1),
        (0, 0, 0),
        (1000, 1, 999),
    ],
)
def test_the_effective_weight(weight: int, cut: int, effective: int) -> None:
    row = make_table(1).row(0)
    row.set(BackendColumn.WEIGHT, weight)
    row.set(BackendColumn.WEIGHT_CUT, cut)
    assert row.effective_weight() == effective


@pytest.mark.parametrize("number", [-1, 2])
def test_there_are_no_other_rows(number: int) -> None:
    with pytest.raises(IndexError):
        make_table(2).row(number)


def test_rows_do_not_touch_each_other() -> None:
    table = make_table(3)
    assert max(BackendColumn) < backends.ROW_CELLS - (96 + 160) // 8
    middle: BackendRow = table.row(1)
    for column in BackendColumn:
        middle.set(column, 2**64 - 1)
    middle.describe("n" * 96, 2**64 - 1, 2**64 - 1)
    middle.take("i" * 160, [2**64 - 1] * 4)
    middle.explain("r" * 200)
    most = ProbeCounts(0xFFFF, 0xFFFF, 0xFFFF)
    middle.count_probes(most)
    assert (middle.name, middle.address, middle.reason) == ("n" * 96, "i" * 160, "r" * 128)
    assert middle.probe_counts == most
    assert list(table.taken()) == [1]
    assert (table.row(0).name, table.row(0).address) == ("", "")
    assert (table.row(2).name, table.row(2).address) == ("", "")
    middle.clear()
    assert middle.reason == ""
    assert all(middle.get(column) == 0 for column in BackendColumn)


def test_who_only_reads_sees_all_and_writes_nothing() -> None:
    memory = SharedMemory.create(16)
    rows = memory.backends.assign([A])
    memory.traffic.begin(3)
    reader = SharedMemory.attach(os.dup(memory.fd), writable=False)
    assert contents(reader.backends) == {rows[A]: A}
    with pytest.raises(TypeError, match="read-only"):
        reader.backends.row(0).set(BackendColumn.HEALTH, 1)
