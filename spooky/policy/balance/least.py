"""Least-connections: whoever has the fewest requests in flight for its weight.

Of those who have equally few, everybody in turn, by weight: without that, a quiet upstream would
have all of its requests at one backend.
"""

from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from spooky.policy.balance.contract import Feed

_Entry = tuple[float, float, int]


class LeastConnections:
    """A heap of the backends by load; O(log n).

    An entry is `(load, turn, place)`. A change makes a new one, and the old, which is no longer
    the current one of its place, is dropped when it comes up. A turn is a moment on a clock that
    goes on by 1/weight of whoever is picked (stride scheduling, Waldspurger 1995).
    """

    def __init__(self, weights: Sequence[int], feed: Feed, rand: Callable[[], float]) -> None:
        self._in_flight = feed.in_flight
        self._turns = [rand() / weight if weight else 0.0 for weight in weights]
        self._clock = 0.0
        self._current: list[_Entry | None] = []
        self._heap: list[_Entry] = []
        self._most = 4 * len(weights) + 16
        self.reweigh(weights)

    def reweigh(self, weights: Sequence[int]) -> None:
        """Take other weights, and look at all backends anew."""
        self._weights = tuple(weights)
        self._rebuild()

    def notice(self, place: int) -> None:
        """Ask the feed anew how much a backend has to do."""
        weight = self._weights[place]
        if weight:
            heap = self._heap
            load = self._in_flight(place) / weight
            entry = self._current[place] = (load, self._turns[place], place)
            heappush(heap, entry)
            if len(heap) > self._most:
                self._rebuild()

    def pick(self, _key: int = 0, exclude: Collection[int] = ()) -> int | None:
        """Return the one with the least to do."""
        heap, current = self._heap, self._current
        passed: list[_Entry] = []
        picked = None
        while heap:
            entry = heap[0]
            load, turn, place = entry
            if entry is not current[place]:
                heappop(heap)
            elif place in exclude:
                passed.append(heappop(heap))
            else:
                picked = place
                self._clock = max(self._clock, turn)
                turn = self._turns[place] = self._clock + 1 / self._weights[place]
                entry = current[place] = (load, turn, place)
                heapreplace(heap, entry)
                break
        for entry in passed:
            heappush(heap, entry)
        return picked

    def _rebuild(self) -> None:
        self._current = [
            (self._in_flight(place) / weight, self._turns[place], place) if weight else None
            for place, weight in enumerate(self._weights)
        ]
        self._heap = [entry for entry in self._current if entry is not None]
        heapify(self._heap)
