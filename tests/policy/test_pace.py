"""Minimum rates: a grace, time that octets earn, and whose waiting counts."""

from collections.abc import Sequence

import pytest

from spooky.policy.pace import Pace

RATE, GRACE = 100, 5.0


@pytest.mark.parametrize(
    ("looks", "octets", "slow"),
    [
        ([(6, True)], 0, False),  # At the first look nobody was known to wait.
        ([(0, True), (5, True)], 0, False),
        ([(0, True), (5.01, True)], 0, True),
        ([(0, True), (6, True)], 100, False),
        ([(0, True), (6.01, True)], 100, True),
        ([(0, True), (1000, True)], 100_000, False),
        ([(0, True), (3, False), (9, True), (11.9, True)], 0, False),
        ([(0, True), (3, True), (4, False), (9, True), (11, True)], 0, False),
        ([(0, True), (3, True), (4, False), (9, True), (11.1, True)], 0, True),
        ([(0, False), (1000, False)], 0, False),
    ],
)
def test_slow(looks: Sequence[tuple[float, bool]], octets: int, slow: bool) -> None:
    pace = Pace(0.0)
    for moment, kept in looks:
        pace.look(moment, kept=kept)
    assert pace.is_too_slow(octets, RATE, GRACE) is slow
