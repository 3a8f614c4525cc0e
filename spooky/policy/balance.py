"""Which backend of an upstream takes the next request.

A balancer knows backends by their place in the upstream and by their weight, and nothing else of
them; a backend of weight 0 is never picked. Its state is its own: each worker has one per
upstream. Randomness is brought by the caller.

A rule: a backend that is passed over because it is excluded keeps its turn.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import accumulate
from typing import Protocol

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples are spread evenly over [0, 1), however many there are."""


class Balancer(Protocol):
    """A way to choose."""

    def pick(self, exclude: Collection[int] = ()) -> int | None:
        """Return the place of the backend to ask, none of `exclude`; None if there is none."""


class RoundRobin:
    """Smooth weighted round-robin: everybody in turn, the heavier more often, well mixed.

    Over a cycle of as many picks as the weights add up to, each backend is picked exactly as
    often as its weight says. A pick costs O(log n): nginx's algorithm, with the same promise,
    looks at every backend each time. Turns are points on a line, of which a backend of weight w
    has w in each cycle, evenly spaced from an offset of its own; they are taken in order. Where
    the first offset lies is random, so that the workers do not all begin with the same backend.
    """

    def __init__(self, weights: Sequence[int], rand: Callable[[], float]) -> None:
        start = rand()
        self._weights = weights
        self._offsets = [(start + place * _GOLDEN) % 1.0 for place in range(len(weights))]
        self._turns = [
            self._turn(0, 1, place) for place, weight in enumerate(weights) if weight > 0
        ]
        heapify(self._turns)

    def _turn(self, cycle: int, number: int, place: int) -> tuple[int, float, int, int]:
        point = (number - self._offsets[place]) / self._weights[place]
        return (cycle, point, place, number)

    def pick(self, exclude: Collection[int] = ()) -> int | None:
        """Return whose turn it is."""
        turns = self._turns
        passed = []
        while turns and turns[0][2] in exclude:
            passed.append(heappop(turns))
        picked = self._advance() if turns else None
        for turn in passed:
            heappush(turns, turn)
        return picked

    def _advance(self) -> int:
        cycle, _, place, number = self._turns[0]
        if number < self._weights[place]:
            heapreplace(self._turns, self._turn(cycle, number + 1, place))
        else:
            heapreplace(self._turns, self._turn(cycle + 1, 1, place))
        return place


class WeightedRandom:
    """Each pick by chance, in proportion to the weights; O(log n)."""

    def __init__(self, weights: Sequence[int], rand: Callable[[], float]) -> None:
        self._weights = weights
        self._ends = list(accumulate(weights))
        self._rand = rand

    def pick(self, exclude: Collection[int] = ()) -> int | None:
        """Draw a backend."""
        weights, ends = self._weights, self._ends
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


_TYPES: dict[str, Callable[[Sequence[int], Callable[[], float]], Balancer]] = {
    "round-robin": RoundRobin,
    "random": WeightedRandom,
}


def make_balancer(type_name: str, weights: Sequence[int], rand: Callable[[], float]) -> Balancer:
    """Make the balancer that the configuration calls `type_name`.

    `weights` are the backends' in the order of the file, whole numbers from 0; `rand` returns
    random numbers in [0, 1).

    Raises:
        ValueError: there is no such type.
    """
    if type_name not in _TYPES:
        raise ValueError(f"no balancer {type_name!r}, there are {', '.join(_TYPES)}")
    return _TYPES[type_name](tuple(weights), rand)
