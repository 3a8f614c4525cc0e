"""The states of a probed backend, under any results at any times."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.health import (
    OUT,
    TRANSITIONS,
    Pace,
    Result,
    Standing,
    State,
    first_probe,
    judge,
    next_probe,
)

PACE = Pace(
    interval=5,
    failure_threshold=3,
    success_threshold=2,
    cooldown=4,
    max_cooldown=30,
    jitter=0.0,
)
WORDS = {
    "u": State.UNKNOWN,
    "H": State.HEALTHY,
    "D": State.DEGRADED,
    "X": State.UNHEALTHY,
    "R": State.RECOVERING,
}


def walk(results: str, pace: Pace = PACE, start: Standing | None = None) -> list[Standing]:
    """The standings after each of some results: `+` passed, `-` failed."""
    standing, seen = start or Standing(), []
    for result in results:
        standing = judge(standing, pace, passed=result == "+")
        seen.append(standing)
    return seen


@pytest.mark.parametrize(
    ("failures", "passes", "results", "states"),
    [
        (3, 2, "+++", "HHH"),
        (3, 2, "+---", "HDDX"),
        (3, 2, "---", "DDX"),
        (3, 2, "+---++", "HDDXRH"),
        (3, 2, "+---+-++", "HDDXRXRH"),
        (3, 3, "+---+++", "HDDXRRH"),
        # Now and then, never often enough: it stays in sight, and in use.
        (3, 2, "+-+-+--+--++", "HDDDDDDDDDDH"),
        (1, 1, "-+-+", "XHXH"),
        (1, 2, "+-++", "HXRH"),
        (2, 1, "+-+--+", "HDHDXH"),
    ],
)
def test_results_lead_from_state_to_state(
    failures: int, passes: int, results: str, states: str
) -> None:
    pace = replace(PACE, failure_threshold=failures, success_threshold=passes)
    assert [one.state for one in walk(results, pace)] == [WORDS[letter] for letter in states]


def test_every_state_knows_every_result() -> None:
    assert set(TRANSITIONS) == {(state, result) for state in State for result in Result}
    assert State.UNKNOWN not in TRANSITIONS.values()


@pytest.mark.parametrize(
    ("results", "wait"),
    [
        ("+", 5),
        ("+-", 5),
        ("+---", 4),
        ("+----", 8),
        ("+-----", 16),
        ("+------", 30),
        ("+-" + "-" * 3000, 30),
        # On the way back it is looked at as often as a well one.
        ("+-----+", 5),
        ("+-----+-", 30),
        ("+-----++---", 4),
    ],
)
def test_the_wait_grows_with_each_probe_that_fails_to_bring_it_back(
    results: str, wait: float
) -> None:
    assert next_probe(walk(results)[-1], PACE, 100, 100, 0.9) == 100 + wait


def test_an_interval_counts_from_the_start_of_the_probe_and_a_cooldown_from_its_end() -> None:
    up, down = walk("+")[-1], walk("---")[-1]
    assert next_probe(up, PACE, began=100, now=101, chance=0) == 105
    assert next_probe(down, PACE, began=100, now=101, chance=0) == 105
    assert next_probe(up, PACE, began=100, now=105, chance=0) == 105.5


def test_without_a_cooldown_it_is_probed_as_ever() -> None:
    pace = replace(PACE, cooldown=0)
    assert next_probe(walk("-----", pace)[-1], pace, 100, 101, 0.5) == 105


def test_jitter_shortens_intervals_and_lengthens_cooldowns() -> None:
    pace = replace(PACE, jitter=0.5)
    assert next_probe(walk("+")[-1], pace, 100, 100, 0.5) == 100 + 5 * 0.75
    assert next_probe(walk("---")[-1], pace, 100, 100, 0.5) == 100 + 4 * 1.25


@pytest.mark.parametrize(
    ("results", "due", "first"),
    [
        ("", 0, 100),
        ("", 103, 100),
        ("+", 103, 103),
        ("+", 0, 100),
        ("+", 90, 100),
        # A new pace is more eager than the one by which it was due.
        ("+", 500, 105),
        ("-----", 500, 116),
        ("-----", 110, 110),
    ],
)
def test_who_goes_on_for_another_keeps_to_what_was_due(
    results: str, due: float, first: float
) -> None:
    standing = walk(results)[-1] if results else Standing()
    assert first_probe(standing, PACE, due, 100, 0.9) == first


# --- under anything -----------------------------------------------------------------------------

PACES = st.builds(
    lambda cooldown, more, **rest: Pace(cooldown=cooldown, max_cooldown=cooldown + more, **rest),
    interval=st.floats(0.1, 86_400),
    failure_threshold=st.integers(1, 100),
    success_threshold=st.integers(1, 100),
    cooldown=st.just(0.0) | st.floats(0.001, 86_400),
    more=st.floats(0, 86_400),
    jitter=st.floats(0, 0.9),
)
CLOCK = st.floats(0, 1e7)
"""Steps of the clock are their differences: it stands, it jumps, it goes back."""
RESULTS = st.lists(st.tuples(st.booleans(), CLOCK, CLOCK, st.floats(0, 1, exclude_max=True)))


@given(pace=PACES, results=RESULTS)
def test_the_next_probe_is_ahead_and_not_further_than_the_settings_say(
    pace: Pace, results: list[tuple[bool, float, float, float]]
) -> None:
    standing = Standing()
    longest = max(pace.interval, pace.max_cooldown * (1 + pace.jitter))
    for passed, began, took, chance in results:
        standing = judge(standing, pace, passed=passed)
        now = began + took
        due = next_probe(standing, pace, began, now, chance)
        assert now < due <= now + longest * 1.000001
        assert now <= first_probe(standing, pace, due, now, chance) <= now + longest * 1.000001


@given(pace=PACES, results=st.lists(st.booleans(), max_size=400))
def test_it_goes_out_and_comes_back_by_results_in_a_row_alone(
    pace: Pace, results: list[bool]
) -> None:
    standing = Standing()
    for number, passed in enumerate(results, 1):
        before, standing = standing, judge(standing, pace, passed=passed)
        went = before.state not in OUT and standing.state in OUT
        came = before.state in OUT and standing.state not in OUT
        tail_f = results[max(0, number - pace.failure_threshold) : number]
        tail_p = results[max(0, number - pace.success_threshold) : number]
        fails = len(tail_f) == pace.failure_threshold and not any(tail_f)
        passes = len(tail_p) == pace.success_threshold and all(tail_p)
        assert went == (fails and before.state not in OUT)
        assert came == (passes and before.state in OUT)
        assert not (standing.failures and standing.passes)
        assert (standing.setbacks == 0) or standing.state in OUT


@given(pace=PACES, results=st.lists(st.booleans(), max_size=200))
def test_whatever_was_before_enough_in_a_row_settle_it(pace: Pace, results: list[bool]) -> None:
    before = walk("".join("+" if one else "-" for one in results), pace)
    start = before[-1] if before else Standing()
    assert walk("+" * pace.success_threshold, pace, start)[-1].state is State.HEALTHY
    assert walk("-" * pace.failure_threshold, pace, start)[-1].state is State.UNHEALTHY
