"""Waits between attempts."""

import pytest

from spooky.policy.backoff import CEILING_S, delay


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(0, 0), (1, 0), (2, 0.25), (3, 0.5), (4, 1), (7, 8), (8, 10), (1_000_000, 10)],
)
def test_the_wait_doubles_up_to_a_ceiling(failures: int, longest: float) -> None:
    assert delay(failures, 1.0) == longest
    assert delay(failures, 0.0) == longest / 2
    assert longest <= CEILING_S


def test_chance_spreads_the_wait() -> None:
    waits = [delay(5, step / 10) for step in range(10)]
    assert waits == sorted(set(waits))
