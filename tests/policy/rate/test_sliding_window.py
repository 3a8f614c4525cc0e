from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.rate.sliding_window import SlidingWindow
from spooky.policy.rate.verdict import AT_ONCE, Quota, Verdict

STEPS = st.lists(st.integers(0, 60), max_size=150)
LIMITS = st.integers(1, 12)
WINDOW = 100


def admitted(window: SlidingWindow, times: list[int]) -> list[int]:
    counts: Counter[int] = Counter()
    passed = []
    for now in times:
        number = now // window.window_ns
        if window.judge(counts[number - 1], counts[number], now).admitted:
            counts[number] += 1
            passed.append(now)
    return passed


def times_of(steps: list[int]) -> list[int]:
    now, times = 0, []
    for step in steps:
        now += step
        times.append(now)
    return times


@given(STEPS, LIMITS)
def test_no_fixed_window_has_more_than_the_limit_and_no_other_twice_as_much(
    steps: list[int], limit: int
) -> None:
    passed = admitted(SlidingWindow(limit, WINDOW), times_of(steps))
    assert max(Counter(now // WINDOW for now in passed).values(), default=0) <= limit
    for end in passed:
        share = end % WINDOW / WINDOW
        within = sum(end - WINDOW < now <= end for now in passed)
        assert within <= limit * (1 + share)


@given(LIMITS, st.integers(0, 99), st.integers(0, 40))
def test_who_spreads_less_than_the_limit_evenly_is_never_refused(
    limit: int, start: int, extra: int
) -> None:
    step = -(-WINDOW // limit) + extra
    times = [start + step * n for n in range(200)]
    assert admitted(SlidingWindow(limit + 1, WINDOW), times) == times


@pytest.mark.parametrize("start", [0, 50, 99])
def test_a_clock_that_stands_still_gives_the_limit(start: int) -> None:
    assert len(admitted(SlidingWindow(7, WINDOW), [start] * 50)) == 7


@given(st.integers(2, 50))
def test_steady_excess_gets_the_limit_to_one(limit: int) -> None:
    passed = admitted(SlidingWindow(limit, WINDOW), list(range(5000)))
    assert 50 * (limit - 1) <= len(passed) <= 50 * limit


@given(st.integers(0, 12), st.integers(0, 12), LIMITS, st.integers(0, 99))
def test_who_waits_as_told_is_admitted_and_nobody_sooner(
    previous: int, current: int, limit: int, now: int
) -> None:
    window = SlidingWindow(limit, WINDOW)

    def passes(then: int) -> bool:
        before, here = (previous, current) if then < WINDOW else (current, 0)
        return then >= 2 * WINDOW or window.judge(before, here, then).admitted

    verdict = window.judge(previous, current, now)
    assert verdict.admitted is passes(now)
    if not verdict.admitted:
        assert passes(now + verdict.wait_ns)
        assert not any(passes(then) for then in range(now, now + verdict.wait_ns))


@pytest.mark.parametrize(
    ("previous", "current", "now", "verdict", "quota"),
    [
        (0, 0, 0, AT_ONCE, Quota(50, 100)),
        # Cloudflare's example: 42 of the minute before, 18 of this one, a quarter of it gone.
        (42, 18, 25, Verdict(False, 2), Quota(0, 75)),
        (42, 18, 27, AT_ONCE, Quota(1, 73)),
        (0, 49, 99, AT_ONCE, Quota(1, 1)),
        (0, 50, 99, Verdict(False, 3), Quota(0, 1)),
    ],
)
def test_verdicts_and_quotas(
    previous: int, current: int, now: int, verdict: Verdict, quota: Quota
) -> None:
    window = SlidingWindow(50, 100)
    assert window.judge(previous, current, now) == verdict
    assert window.quota(previous, current, now) == quota
