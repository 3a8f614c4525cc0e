"""Sums of all workers, and failures in a row."""

import pytest

from spooky.policy.tally import Failure, Runs, Tally


def test_growth_is_never_negative() -> None:
    before = Tally(successes=10, resets=4)
    assert Tally(successes=12, resets=4).since(before) == Tally(successes=2)
    assert Tally(successes=3).since(before) == Tally(successes=3), "the row was given to another"


def test_each_failure_is_counted_as_its_kind() -> None:
    tally = Tally(successes=1, errors=2, connect_failures=3, timeouts=4, resets=5)
    assert [tally.of(kind) for kind in Failure] == [3, 4, 5, 2]
    assert (tally.answers, tally.failures, tally.volume) == (3, 14, 15)


@pytest.mark.parametrize(
    ("growths", "runs"),
    [
        ([Tally(connect_failures=2), Tally(connect_failures=1)], [3, 0, 0, 0]),
        ([Tally(resets=2), Tally(), Tally(resets=2)], [0, 0, 4, 0]),
        ([Tally(resets=2), Tally(successes=1)], [0, 0, 0, 0]),
        ([Tally(resets=9, successes=1)], [0, 0, 0, 0]),
        ([Tally(resets=2, timeouts=1), Tally(timeouts=1)], [0, 2, 2, 0]),
        # A 500 is an answer: it can be reached. It is no success.
        ([Tally(connect_failures=2, errors=1), Tally(errors=1)], [0, 0, 0, 2]),
        ([Tally(errors=4), Tally(successes=1)], [0, 0, 0, 0]),
    ],
)
def test_runs(growths: list[Tally], runs: list[int]) -> None:
    counted = Runs()
    for growth in growths:
        counted.add(growth)
    assert [counted.of(kind) for kind in Failure] == runs
    counted.clear()
    assert not any(counted.of(kind) for kind in Failure)


@pytest.mark.parametrize(
    ("growths", "limit", "over"),
    [
        ([100], 2, False),
        ([100, 0, 1], 2, True),
        ([1, 1], 3, False),
        ([1, 1, 1], 3, True),
        ([1], 1, True),
    ],
)
def test_one_event_with_many_failures_is_no_row(growths: list[int], limit: int, over: bool) -> None:
    runs = Runs()
    for growth in growths:
        runs.add(Tally(resets=growth))
    assert runs.is_over(Failure.RESET, limit) is over
