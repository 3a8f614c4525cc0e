"""The table, and what others who fill it by the same paper have in theirs.

Known are the results that two independent programs are tested against: dgryski/go-maglev
(`maglev_test.go`, in two of its versions) and Envoy (`maglev_lb_test.cc`: Basic, Weighted and the
two LocalityWeighted). The first of go-maglev has the three permutations of table 1 in the Maglev
paper; the paper itself was not at hand. Offsets and skips of go-maglev are read from the
permutations that stand there, those of Envoy were calculated with the xxhash package as Envoy does
it: XXH64 of the address, with seed 0 modulo the size, and with seed 1 modulo the size less 1, plus
1. Our own hash of a name is another; what is compared is how a table is filled.
"""

from collections import Counter
from collections.abc import Sequence

import pytest

from spooky.policy.balance.maglev import SIZES, Maglev, fill, table_size
from tests.policy.balance.made import names

B0, B1, B2 = (3, 4), (0, 2), (3, 1)
"""Offset and skip of three backends for a table of 7: those of the paper's table 1."""
C0, C1, C2 = (2, 4), (0, 5), (1, 2)
"""`backend-0` and so on, by the hash of go-maglev."""
E90, E91 = (1, 6), (9, 14)
"""127.0.0.1:90 and :91 for a table of 17, by the hash of Envoy."""
SIX = [(2, 4), (3, 6), (0, 2), (3, 3), (1, 3), (1, 5)]
"""127.0.0.1:90 to :95 for a table of 7."""


@pytest.mark.parametrize(
    ("starts", "weights", "table"),
    [
        pytest.param([B0, B1, B2], [1, 1, 1], "1010220", id="go-maglev"),
        pytest.param([B0, B2], [1, 1], "0000111", id="go-maglev, without B1"),
        pytest.param([C0, C1, C2], [1, 1, 1], "1202010", id="go-maglev, backend-N"),
        pytest.param([C0, C2], [1, 1], "0101010", id="go-maglev, backend-N without 1"),
        pytest.param(SIX, [1] * 6, "2401503", id="Envoy, Basic"),
        pytest.param([E90, E91], [1, 2], "10010110111110101", id="Envoy, Weighted"),
        pytest.param([E90, E91], [1, 1], "10010110010100101", id="Envoy, same localities"),
        pytest.param([E90, E91], [8, 2], "10000010010100000", id="Envoy, other localities"),
    ],
)
def test_others_fill_it_so_too(
    starts: Sequence[tuple[int, int]], weights: Sequence[int], table: str
) -> None:
    assert list(fill(starts, weights, len(table))) == [int(rank) for rank in table]


@pytest.mark.parametrize("others", [1, 9, 100])
def test_the_lightest_has_an_entry(others: int) -> None:
    table = Maglev(names(1 + others), [1] + [1000] * others)
    counts = Counter(table.first(key) for key in range(table_size(1 + others)))
    assert 1 <= counts[0] <= 2 + counts[1] / 1000


@pytest.mark.parametrize("count", [1, 3, 10, 100])
def test_equals_have_equally_much_to_one_entry(count: int) -> None:
    table = Maglev(names(count), [7] * count)
    counts = Counter(table.first(key) for key in range(table_size(count)))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_shares_of_a_table_follow_the_weights() -> None:
    weights = [100, 50, 1, 1000]
    counts = Counter(fill([B0, B1, B2, (5, 6)], weights, 10_007))
    for rank, weight in enumerate(weights):
        assert abs(counts[rank] - 10_007 * weight / sum(weights)) <= 2


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_primes(size: int) -> None:
    assert all(size % divisor for divisor in range(2, int(size**0.5) + 1))


@pytest.mark.parametrize(
    ("backends", "size"),
    [(1, 1021), (10, 1021), (11, 10_007), (1000, 131_071), (65_535, 6_553_577)],
)
def test_a_hundred_entries_for_each(backends: int, size: int) -> None:
    assert table_size(backends) == size
