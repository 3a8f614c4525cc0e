from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.balance.turns import RoundRobin

WEIGHTS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)
CHANCE = st.floats(0, 1, exclude_max=True)


def fixed(chance: float) -> Callable[[], float]:
    return lambda: chance


@given(WEIGHTS, CHANCE)
def test_round_robin_is_exact_over_each_cycle(weights: list[int], chance: float) -> None:
    balancer = RoundRobin(weights, fixed(chance))
    for _ in range(3):
        counts = Counter(balancer.pick() for _ in range(sum(weights)))
        assert counts == {place: weight for place, weight in enumerate(weights) if weight}


@given(WEIGHTS, CHANCE)
def test_round_robin_is_smooth(weights: list[int], chance: float) -> None:
    balancer = RoundRobin(weights, fixed(chance))
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
    balancer = RoundRobin([100] * 4, fixed(0.3))
    picks = [balancer.pick() for _ in range(400)]
    assert sorted(str(pick) for pick in picks[:4]) == ["0", "1", "2", "3"]
    assert picks == picks[:4] * 100


def test_round_robin_begins_elsewhere_in_each_worker() -> None:
    first = {RoundRobin([1] * 5, fixed(n / 20)).pick() for n in range(20)}
    assert first == {0, 1, 2, 3, 4}


@given(WEIGHTS, CHANCE, st.data())
def test_a_cycle_is_exact_after_other_weights(
    weights: list[int], chance: float, data: st.DataObject
) -> None:
    balancer = RoundRobin(weights, fixed(chance))
    for _ in range(3):
        for _ in range(data.draw(st.integers(0, 30))):
            balancer.pick()
        weights = [data.draw(st.sampled_from((weight, 0, 7))) for weight in weights]
        balancer.reweigh(weights)
        counts = Counter(balancer.pick() for _ in range(sum(weights)))
        assert counts == {place: weight for place, weight in enumerate(weights) if weight}


def test_an_excluded_backend_keeps_its_turn() -> None:
    balancer = RoundRobin([1, 1, 1], fixed(0.0))
    first = balancer.pick()
    skipped = balancer.pick()
    assert skipped is not None
    again = RoundRobin([1, 1, 1], fixed(0.0))
    assert again.pick() == first
    assert again.pick(0, [skipped]) not in {first, skipped}
    assert again.pick() == skipped
