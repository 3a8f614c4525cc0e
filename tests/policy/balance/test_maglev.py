from collections import Counter

import pytest

from spooky.policy.balance.maglev import SIZES, Maglev, fill, table_size
from tests.policy.balance.made import names

B0, B1, B2 = (3, 4), (0, 2), (3, 1)
"""Offset and skip of the three backends in the paper's table 1, for a table of 7."""


def test_the_paper_s_table() -> None:
    assert list(fill([B0, B1, B2], [1, 1, 1], 7)) == [1, 0, 1, 0, 2, 2, 0]


def test_the_paper_s_table_without_b1() -> None:
    assert list(fill([B0, B2], [1, 1], 7)) == [0, 0, 0, 0, 1, 1, 1]


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
