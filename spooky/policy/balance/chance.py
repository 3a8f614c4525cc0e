"""By chance: one draw, or the better of two.

Two draws are nearly as good as a look at everybody, and do not make all workers run to the same
backend at once (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from typing import Final

from spooky.policy.balance.contract import Feed

_REDRAWS: Final = 3
_UNTRIED: Final = 1e6
"""Seconds that a backend counts as slow which has its first requests and no answer yet."""


class WeightedRandom:
    """Each pick by chance, in proportion to the weights; O(log n)."""

    notice = None

    def __init__(self, weights: Sequence[int], rand: Callable[[], float]) -> None:
        self._rand = rand
        self.reweigh(weights)

    def reweigh(self, weights: Sequence[int]) -> None:
        """Take other weights."""
        self._weights = tuple(weights)
        self._ends = list(accumulate(weights))

    def pick(self, _key: int = 0, exclude: Collection[int] = ()) -> int | None:
        """Draw a backend."""
        weights, ends = self._weights, self._ends
        if not exclude:
            total = ends[-1] if ends else 0
            return bisect_right(ends, int(self._rand() * total)) if total else None
        without = sorted(set(exclude))
        left = (ends[-1] if ends else 0) - sum(weights[place] for place in without)
        if left <= 0:
            return None
        point = int(self._rand() * left)
        # The line of all weights with the excluded cut out: step over each cut that lies before.
        for place in without:
            if point >= ends[place] - weights[place]:
                point += weights[place]
        return bisect_right(ends, point)


class PowerOfTwo:
    """Two different draws by weight, and of them the one with less to do for its weight; O(log n).

    `cost` says how long a further request would take at a backend, in any unit.
    """

    notice = None

    def __init__(
        self, weights: Sequence[int], cost: Callable[[int], float], rand: Callable[[], float]
    ) -> None:
        self._draw = WeightedRandom(weights, rand)
        self._cost = cost
        self._weights: Sequence[int] = weights

    def reweigh(self, weights: Sequence[int]) -> None:
        """Take other weights."""
        self._weights = tuple(weights)
        self._draw.reweigh(weights)

    def pick(self, _key: int = 0, exclude: Collection[int] = ()) -> int | None:
        """Draw two and compare them."""
        draw = self._draw.pick
        one = other = draw(0, exclude)
        if one is None:
            return None
        # To draw again until it is another is the same as to draw among the others, and cheaper.
        for _ in range(_REDRAWS):
            other = draw(0, exclude)
            if other != one:
                break
        else:
            other = draw(0, (*exclude, one))
        if other is None:
            return one
        weights = self._weights
        costs_less = self._cost(other) * weights[one] < self._cost(one) * weights[other]
        return other if costs_less else one


def by_connections(feed: Feed) -> Callable[[int], float]:
    """Cost: what a backend has in flight, the new request among it."""

    def cost(place: int) -> float:
        return feed.in_flight(place) + 1

    return cost


def by_latency(feed: Feed) -> Callable[[int], float]:
    """Cost: the peak EWMA of a backend's latency times what it has in flight, the new one with it.

    As Finagle's and Linkerd's balancers do it. One of whom nothing is known is asked at once, but
    gets no second request before its first answer while there is another.
    """

    def cost(place: int) -> float:
        in_flight, latency = feed.in_flight(place), feed.latency(place)
        if latency == 0.0 and in_flight:
            latency = _UNTRIED
        return latency * (in_flight + 1)

    return cost
