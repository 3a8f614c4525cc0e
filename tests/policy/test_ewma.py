import math

from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.ewma import PeakEwma

LATENCY = st.floats(0, 1e4)
STEPS = st.floats(-5, 1e6) | st.just(0.0)
"""A clock that stands still, goes on, leaps, and even goes back."""


@given(st.lists(st.tuples(LATENCY, STEPS), min_size=1), STEPS)
def test_an_estimate_stays_among_what_was_seen(
    seen: list[tuple[float, float]], later: float
) -> None:
    estimate, now = PeakEwma(), 1000.0
    for latency, step in seen:
        now += step
        estimate.observe(latency, now)
        assert estimate.value(now) <= max(one for one, _ in seen) * (1 + 1e-9)
        assert estimate.value(now) >= 0.0
        assert math.isfinite(estimate.value(now))
    assert estimate.value(now + later) <= estimate.value(min(now, now + later)) + 1e-9


@given(st.lists(LATENCY, min_size=1))
def test_a_peak_counts_at_once_even_when_the_clock_stands_still(seen: list[float]) -> None:
    estimate = PeakEwma()
    for latency in seen:
        estimate.observe(latency, 7.0)
        assert estimate.value(7.0) >= latency
    assert estimate.value(7.0) == max(seen)


def test_a_clock_that_goes_back_makes_nothing_fade() -> None:
    estimate = PeakEwma(decay=10.0)
    estimate.observe(1.0, 20.0)
    estimate.observe(1.0, 10.0)
    assert estimate.value(20.0) == 1.0


def test_it_falls_little_by_little() -> None:
    estimate = PeakEwma(decay=10.0)
    estimate.observe(1.0, 0.0)
    estimate.observe(0.0, 10.0)
    assert math.isclose(estimate.value(10.0), math.exp(-1))
    assert math.isclose(estimate.value(20.0), math.exp(-2))


@given(LATENCY, st.lists(st.floats(0, 100), max_size=20))
def test_looking_changes_nothing(latency: float, looks: list[float]) -> None:
    one, other = PeakEwma(), PeakEwma()
    one.observe(latency, 0.0)
    other.observe(latency, 0.0)
    for now in looks:
        one.value(now)
    assert one.value(5.0) == other.value(5.0)


def test_nothing_is_known_at_first() -> None:
    assert PeakEwma().value(3.0) == 0.0
