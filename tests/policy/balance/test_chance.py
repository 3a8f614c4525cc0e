import random
from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.balance.chance import PowerOfTwo, WeightedRandom, by_latency
from tests.policy.balance.made import Known, make

WEIGHTS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def fixed(chance: float) -> Callable[[], float]:
    return lambda: chance


def drawn(balancer: WeightedRandom, exclude: list[int]) -> Counter[int | None]:
    return Counter(balancer.pick(0, exclude) for _ in range(20_000))


def test_random_follows_the_weights_also_without_some() -> None:
    balancer = WeightedRandom([1, 0, 2, 3, 4], random.Random(7).random)
    for exclude, total in (([], 10), ([3], 7), ([0, 4], 5), ([2, 3], 5)):
        counts = drawn(balancer, exclude)
        for place, weight in enumerate([1, 0, 2, 3, 4]):
            share = 0 if place in exclude else weight / total
            assert abs(counts[place] / 20_000 - share) < 0.02


@given(WEIGHTS, st.integers(0, 1000))
def test_random_reaches_both_ends_of_the_line(weights: list[int], seed: int) -> None:
    last = max(n for n, weight in enumerate(weights) if weight)
    first = min(n for n, weight in enumerate(weights) if weight)
    assert WeightedRandom(weights, fixed(1 - 2**-53)).pick() == last
    assert WeightedRandom(weights, fixed(0.0)).pick() == first


@given(WEIGHTS, st.integers())
def test_of_two_the_one_with_less_to_do(weights: list[int], seed: int) -> None:
    balancer, known = make("power-of-two", weights, seed=seed)
    known.flying[:] = [place * 10 for place in range(len(weights))]
    worst = max(
        (place for place, weight in enumerate(weights) if weight),
        key=lambda place: (known.flying[place] + 1) / weights[place],
    )
    others = sum(1 for weight in weights if weight) > 1
    ties = {
        place
        for place, weight in enumerate(weights)
        if weight
        and (known.flying[place] + 1) * weights[worst] == (known.flying[worst] + 1) * weight
    }
    for _ in range(20):
        assert balancer.pick() != worst or not others or len(ties) > 1


def test_ewma_weighs_latency_with_what_is_in_flight() -> None:
    cost = by_latency(Known([9, 0, 3, 0], [0.010, 0.200, 0.0, 0.0]))
    assert abs(cost(0) - 0.1) < 1e-9
    assert cost(0) < cost(1)
    # Nobody knows of these two: one is asked at once, the other has its first request already.
    assert cost(3) == 0.0
    assert cost(2) > 1000


def test_two_draws_of_one_backend_are_that_backend() -> None:
    balancer = PowerOfTwo([0, 3, 0], float, random.Random(1).random)
    assert {balancer.pick() for _ in range(20)} == {1}
