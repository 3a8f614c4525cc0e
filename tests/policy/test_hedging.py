"""When a request is hedged: only where that is safe, after a fixed wait or a percentile."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.hedging import (
    FEWEST,
    LONGEST_S,
    RESOLUTION,
    SHORTEST_S,
    HedgePolicy,
    Hedging,
    RecentWaits,
)


@pytest.mark.parametrize(
    ("method", "empty", "hedged"),
    [
        (b"GET", True, True),
        (b"HEAD", True, True),
        (b"OPTIONS", True, True),
        (b"GET", False, False),
        (b"PUT", True, False),
        (b"DELETE", True, False),
        (b"POST", True, False),
    ],
)
def test_only_safe_methods_without_content(method: bytes, empty: bool, hedged: bool) -> None:
    delay = Hedging(HedgePolicy(delay=0.05)).delay(method, empty=empty)
    assert delay == (0.05 if hedged else None)


def test_a_percentile_needs_responses_to_be_known() -> None:
    hedging = Hedging(HedgePolicy(percentile=95))
    assert hedging.waits is not None
    for _ in range(FEWEST - 1):
        hedging.waits.record(0.01)
        assert hedging.delay(b"GET", empty=True) is None
    hedging.waits.record(0.01)
    delay = hedging.delay(b"GET", empty=True)
    assert delay is not None
    assert 0.01 <= delay <= 0.01 * RESOLUTION * 1.000001


@pytest.mark.parametrize("percentile", [50, 90, 95, 99, 99.9])
def test_the_percentile_is_that_of_the_sorted_waits(percentile: float) -> None:
    chance = random.Random(1)
    waits = sorted(chance.lognormvariate(-4, 1.2) for _ in range(1000))
    recent = RecentWaits(percentile)
    for wait in chance.sample(waits, len(waits)):
        recent.record(wait)
    exact = waits[max(0, -int(-len(waits) * percentile // 100) - 1)]
    assert recent.longest is not None
    assert exact * 0.999999 <= recent.longest <= exact * RESOLUTION * 1.000001


@given(st.lists(st.floats(0, 1e6), min_size=FEWEST, max_size=400), st.floats(1, 99.9))
def test_any_waits_have_a_percentile_within_bounds(waits: list[float], percent: float) -> None:
    recent = RecentWaits(percent)
    for wait in waits:
        recent.record(wait)
    assert recent.longest is not None
    assert SHORTEST_S <= recent.longest <= LONGEST_S * 1.000001


def test_old_waits_fade() -> None:
    recent = RecentWaits(95)
    for _ in range(5000):
        recent.record(1.0)
    for _ in range(8000):
        recent.record(0.01)
    assert recent.longest is not None
    assert recent.longest < 0.02
