"""The retry budget: its bound under any course of time, and that it comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.budget import WINDOW_S, RetryBudget

RATIOS = st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 3.0])
MINIMA = st.sampled_from([0.0, 0.1, 0.3, 1.0, 10.0])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["request", "retry"]),
        st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.4, 1.0, 3.7, 9.99, 10.0, 25.0, -1.0, -100.0]),
        st.integers(1, 20),
    ),
    max_size=60,
)


@given(RATIOS, MINIMA, EVENTS, st.floats(0, 1e7))
def test_never_more_than_the_ratio_and_the_minimum_whatever_the_clock_does(
    ratio: float, minimum: float, events: list[tuple[str, float, int]], start: float
) -> None:
    budget = RetryBudget(ratio, minimum, start)
    now = latest = start
    requests = retries = 0
    for what, step, count in events:
        now += step
        latest = max(latest, now)
        for _ in range(count):
            if what == "request":
                budget.deposit(now)
                requests += 1
            else:
                affordable = budget.affords(now)
                paid = budget.withdraw(now)
                assert paid is affordable
                retries += paid
        bound = ratio * requests + minimum * (latest - start + WINDOW_S)
        assert retries <= bound + 1e-6


@given(st.lists(EVENTS, min_size=2, max_size=4), RATIOS, MINIMA)
def test_the_bound_holds_for_the_sum_over_workers(
    workers: list[list[tuple[str, float, int]]], ratio: float, minimum: float
) -> None:
    requests = retries = 0
    for events in workers:
        budget = RetryBudget(ratio, minimum / len(workers), 0.0)
        for what, _, count in events:
            for _ in range(count):
                if what == "request":
                    budget.deposit(0.0)
                    requests += 1
                else:
                    retries += budget.withdraw(0.0)
    assert retries <= ratio * requests + minimum * WINDOW_S + 1e-6


def test_a_storm_gets_the_ratio_and_no_more() -> None:
    budget = RetryBudget(0.2, 0.0, 0.0)
    paid = 0
    for number in range(1000):
        budget.deposit(number / 100)
        paid += budget.withdraw(number / 100)
    assert paid == 200


def test_a_quiet_upstream_can_retry_and_a_spent_budget_comes_back() -> None:
    budget = RetryBudget(0.0, 0.5, 100.0)
    assert [budget.withdraw(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert not budget.withdraw(100.0 + WINDOW_S - 1)
    assert [budget.withdraw(100.0 + WINDOW_S) for _ in range(6)] == [True] * 5 + [False]


def test_old_requests_pay_for_nothing() -> None:
    budget = RetryBudget(0.5, 0.0, 0.0)
    for _ in range(10):
        budget.deposit(0.0)
    assert budget.affords(WINDOW_S - 1)
    assert not budget.affords(WINDOW_S)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 1.0])
def test_each_request_pays_for_its_share(ratio: float) -> None:
    budget = RetryBudget(ratio, 0.0, 5.0)
    for _ in range(20):
        budget.deposit(5.0)
    assert sum(budget.withdraw(5.0) for _ in range(50)) == 20 * ratio
