"""What holds for every algorithm, with a bound and without."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.config import balancing_tables
from spooky.policy.balance import HASHES, TYPES, is_fed, make_balancer
from tests.policy.balance.made import Choice, keys, make

WEIGHTS = st.lists(st.integers(0, 40), min_size=1, max_size=12)
BY_WEIGHT = ("random", *HASHES)


@pytest.mark.parametrize("bound", [None, 125])
@pytest.mark.parametrize("kind", TYPES)
class TestEveryBalancer:
    @settings(max_examples=15)
    @given(data=st.data())
    def test_never_picks_the_excluded_nor_weight_0(
        self, kind: str, bound: int | None, data: st.DataObject
    ) -> None:
        weights = data.draw(WEIGHTS)
        balancer, known = make(kind, weights, bound=bound, seed=data.draw(st.integers()))
        for _ in range(12):
            if data.draw(st.booleans()):
                weights = [data.draw(st.integers(0, 1000)) for _ in weights]
                balancer.reweigh(weights)
            exclude = data.draw(st.lists(st.integers(0, len(weights) - 1)))
            left = {n for n, weight in enumerate(weights) if weight and n not in exclude}
            pick = balancer.pick(data.draw(st.integers(0, 2**64 - 1)), exclude)
            assert pick in left if left else pick is None
            if pick is not None:
                known.change(pick, 1)

    def test_none_when_there_is_nobody(self, kind: str, bound: int | None) -> None:
        for weights in ([], [0, 0]):
            assert make(kind, weights, bound=bound)[0].pick() is None
        assert make(kind, [1, 1], bound=bound)[0].pick(0, [0, 1, 1]) is None

    def test_one_that_comes_back_is_picked_again(self, kind: str, bound: int | None) -> None:
        balancer, _ = make(kind, [10] * 4, bound=bound)
        balancer.reweigh([10, 0, 0, 10])
        assert {balancer.pick(key) for key in keys(200)} == {0, 3}
        balancer.reweigh([10, 10, 0, 10])
        assert {balancer.pick(key) for key in keys(200)} == {0, 1, 3}


@pytest.mark.parametrize("kind", BY_WEIGHT)
@pytest.mark.parametrize("weights", [[1, 2, 3, 4], [0, 100, 1000, 300], [5] * 40])
def test_shares_follow_the_weights(kind: str, weights: list[int]) -> None:
    balancer, _ = make(kind, weights)
    counts = Counter(balancer.pick(key) for key in keys(20_000))
    # A ring's shares scatter by about 1/sqrt(160) of a share, and hashing adds nothing to that.
    slack = 0.25 if kind == "ring-hash" else 0.16
    for place, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(counts[place] / 20_000 - share) <= slack * share


@pytest.mark.parametrize("kind", BY_WEIGHT)
def test_a_lowered_weight_gets_less_in_proportion(kind: str) -> None:
    balancer, _ = make(kind, [100] * 5)
    balancer.reweigh([100, 100, 100, 100, 20])
    count = sum(balancer.pick(key) == 4 for key in keys(20_000))
    assert abs(count / 20_000 - 20 / 420) < 0.015


@pytest.mark.parametrize("kind", BY_WEIGHT)
def test_a_raised_weight_gets_more_in_proportion(kind: str) -> None:
    balancer, _ = make(kind, [100] * 5)
    balancer.reweigh([100, 100, 100, 100, 400])
    count = sum(balancer.pick(key) == 4 for key in keys(20_000))
    assert abs(count / 20_000 - 1 / 2) < 0.06


def test_who_is_fed() -> None:
    assert [kind for kind in TYPES if is_fed(Choice(kind))] == [
        "least-connections",
        "power-of-two",
        "ewma",
    ]
    assert all(is_fed(Choice(kind, bound=200)) for kind in TYPES)


def test_an_unknown_type_is_an_error() -> None:
    _, known = make("random", [1])
    with pytest.raises(ValueError, match="round-robin, random"):
        make_balancer(Choice("psychic"), ["a"], [1], known, random.random)


def test_the_configuration_offers_what_there_is() -> None:
    assert sorted(balancing_tables.TYPES) == sorted(TYPES)
    assert sorted(balancing_tables.HASHES) == sorted(HASHES)
