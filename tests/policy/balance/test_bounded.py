from collections.abc import Iterator, Sequence
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.policy.balance import HASHES, TYPES
from spooky.policy.balance.bounded import Bounded
from spooky.policy.balance.consistent import Consistent
from tests.policy.balance.made import Known, keys, make, names


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
        # The last one that is left has a share of all, however much it has.
        assert {balancer.pick(key, [0, 2, 3, 4, 5]) for key in keys(5)} == {1}


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


@pytest.mark.parametrize("kind", HASHES)
@pytest.mark.parametrize("count", [3, 40])
def test_a_key_goes_where_it_would_without_those_that_are_full(kind: str, count: int) -> None:
    plain, _ = make(kind, [100] * count)
    balancer, known = make(kind, [100] * count, bound=100)
    for key in keys(20):
        known.flying[:] = [0] * count
        full: list[int] = []
        for _ in range(count - 1):
            place = balancer.pick(key)
            assert place == plain.pick(key, full)
            assert place is not None
            full.append(place)
            known.flying[place] = 1


class Counted:
    """A layout that counts how often a key is looked up."""

    def __init__(self, _names: Sequence[str], weights: Sequence[float]) -> None:
        self.lookups = 0
        self._count = len(weights)

    def first(self, _key: int) -> int:
        self.lookups += 1
        return 0

    def others(self, _key: int) -> Iterator[int]:
        yield from range(1, self._count)


def test_a_key_is_looked_up_once_however_many_are_full() -> None:
    weights = [1] * 9
    layouts: list[Counted] = []

    def lay_out(named: Sequence[str], weighed: Sequence[float]) -> Counted:
        layouts.append(Counted(named, weighed))
        return layouts[-1]

    known = Known([1, 1, 1, 1, 0, 0, 0, 0, 0])
    balancer = Bounded(Consistent(names(9), weights, lay_out), weights, known, 1.0)
    assert balancer.pick(7) == 4
    assert [layout.lookups for layout in layouts] == [1]


def test_where_most_are_full_somebody_is_found() -> None:
    balancer, known = make("random", [1] * 100, bound=100)
    for place in range(99):
        known.change(place, 5)
    assert {balancer.pick() for _ in range(20)} == {99}
    known.change(98, -5)
    assert {balancer.pick(0, [99]) for _ in range(20)} == {98}
