"""The search for the largest datagram: which sizes are probed, and when it ends."""

import pytest

from spooky.protocol.quic.path_mtu import (
    BLACK_HOLE_LOSSES,
    BLACK_HOLE_PTOS,
    SMALLEST,
    TRIES,
    WORTH_BYTES,
    MtuSearch,
)


def lose(search: MtuSearch, times: int = TRIES) -> list[int | None]:
    sizes = []
    for _ in range(times):
        sizes.append(search.next_probe(WORTH_BYTES))
        search.lost()
    return sizes


def test_nothing_is_probed_for_a_few_packets() -> None:
    search = MtuSearch(1452)
    assert search.next_probe(WORTH_BYTES - 1) is None
    assert search.next_probe(WORTH_BYTES) == 1452


def test_one_probe_at_a_time() -> None:
    search = MtuSearch(1452)
    assert search.next_probe(WORTH_BYTES) == 1452
    assert search.next_probe(WORTH_BYTES) is None


def test_the_largest_that_passes_ends_the_search() -> None:
    search = MtuSearch(1452)
    search.acknowledged(search.next_probe(WORTH_BYTES) or 0)
    assert search.current == 1452
    assert search.next_probe(1 << 30) is None


def test_a_size_is_tried_again_before_the_next_smaller_one() -> None:
    search = MtuSearch(1452)
    assert lose(search) == [1452] * TRIES
    assert lose(search) == [1372] * TRIES
    search.acknowledged(search.next_probe(WORTH_BYTES) or 0)
    assert search.current == 1280


def test_a_path_that_carries_no_more_is_left_alone() -> None:
    search = MtuSearch(1452)
    lose(search, 3 * TRIES)
    assert search.next_probe(1 << 30) is None
    assert search.current == SMALLEST


@pytest.mark.parametrize(("largest", "sizes"), [(1200, [None]), (1300, [1300, 1280])])
def test_nothing_above_what_the_operator_allows(largest: int, sizes: list[int | None]) -> None:
    search = MtuSearch(largest)
    found = [search.next_probe(WORTH_BYTES)]
    if found != [None]:
        search.lost()
        lose(search, TRIES - 1)
        found.append(search.next_probe(WORTH_BYTES))
    assert found == sizes


def test_timeouts_in_a_row_end_it_for_good() -> None:
    search = MtuSearch(1452, current=1372)
    search.doubt(BLACK_HOLE_PTOS - 1)
    assert search.current == 1372
    search.doubt(BLACK_HOLE_PTOS)
    assert (search.current, search.next_probe(1 << 30)) == (SMALLEST, None)


def test_large_packets_that_vanish_in_a_row_end_it_for_good() -> None:
    search = MtuSearch(1452, current=1372)
    search.doubt(1)
    for _ in range(BLACK_HOLE_LOSSES - 1):
        search.large_lost()
    assert search.is_doubted
    search.large_delivered()
    assert not search.is_doubted
    search.doubt(1)
    for _ in range(BLACK_HOLE_LOSSES):
        assert search.current == 1372
        search.large_lost()
    assert (search.current, search.is_doubted) == (SMALLEST, False)
    assert search.next_probe(1 << 30) is None


def test_what_every_path_carries_is_not_doubted() -> None:
    search = MtuSearch(1452)
    search.doubt(1)
    assert not search.is_doubted
