import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.balance import Balancer, make_balancer

WEIGHTS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)
CHANCE = st.floats(0, 1, exclude_max=True)


def fixed(chance: float) -> Callable[[], float]:
    return lambda: chance


@given(WEIGHTS, CHANCE)
def test_round_robin_is_exact_over_each_cycle(weights: list[int], chance: float) -> None:
    balancer = make_balancer("round-robin", weights, fixed(chance))
    for _ in range(3):
        counts = Counter(balancer.pick() for _ in range(sum(weights)))
        assert counts == {place: weight for place, weight in enumerate(weights) if weight}


@given(WEIGHTS, CHANCE)
def test_round_robin_is_smooth(weights: list[int], chance: float) -> None:
    balancer = make_balancer("round-robin", weights, fixed(chance))
    total = sum(weights)
    counts = [0] * len(weights)
    for picks in range(1, 2 * total + 1):
        place = balancer.pick()
        assert place is not None
        counts[place] += 1
        for count, weight in zip(counts, weights, strict=True):
            # Nobody is ahead or behind by more than a turn of his own and one of each other.
            assert abs(count - picks * weight / total) <= 1 + len(weights) * weight / total


def test_round_robin_of_equals_takes_turns() -> None:
    balancer = make_balancer("round-robin", [100] * 4, fixed(0.3))
    picks = [balancer.pick() for _ in range(400)]
    assert sorted(str(pick) for pick in picks[:4]) == ["0", "1", "2", "3"]
    assert picks == picks[:4] * 100


def test_round_robin_begins_elsewhere_in_each_worker() -> None:
    first = {make_balancer("round-robin", [1] * 5, fixed(n / 20)).pick() for n in range(20)}
    assert first == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", ["round-robin", "random"])
class TestEveryBalancer:
    @given(data=st.data())
    def test_never_picks_the_excluded_nor_weight_0(self, kind: str, data: st.DataObject) -> None:
        weights = data.draw(WEIGHTS)
        balancer = make_balancer(kind, weights, random.Random(data.draw(st.integers())).random)
        for _ in range(20):
            exclude = data.draw(st.lists(st.integers(0, len(weights) - 1)))
            left = {n for n, weight in enumerate(weights) if weight and n not in exclude}
            pick = balancer.pick(exclude)
            assert pick in left if left else pick is None

    def test_none_when_there_is_nobody(self, kind: str) -> None:
        assert make_balancer(kind, [], fixed(0.5)).pick() is None
        assert make_balancer(kind, [0, 0], fixed(0.5)).pick() is None
        assert make_balancer(kind, [1, 1], fixed(0.5)).pick([0, 1, 1]) is None

    def test_a_thousand_backends_cost_little_more_than_ten(self, kind: str) -> None:
        def cost(count: int) -> float:
            balancer = make_balancer(kind, [n % 7 + 1 for n in range(count)], random.random)
            started = time.process_time()
            for _ in range(3000):
                balancer.pick()
            return time.process_time() - started

        assert min(cost(1000) for _ in range(3)) < 10 * min(cost(10) for _ in range(3))


def test_an_excluded_backend_keeps_its_turn() -> None:
    balancer = make_balancer("round-robin", [1, 1, 1], fixed(0.0))
    first = balancer.pick()
    skipped = balancer.pick()
    assert skipped is not None
    again = make_balancer("round-robin", [1, 1, 1], fixed(0.0))
    assert again.pick() == first
    assert again.pick([skipped]) not in {first, skipped}
    assert again.pick() == skipped


def drawn(balancer: Balancer, exclude: list[int]) -> Counter[int | None]:
    return Counter(balancer.pick(exclude) for _ in range(20_000))


def test_random_follows_the_weights_also_without_some() -> None:
    balancer = make_balancer("random", [1, 0, 2, 3, 4], random.Random(7).random)
    for exclude, total in (([], 10), ([3], 7), ([0, 4], 5), ([2, 3], 5)):
        counts = drawn(balancer, exclude)
        for place, weight in enumerate([1, 0, 2, 3, 4]):
            share = 0 if place in exclude else weight / total
            assert abs(counts[place] / 20_000 - share) < 0.02


@given(WEIGHTS, st.integers(0, 1000))
def test_random_reaches_both_ends_of_the_line(weights: list[int], seed: int) -> None:
    last = max(n for n, weight in enumerate(weights) if weight)
    first = min(n for n, weight in enumerate(weights) if weight)
    assert make_balancer("random", weights, fixed(1 - 2**-53)).pick() == last
    assert make_balancer("random", weights, fixed(0.0)).pick() == first


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="round-robin, random"):
        make_balancer("psychic", [1], fixed(0.5))
