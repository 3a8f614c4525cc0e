"""Consistent hashing: whose keys move when somebody comes or goes, and who agrees with whom."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.policy.balance import HASHES
from spooky.policy.balance.consistent import Consistent, seed_of
from spooky.policy.balance.ring import Ring
from tests.policy.balance.made import keys, make, names

KEYS = keys(4000)


def owners(kind: str, named: Sequence[str], weights: Sequence[int] | None = None) -> list[str]:
    balancer, _ = make(kind, weights or [100] * len(named), named=named)
    picks = [balancer.pick(key) for key in KEYS]
    return [named[pick] for pick in picks if pick is not None]


@pytest.mark.parametrize("kind", HASHES)
class TestEveryHash:
    @pytest.mark.parametrize("gone", [0, 4, 9])
    def test_disruption_when_one_of_ten_leaves_the_file(self, kind: str, gone: int) -> None:
        named = names(10)
        before = owners(kind, named)
        after = owners(kind, [name for place, name in enumerate(named) if place != gone])
        moved = sum(one != other for one, other in zip(before, after, strict=True))
        # Its own tenth, which for a ring is a tenth give or take a quarter; 5 % beyond it.
        assert moved / len(KEYS) <= 0.1 + 0.05
        if kind != "maglev":
            assert moved == before.count(named[gone])

    @pytest.mark.parametrize("count", [2, 10, 40])
    def test_only_the_keys_of_one_that_is_out_move(self, kind: str, count: int) -> None:
        balancer, _ = make(kind, [100] * count)
        before = [balancer.pick(key) for key in KEYS]
        balancer.reweigh([100] * (count - 1) + [0])
        during = [balancer.pick(key) for key in KEYS]
        assert all(
            now == then if then != count - 1 else now != then
            for then, now in zip(before, during, strict=True)
        )
        balancer.reweigh([100] * count)
        assert [balancer.pick(key) for key in KEYS] == before

    def test_the_keys_of_one_that_is_out_go_to_all_others(self, kind: str) -> None:
        balancer, _ = make(kind, [100] * 6)
        mine = [key for key in keys(15_000) if balancer.pick(key) == 0]
        balancer.reweigh([0, 100, 100, 100, 100, 100])
        counts = Counter(balancer.pick(key) for key in mine)
        assert set(counts) == {1, 2, 3, 4, 5}
        slack = 0.6 if kind == "ring-hash" else 0.2
        assert all(abs(count * 5 / len(mine) - 1) < slack for count in counts.values())

    def test_the_order_of_the_file_does_not_matter(self, kind: str) -> None:
        named = names(40)
        weights = {name: 10 + place % 3 for place, name in enumerate(named)}
        expected = owners(kind, named, list(weights.values()))
        random.Random(5).shuffle(named)
        assert owners(kind, named, [weights[name] for name in named]) == expected

    @settings(max_examples=20)
    @given(history=st.lists(st.lists(st.integers(0, 300), min_size=6, max_size=6), max_size=5))
    def test_what_was_seen_before_does_not_matter(
        self, kind: str, history: list[list[int]]
    ) -> None:
        one, _ = make(kind, [100] * 6)
        other, _ = make(kind, [100] * 6)
        for weights in history:
            one.reweigh(weights)
        now = history[-1] if history else [100] * 6
        other.reweigh(now)
        assert [one.pick(key) for key in KEYS[:50]] == [other.pick(key) for key in KEYS[:50]]

    @pytest.mark.parametrize("scale", [10, 1000])
    def test_weights_that_are_all_multiplied_move_no_key(self, kind: str, scale: int) -> None:
        balancer, _ = make(kind, [100, 50, 10, 100, 0])
        for weights in ([100, 50, 10, 100, 0], [33, 50, 10, 100, 0], [0, 50, 0, 100, 0]):
            balancer.reweigh(weights)
            before = [balancer.pick(key) for key in KEYS]
            balancer.reweigh([scale * weight for weight in weights])
            assert [balancer.pick(key) for key in KEYS] == before

    def test_keys_come_over_as_a_weight_grows_and_none_goes_back(self, kind: str) -> None:
        balancer, _ = make(kind, [100] * 5)
        had: set[int] = set()
        for weight in (10, 30, 60, 100):
            balancer.reweigh([weight, 100, 100, 100, 100])
            has = {key for key in KEYS if balancer.pick(key) == 0}
            assert had < has
            had = has

    def test_an_excluded_backend_changes_nothing_for_the_keys_of_others(self, kind: str) -> None:
        balancer, _ = make(kind, [100] * 5)
        for key in KEYS[:500]:
            first = balancer.pick(key)
            assert first is not None
            second = balancer.pick(key, [first])
            assert second not in {first, None}
            third = next(place for place in range(5) if place not in {first, second})
            assert balancer.pick(key, [third]) == first

    def test_the_same_server_twice_is_two_backends(self, kind: str) -> None:
        balancer, _ = make(kind, [100, 100], named=["http://a:80", "http://a:80"])
        assert {balancer.pick(key) for key in KEYS[:200]} == {0, 1}

    def test_a_thousand_backends_with_nearly_all_of_them_out(self, kind: str) -> None:
        balancer, _ = make(kind, [100] * 1000)
        balancer.reweigh([0] * 997 + [100] * 3)
        assert {balancer.pick(key) for key in KEYS[:300]} == {997, 998, 999}


def test_a_layout_is_made_anew_where_less_than_half_is_left_and_only_there() -> None:
    laid_out: list[list[float]] = []

    def lay_out(named: Sequence[str], weights: Sequence[float]) -> Ring:
        laid_out.append(list(weights))
        return Ring(named, weights)

    balancer = Consistent(names(4), [100] * 4, lay_out)
    for weights in ([100, 100, 0, 0], [100, 100, 30, 0], [100, 0, 0, 0], [100] * 4):
        balancer.reweigh(weights)
    assert laid_out == [[100] * 4, [100, 0, 0, 0], [100] * 4]


def test_a_branch_of_a_tree_weighs_what_is_on_it() -> None:
    named = names(40)
    weights = [1000 if seed_of(name) >> 63 else 100 for name in named]
    heavy = {name for name, weight in zip(named, weights, strict=True) if weight == 1000}
    found = sum(owner in heavy for owner in owners("rendezvous", named, weights))
    assert abs(found / len(KEYS) - 1000 * len(heavy) / sum(weights)) < 0.02


def test_in_a_tree_of_a_thousand_few_other_keys_move() -> None:
    named = names(1000)
    before = owners("rendezvous", named)
    after = owners("rendezvous", named[:500] + named[501:])
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert moved / len(KEYS) < 4 / 1000


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ring-hash", [0, 0, 3, 1, 6, 1, 6, 4, 2, 3, 1, 3]),
        ("rendezvous", [4, 6, 1, 3, 1, 3, 4, 1, 3, 4, 0, 3]),
        ("maglev", [4, 3, 3, 2, 1, 3, 2, 4, 4, 4, 1, 5]),
    ],
)
def test_what_was_hashed_before_an_upgrade_is_hashed_so_after_it(
    kind: str, expected: list[int]
) -> None:
    balancer, _ = make(kind, [100] * 7)
    assert [balancer.pick(key) for key in KEYS[:12]] == expected
