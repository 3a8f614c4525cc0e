import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy import slow_start

WINDOW = st.floats(0.01, 86_400)
TIMES = st.lists(st.floats(-100, 100_000), min_size=2)


@pytest.mark.parametrize(
    ("well_for", "window", "share"),
    [
        (0.0, 20.0, 0.05),
        (0.99, 20.0, 0.05),
        (1.0, 20.0, 0.1),
        (10.0, 20.0, 0.55),
        (19.5, 20.0, 1.0),
        (20.0, 20.0, 1.0),
        (math.inf, 20.0, 1.0),
        (-5.0, 20.0, 0.05),
        (0.0, 0.0, 1.0),
    ],
)
def test_share(well_for: float, window: float, share: float) -> None:
    assert slow_start.share(well_for, window) == share


@given(WINDOW, TIMES)
def test_it_never_falls(window: float, times: list[float]) -> None:
    shares = [slow_start.share(well_for, window) for well_for in sorted(times)]
    assert shares == sorted(shares)
    assert all(1 / slow_start.STEPS <= share <= 1 for share in shares)


@given(WINDOW)
def test_who_looks_again_when_told_sees_each_step_and_the_end(window: float) -> None:
    now, seen = 0.0, [slow_start.share(0.0, window)]
    while (step := slow_start.next_step_in(now, window)) is not None:
        assert step > 0
        now += step
        seen.append(slow_start.share(now, window))
        assert len(seen) <= 2 * slow_start.STEPS
    assert seen[-1] == 1.0
    assert now <= window + 0.1
