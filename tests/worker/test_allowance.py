"""So many a second, by a clock that the test moves."""

import pytest

from spooky.worker.allowance import Allowance


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("now", [0.0, 5.0, 12_345.99])
def test_there_are_so_many_in_a_second_and_no_more(now: float) -> None:
    allowance = Allowance(3, Clock(now))
    assert [allowance.take() for _ in range(5)] == [True, True, True, False, False]


def test_the_next_second_brings_as_many_again() -> None:
    clock = Clock(7.9)
    allowance = Allowance(2, clock)
    taken = []
    for clock.now in (7.9, 7.95, 7.99, 8.0, 8.5, 8.9, 9.0, 60.0):
        taken.append(allowance.take())
    assert taken == [True, True, False, True, True, False, True, True]


def test_what_is_not_taken_is_not_kept() -> None:
    clock = Clock(1.0)
    allowance = Allowance(2, clock)
    clock.now = 100.0
    assert [allowance.take() for _ in range(3)] == [True, True, False]


def test_none_is_none() -> None:
    assert not Allowance(0, Clock(1.0)).take()
