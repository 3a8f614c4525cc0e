"""The rule of growth, and that look-ups of routes keep to it."""

from math import log2

import pytest

from loadtest.growth import routing_us, worse_than_logarithmic


@pytest.mark.parametrize(
    ("costs", "is_worse"),
    [
        ([2.0, 2.0, 2.0, 2.0], False),
        ([2 * log2(n) for n in (10, 100, 1000, 10_000)], False),
        ([3.4, 4.8, 4.1, 3.1], False),
        ([2 + 0.01 * n for n in (10, 100, 1000, 10_000)], True),
        ([2 + 0.1 * n**0.5 for n in (10, 100, 1000, 10_000)], True),
        ([1.0, 1.0, 6.0], True),
    ],
)
def test_what_a_factor_of_ten_adds_must_not_grow(costs: list[float], is_worse: bool) -> None:
    assert worse_than_logarithmic(costs) is is_worse


def test_a_look_up_does_not_go_through_all_routes() -> None:
    # A thousand times as many; a scan would cost hundreds of times as much.
    assert routing_us(10_000) < 10 * routing_us(10)
