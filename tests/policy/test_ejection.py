"""How long ejected backends stay away, and how many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.ejection import EjectionSettings, Standing, eject, may_be_away, settle

SETTINGS = EjectionSettings(base_time=10, max_time=25, max_percent=50)


def test_each_ejection_is_longer_up_to_the_cap() -> None:
    standing, now = Standing(), 100.0
    lengths = []
    for _ in range(4):
        standing = eject(standing, SETTINGS, now)
        lengths.append(standing.until - now)
        now = standing.until
        standing = settle(standing, SETTINGS, now)
        assert not standing.ejected
    assert lengths == [10, 20, 25, 25]


def test_calm_takes_ejections_off() -> None:
    standing = settle(Standing(until=50, times=3), SETTINGS, 50)
    assert (standing.times, standing.calm_since) == (3, 50)
    standing = settle(standing, SETTINGS, 59.9)
    assert standing.times == 3
    standing = settle(standing, SETTINGS, 71)
    assert (standing.times, standing.calm_since) == (1, 70)
    assert settle(standing, SETTINGS, 1e6).times == 0


@pytest.mark.parametrize(
    ("members", "percent", "away"),
    [
        (1, 50, 0),
        (1, 100, 1),
        (2, 50, 1),
        (3, 50, 1),
        (3, 10, 1),
        (4, 50, 2),
        (10, 33, 3),
        (3, 100, 3),
        (3, 0, 0),
        (0, 50, 0),
    ],
)
def test_the_share_that_may_be_away(members: int, percent: int, away: int) -> None:
    assert may_be_away(members, percent) == away


@given(
    st.lists(
        st.tuples(st.floats(-1e9, 1e9, allow_nan=False), st.booleans()), min_size=1, max_size=60
    )
)
def test_whatever_the_clock_does_nobody_is_away_for_longer_than_the_cap(
    steps: list[tuple[float, bool]],
) -> None:
    standing = Standing()
    for now, fails in steps:
        standing = settle(standing, SETTINGS, now)
        if fails and not standing.ejected:
            standing = eject(standing, SETTINGS, now)
        assert standing.times >= 0
        assert standing.until <= max(now + SETTINGS.max_time, 1e-3)
        if standing.ejected:
            assert not settle(standing, SETTINGS, standing.until).ejected
