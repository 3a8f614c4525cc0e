"""Which backends do worse than the others of their upstream, over one window of time.

Pure. Success rates are compared as Envoy does: who is more than so many standard deviations below
the mean. Latencies are compared with the median, which one slow backend does not move. The rule
that is not obvious: among backends that are nearly alike, a deviation is tiny and somebody always
lies beyond it, so a difference that no client would notice is none (`LEAST_RATE_GAP`,
`LEAST_LATENCY_GAP_US`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

from spooky.policy.tally import Tally

LEAST_RATE_GAP: Final = 0.05
"""Of all requests: what a success rate must be below the mean at least."""
LEAST_LATENCY_GAP_US: Final = 5_000
"""What a mean time must be above the median at least."""


@dataclass(frozen=True, slots=True)
class DeviationSettings:
    """What an operator says of outliers; a factor of 0 switches its comparison off."""

    success_rate_stdev_factor: float
    latency_factor: float
    minimum_requests: int
    """That a backend must have had in the window to be compared."""
    minimum_backends: int
    """That must have had so many, for there to be a comparison."""


def outliers(window: Mapping[int, Tally], settings: DeviationSettings) -> dict[int, str]:
    """Find the places of those that do worse, and say why.

    `window` has what each backend did in the window, by its place.
    """
    busy = {
        place: tally
        for place, tally in window.items()
        if tally.volume >= max(1, settings.minimum_requests)
    }
    if len(busy) < max(2, settings.minimum_backends):
        return {}
    found: dict[int, str] = {}
    if settings.latency_factor > 0:
        found |= _slow(busy, settings.latency_factor)
    if settings.success_rate_stdev_factor > 0:
        found |= _failing(busy, settings.success_rate_stdev_factor)
    return found


def _failing(busy: Mapping[int, Tally], factor: float) -> dict[int, str]:
    rates = {place: tally.successes / tally.volume for place, tally in busy.items()}
    mean = fmean(rates.values())
    # Of the whole population, as in Envoy.
    deviation = math.sqrt(fmean((rate - mean) ** 2 for rate in rates.values()))
    floor = min(mean - factor * deviation, mean - LEAST_RATE_GAP)
    return {
        place: f"{rate:.1%} of its requests succeed, against {mean:.1%} in the mean"
        for place, rate in rates.items()
        if rate < floor
    }


def _slow(busy: Mapping[int, Tally], factor: float) -> dict[int, str]:
    means = {
        place: tally.answer_time_us / tally.begun for place, tally in busy.items() if tally.begun
    }
    if len(means) < 2:
        return {}
    middle = median(means.values())
    ceiling = max(middle * factor, middle + LEAST_LATENCY_GAP_US)
    return {
        place: f"it answers after {mean / 1000:.1f} ms in the mean, against {middle / 1000:.1f} ms"
        for place, mean in means.items()
        if mean > ceiling
    }
