from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.policy.balance import TYPES
from tests.policy.balance.made import keys, make


@pytest.mark.parametrize("factor", [100, 125, 200])
@pytest.mark.parametrize("kind", TYPES)
class TestBound:
    @settings(max_examples=12)
    @given(data=st.data())
    def test_is_never_broken(self, kind: str, factor: int, data: st.DataObject) -> None:
        weights = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any))
        balancer, known = make(kind, weights, bound=factor)
        few = st.sampled_from(keys(3))
        for _ in range(40):
            busy = [place for place, count in enumerate(known.flying) if count]
            if busy and data.draw(st.integers(0, 2)) == 0:
                known.change(data.draw(st.sampled_from(busy)), -1)
                continue
            place = balancer.pick(data.draw(few))
            assert place is not None
            known.change(place, 1)
            share = weights[place] / sum(weights)
            assert known.flying[place] <= ceil(
                factor / 100 * known.total_in_flight() * share + 1e-6
            )

    def test_holds_for_those_that_are_left(self, kind: str, factor: int) -> None:
        balancer, known = make(kind, [1] * 6, bound=factor)
        known.change(0, 500)
        known.change(1, 50)
        # 0 takes no part, so that 1 has more than twice its share of the others' 51.
        assert {balancer.pick(key, [0]) for key in keys(20)} <= {2, 3, 4, 5}


def test_a_popular_key_spreads_and_comes_home() -> None:
    balancer, known = make("ring-hash", [1] * 5, bound=150)
    home = balancer.pick(7)
    for _ in range(20):
        place = balancer.pick(7)
        assert place is not None
        known.change(place, 1)
    assert home is not None
    assert known.flying[home] == max(known.flying) <= 6
    known.change(home, -known.flying[home])
    assert balancer.pick(7) == home


def test_where_most_are_full_somebody_is_found() -> None:
    balancer, known = make("random", [1] * 100, bound=100)
    for place in range(99):
        known.change(place, 5)
    assert {balancer.pick() for _ in range(20)} == {99}
