from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.balance.made import make

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any)


@settings(max_examples=30)
@given(WEIGHTS, st.integers(), st.data())
def test_always_the_one_with_the_least_for_its_weight(
    weights: list[int], seed: int, data: st.DataObject
) -> None:
    balancer, known = make("least-connections", weights, seed=seed)
    for _ in range(60):
        place = data.draw(st.integers(0, len(weights) - 1))
        known.change(place, data.draw(st.integers(-known.flying[place], 5)))
        exclude = data.draw(st.sampled_from([[], [place]]))
        loads = {
            one: known.flying[one] / weight
            for one, weight in enumerate(weights)
            if weight and one not in exclude
        }
        picked = balancer.pick(0, exclude)
        if not loads:
            assert picked is None
            continue
        assert picked is not None
        assert loads[picked] == min(loads.values())
        known.change(picked, 1)


def test_idle_backends_take_turns_by_weight() -> None:
    balancer, _ = make("least-connections", [1, 2, 3])
    counts = Counter(balancer.pick() for _ in range(600))
    assert counts == {0: 100, 1: 200, 2: 300}


def test_one_that_was_away_does_not_catch_up() -> None:
    balancer, _ = make("least-connections", [1, 1])
    balancer.reweigh([1, 0])
    for _ in range(50):
        balancer.pick()
    balancer.reweigh([1, 1])
    assert abs(Counter(balancer.pick() for _ in range(10))[1] - 5) <= 1


def test_the_heap_does_not_grow_with_the_changes() -> None:
    balancer, known = make("least-connections", [1] * 10)
    for count in range(10_000):
        known.change(count % 9, 1 if count % 18 < 9 else -1)
    assert len(balancer._heap) < 100  # type: ignore[attr-defined]
