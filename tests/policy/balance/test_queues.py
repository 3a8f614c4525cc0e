"""Five unequal backends under the same arrivals: how long the slowest's queue gets."""

import random
from heapq import heappop, heappush
from statistics import mean

import pytest

from spooky.policy.ewma import PeakEwma
from tests.policy.balance.made import make

RATES = [100.0, 80.0, 60.0, 40.0, 25.0]
"""Requests a second that each answers, one at a time, in the order of their arrival."""
ARRIVALS = 120.0
"""A second: 39 % of what they can do, but a fifth of it is 96 % of what the slowest can."""


def slowest_queue(kind: str, seed: int) -> float:
    """Return the mean number of requests that the slowest has, as each arrival finds it."""
    rng = random.Random(seed)
    balancer, known = make(kind, [100] * len(RATES), seed=seed)
    estimates = [PeakEwma() for _ in RATES]
    free_at = [0.0] * len(RATES)
    ends: list[tuple[float, int, float]] = []
    seen = []
    now = 0.0
    for _ in range(4000):
        now += rng.expovariate(ARRIVALS)
        while ends and ends[0][0] <= now:
            at, place, latency = heappop(ends)
            estimates[place].observe(latency, at)
            known.change(place, -1)
        known.slowness = [estimate.value(now) for estimate in estimates]
        seen.append(known.flying[-1])
        picked = balancer.pick()
        assert picked is not None
        known.change(picked, 1)
        free_at[picked] = max(now, free_at[picked]) + rng.expovariate(RATES[picked])
        heappush(ends, (free_at[picked], picked, free_at[picked] - now))
    return mean(seen)


@pytest.mark.parametrize("kind", ["power-of-two", "least-connections", "ewma"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_slowest_has_a_third_of_what_chance_gives_it(kind: str, seed: int) -> None:
    assert slowest_queue(kind, seed) * 3 < slowest_queue("random", seed)
