"""Limits that move: within their bounds always, down when a server slows, up again after."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.concurrency import CUT, PROBE_S, Aimd, Answer, Bounds, Gradient, Limiter

BOUNDS = Bounds(least=2, first=10, most=50)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.floats(0, 10),
        st.booleans(),
        st.integers(0, 200),
    ),
    max_size=200,
)


def limiters() -> list[Limiter]:
    return [Aimd(BOUNDS, 0.5), Gradient(BOUNDS, 1.5, 10.0, random.Random(1).random)]


@given(STEPS, st.booleans())
def test_it_stays_within_its_bounds(
    steps: list[tuple[float, float, bool, int]], still: bool
) -> None:
    for limiter in limiters():
        now = 100.0
        for pause, latency, failed, in_flight in steps:
            now += 0.0 if still else pause
            limiter.observe(Answer(now - latency, latency, failed), in_flight, now)
            assert BOUNDS.least <= limiter.limit(now) <= BOUNDS.most


class TestAimd:
    def test_it_grows_by_one_for_each_limit_of_good_answers(self) -> None:
        limiter = Aimd(BOUNDS, 0.5)
        for _ in range(11):
            limiter.observe(Answer(0.9, 0.1, failed=False), 10, 1.0)
        assert limiter.limit(1.0) == 11

    def test_it_does_not_grow_unused(self) -> None:
        limiter = Aimd(BOUNDS, 0.5)
        for _ in range(1000):
            limiter.observe(Answer(0.9, 0.1, failed=False), 4, 1.0)
        assert limiter.limit(1.0) == 10

    @pytest.mark.parametrize(("latency", "failed"), [(0.6, False), (0.1, True)])
    def test_it_is_cut_once_for_all_that_was_under_way(self, latency: float, failed: bool) -> None:
        limiter = Aimd(BOUNDS, 0.5)
        for step in range(10):
            now = 5.0 + step / 1000
            limiter.observe(Answer(now - latency, latency, failed), 10, now)
        assert limiter.limit(6.0) == int(10 * CUT)
        limiter.observe(Answer(6.0, latency, failed), 10, 7.0)
        assert limiter.limit(7.0) == int(10 * CUT * CUT)


def serve(
    limiter: Limiter, seconds: float, start: float, at_once: int, turn: float = 0.01
) -> tuple[float, list[int]]:
    """Keep a server busy that answers `at_once` requests a turn and queues the rest.

    Returns the time afterwards and the limit over time.
    """
    now, limits = start, []
    under_way: deque[float] = deque()
    while now < start + seconds:
        while len(under_way) < limiter.limit(now):
            under_way.append(now)
        done = min(at_once, len(under_way))
        now += turn
        for _ in range(done):
            begun = under_way.popleft()
            limiter.observe(Answer(begun, now - begun, failed=False), len(under_way) + 1, now)
        limits.append(limiter.limit(now))
    return now, limits


def test_the_gradient_finds_what_a_server_can_do_and_follows_it() -> None:
    limiter = Gradient(Bounds(2, 10, 500), 1.5, 3.0, random.Random(3).random)
    now, limits = serve(limiter, 10.0, 0.0, at_once=40)
    assert 40 <= sorted(limits)[len(limits) // 2] <= 120
    now, limits = serve(limiter, 10.0, now, at_once=5)
    assert sorted(limits)[len(limits) // 2] <= 25
    _, limits = serve(limiter, 10.0, now, at_once=40)
    assert 40 <= sorted(limits)[len(limits) // 2] <= 120


def test_the_gradient_keeps_no_latency_of_its_own_making_for_the_best() -> None:
    """Without the probes the queue that it makes would count as normal, and grow."""
    limiter = Gradient(Bounds(2, 10, 5000), 1.5, 1.0, random.Random(3).random)
    _, limits = serve(limiter, 60.0, 0.0, at_once=20)
    assert max(limits[-1000:]) <= 100


def test_the_gradient_learns_that_a_server_is_slower_now() -> None:
    """Five times as slow with any load: fewer at a time would help nobody."""
    limiter = Gradient(Bounds(2, 10, 500), 1.5, 3.0, random.Random(3).random)
    now, _ = serve(limiter, 5.0, 0.0, at_once=40)
    _, limits = serve(limiter, 20.0, now, at_once=40, turn=0.05)
    assert 40 <= sorted(limits[-200:])[100] <= 120


def test_the_gradient_stops_at_its_bound() -> None:
    limiter = Gradient(Bounds(2, 10, 60), 1.5, 30.0, random.Random(3).random)
    _, limits = serve(limiter, 5.0, 0.0, at_once=1000)
    assert max(limits) == 60


def test_a_probe_ends_though_nothing_is_answered() -> None:
    limiter = Gradient(BOUNDS, 1.5, 10.0, random.Random(3).random)
    limiter.observe(Answer(0.9, 0.1, failed=False), 10, 1.0)
    assert limiter.limit(1.0) == BOUNDS.least
    assert limiter.limit(1.0 + PROBE_S) == BOUNDS.first


def test_failures_tell_the_gradient_nothing() -> None:
    limiter = Gradient(BOUNDS, 1.5, 10.0, random.Random(3).random)
    for step in range(1000):
        limiter.observe(Answer(step / 100, 0.0, failed=True), 10, step / 100)
        assert limiter.limit(step / 100) == BOUNDS.first
