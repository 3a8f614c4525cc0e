from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.rate.leaky_bucket import LeakyBucket
from spooky.policy.rate.token_bucket import TokenBucket
from spooky.policy.rate.verdict import AT_ONCE, SECOND_NS, Quota, Verdict

Bucket = TokenBucket | LeakyBucket

STEPS = st.lists(st.integers(0, 40), max_size=120)
"""Between requests; many are 0, which is a clock that stands still."""
INTERVALS = st.integers(1, 50)


def admitted(bucket: Bucket, times: list[int]) -> list[int]:
    """Say which of the requests, in order of time, pass, and when they do."""
    due, passed = 0, []
    for now in times:
        verdict = bucket.judge(due, now)
        if verdict.admitted:
            due = max(due, now) + bucket.interval_ns
            passed.append(now + verdict.wait_ns)
    return passed


def times_of(steps: list[int]) -> list[int]:
    now, times = 1000, []
    for step in steps:
        now += step
        times.append(now)
    return times


def assert_never_more(passed: list[int], interval: int, burst: int) -> None:
    """Look at every span that begins and ends with a request."""
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert (last - first + 1 - burst) * interval <= passed[last] - begin


@given(STEPS, INTERVALS, st.integers(1, 20))
def test_no_span_has_more_than_the_capacity_and_what_the_rate_gives(
    steps: list[int], interval: int, capacity: int
) -> None:
    passed = admitted(TokenBucket(interval, capacity), times_of(steps))
    assert_never_more(passed, interval, capacity)


@given(STEPS, INTERVALS, st.integers(0, 20), st.integers(0, 25))
def test_what_leaks_is_held_back_to_the_rate(
    steps: list[int], interval: int, burst: int, delay: int
) -> None:
    passed = admitted(LeakyBucket(interval, burst, delay), times_of(steps))
    assert passed == sorted(passed)
    assert_never_more(passed, interval, min(delay, burst) + 1)


@given(STEPS, INTERVALS, st.integers(1, 20))
def test_a_token_bucket_refuses_only_who_would_exceed_it(
    steps: list[int], interval: int, capacity: int
) -> None:
    bucket = TokenBucket(interval, capacity)
    taken: list[int] = []
    due = 0
    for now in times_of(steps):
        ok = bucket.judge(due, now).admitted
        # The theory: the backlog is the most of all spans that end now.
        backlog = max(
            [(len(taken) - n) * interval - (now - begin) for n, begin in enumerate(taken)] + [0]
        )
        assert ok is (backlog <= (capacity - 1) * interval)
        if ok:
            due = max(due, now) + interval
            taken.append(now)


@pytest.mark.parametrize(
    "make",
    [
        lambda interval: TokenBucket(interval, 1),
        lambda interval: LeakyBucket(interval, 0, 0),
        lambda interval: LeakyBucket(interval, 5, 0),
    ],
)
@given(extra=st.lists(st.integers(0, 30), min_size=1, max_size=60), interval=INTERVALS)
def test_who_keeps_to_the_rate_is_never_refused_or_delayed(
    make: Callable[[int], Bucket], extra: list[int], interval: int
) -> None:
    times = times_of([interval + more for more in extra])
    assert admitted(make(interval), times) == times


@pytest.mark.parametrize("bucket", [TokenBucket(10, 3), LeakyBucket(10, 2, 5)])
def test_a_clock_that_stands_still_gives_the_burst_and_no_more(bucket: Bucket) -> None:
    assert len(admitted(bucket, [7] * 50)) == 3


@given(STEPS, INTERVALS, st.integers(1, 20), st.booleans())
def test_who_waits_as_told_is_admitted_and_nobody_sooner(
    steps: list[int], interval: int, burst: int, leaky: bool
) -> None:
    bucket = LeakyBucket(interval, burst, burst) if leaky else TokenBucket(interval, burst)
    due = 0
    for now in times_of(steps):
        verdict = bucket.judge(due, now)
        if verdict.admitted:
            due = max(due, now) + interval
        else:
            assert bucket.judge(due, now + verdict.wait_ns).admitted
            assert not bucket.judge(due, now + verdict.wait_ns - 1).admitted


@pytest.mark.parametrize(
    ("bucket", "due", "verdict"),
    [
        # nginx: `rate=10r/s burst=4 delay=2`, the requests that come at one moment.
        (LeakyBucket(100, 4, 2), 0, AT_ONCE),
        (LeakyBucket(100, 4, 2), 1100, AT_ONCE),
        (LeakyBucket(100, 4, 2), 1200, AT_ONCE),
        (LeakyBucket(100, 4, 2), 1300, Verdict(True, 100)),
        (LeakyBucket(100, 4, 2), 1400, Verdict(True, 200)),
        (LeakyBucket(100, 4, 2), 1500, Verdict(False, 100)),
        (TokenBucket(100, 4), 0, AT_ONCE),
        (TokenBucket(100, 4), 1300, AT_ONCE),
        (TokenBucket(100, 4), 1301, Verdict(False, 1)),
    ],
)
def test_verdicts(bucket: Bucket, due: int, verdict: Verdict) -> None:
    assert bucket.judge(due, 1000) == verdict


@pytest.mark.parametrize(
    ("bucket", "due", "quota"),
    [
        (TokenBucket(SECOND_NS, 4), 0, Quota(4, 4 * SECOND_NS)),
        (TokenBucket(SECOND_NS, 4), 1001, Quota(3, 3 * SECOND_NS)),
        (TokenBucket(SECOND_NS, 4), 1000 + 4 * SECOND_NS, Quota(0, SECOND_NS)),
        (LeakyBucket(SECOND_NS, 3, 0), 0, Quota(4, 4 * SECOND_NS)),
        (LeakyBucket(SECOND_NS, 3, 0), 1000 + 4 * SECOND_NS, Quota(0, SECOND_NS)),
        (LeakyBucket(SECOND_NS, 3, 0), 1000 + 9 * SECOND_NS, Quota(0, 6 * SECOND_NS)),
    ],
)
def test_quotas(bucket: Bucket, due: int, quota: Quota) -> None:
    assert bucket.quota(due, 1000) == quota


@given(st.integers(0, 2000), INTERVALS, st.integers(1, 20))
def test_as_many_pass_as_the_quota_says(due: int, interval: int, capacity: int) -> None:
    bucket = TokenBucket(interval, capacity)
    remaining = bucket.quota(due, 1000).remaining
    passed = 0
    while bucket.judge(due, 1000).admitted:
        due = max(due, 1000) + interval
        passed += 1
    assert passed == remaining
