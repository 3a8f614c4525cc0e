import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.overflow import Group, Load, loads, shares


@st.composite
def groups(draw: st.DrawFn) -> Group:
    well = draw(st.integers(0, 1000))
    usable = well + draw(st.integers(0, 1000))
    wanted = usable + draw(st.integers(0, 1000))
    return Group(wanted + draw(st.integers(0, 1000)), wanted, usable, well)


def tier(well: int, of: int = 100) -> Group:
    return Group(of, of, of, well)


# Percentages as in Envoy's documentation, "Priority levels" and "Panic threshold".
@pytest.mark.parametrize(
    ("well", "parts"),
    [
        ([100, 100], [1, 0]),
        ([72, 100], [1, 0]),
        ([71, 100], [0.994, 0.006]),
        ([50, 100], [0.7, 0.3]),
        ([25, 100], [0.35, 0.65]),
        ([0, 100], [0, 1]),
        ([0, 25], [0.5, 0.5]),
        ([25, 25], [0.5, 0.5]),
        ([5, 0], [0.5, 0.5]),
        ([100, 0, 0], [1, 0, 0]),
        ([50, 50, 100], [0.7, 0.3, 0]),
        ([20, 20, 72], [0.28, 0.28, 0.44]),
    ],
)
def test_load_by_tiers(well: list[int], parts: list[float]) -> None:
    found = [load.part for load in loads([tier(one) for one in well], 0.5)]
    assert found == pytest.approx(parts, abs=0.001)


@pytest.mark.parametrize(
    ("well", "threshold", "panics"),
    [
        ([100, 100], 0.5, [False, False]),
        ([49], 0.5, [True]),
        ([50], 0.5, [False]),
        ([49], 0.3, [False]),
        ([0], 0.0, [False]),
        # The backup carries it all, so nobody panics.
        ([10, 100], 0.5, [False, False]),
        # The tiers together carry too little, but the first gets nothing of it.
        ([0, 60], 0.5, [False, False]),
        ([12, 60], 0.5, [False, False]),
        ([5, 60], 0.5, [True, False]),
        ([5, 20], 0.5, [True, True]),
    ],
)
def test_panic(well: list[int], threshold: float, panics: list[bool]) -> None:
    assert [one.is_panic for one in loads([tier(one) for one in well], threshold)] == panics


def test_when_all_panic_health_counts_for_nothing_in_the_shares() -> None:
    assert loads([tier(5, 100), tier(0, 300)], 0.5) == [Load(0.25, True), Load(0.75, True)]


def test_what_is_drained_is_capacity_that_is_missing_but_no_panic() -> None:
    drained = Group(whole=100, wanted=20, usable=20, well=20)
    assert loads([drained], 0.5) == [Load(1.0)]
    assert [load.part for load in loads([drained, tier(100)], 0.5)] == pytest.approx([0.28, 0.72])


@given(st.lists(groups(), max_size=5), st.floats(0, 1))
def test_the_parts_add_up(tiers: list[Group], threshold: float) -> None:
    found = loads(tiers, threshold)
    total = sum(load.part for load in found)
    assert all(0 <= load.part <= 1 for load in found)
    if any(one.well for one in tiers) or (threshold > 0 and any(one.usable for one in tiers)):
        assert total == pytest.approx(1)
    elif not any(one.usable for one in tiers):
        assert total == 0
    # Whoever gets load has somebody who may take it.
    for load, one in zip(found, tiers, strict=True):
        assert not load.part or (one.usable if load.is_panic else one.well)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_shares_fill_the_preferred_first(capacities: list[float]) -> None:
    found = shares(capacities)
    if sum(capacities) >= 1:
        assert sum(found) == pytest.approx(1)
        for able, part, rest in zip(capacities, found, range(1, len(found) + 1), strict=True):
            # Who is not full leaves nothing to those after him.
            assert part == pytest.approx(able) or sum(found[rest:]) == pytest.approx(0)
