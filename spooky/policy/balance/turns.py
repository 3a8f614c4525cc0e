"""Round-robin: everybody in turn.

A rule: a backend that is passed over because it is excluded keeps its turn.
"""

import math
from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples are spread evenly over [0, 1), however many there are."""


class RoundRobin:
    """Smooth weighted round-robin: everybody in turn, the heavier more often, well mixed.

    Over a cycle of as many picks as the weights add up to, each backend is picked exactly as
    often as its weight says. A pick costs O(log n): nginx's algorithm, with the same promise,
    looks at every backend each time. Turns are points on a line, of which a backend of weight w
    has w in each cycle, evenly spaced from an offset of its own; they are taken in order. Where
    the first offset lies is random, so that the workers do not all begin with the same backend.
    """

    notice = None

    def __init__(self, weights: Sequence[int], rand: Callable[[], float]) -> None:
        start = rand()
        self._offsets = [(start + place * _GOLDEN) % 1.0 for place in range(len(weights))]
        self._weights: Sequence[int] = [0] * len(weights)
        self._turns: list[tuple[int, float, int, int]] = []
        self._now = (0, 0.0)
        self.reweigh(weights)

    def reweigh(self, weights: Sequence[int]) -> None:
        """Take other weights; those who keep theirs keep their turns as well."""
        kept = {turn[2]: turn for turn in self._turns if weights[turn[2]] == self._weights[turn[2]]}
        self._weights = tuple(weights)
        self._turns = [
            kept.get(place) or self._next_turn(place)
            for place, weight in enumerate(weights)
            if weight > 0
        ]
        heapify(self._turns)

    def _next_turn(self, place: int) -> tuple[int, float, int, int]:
        """Find the first turn of a backend after the point where the line has been taken to."""
        cycle, point = self._now
        number = max(1, math.floor(point * self._weights[place] + self._offsets[place]) + 1)
        if number > self._weights[place]:
            return self._turn(cycle + 1, 1, place)
        return self._turn(cycle, number, place)

    def _turn(self, cycle: int, number: int, place: int) -> tuple[int, float, int, int]:
        point = (number - self._offsets[place]) / self._weights[place]
        return (cycle, point, place, number)

    def pick(self, _key: int = 0, exclude: Collection[int] = ()) -> int | None:
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
        cycle, point, place, number = self._turns[0]
        self._now = (cycle, point)
        if number < self._weights[place]:
            heapreplace(self._turns, self._turn(cycle, number + 1, place))
        else:
            heapreplace(self._turns, self._turn(cycle + 1, 1, place))
        return place
