"""Least-connections: whoever has the fewest requests in flight for its weight.

Of those who have equally few, everybody in turn, by weight: without that, a quiet upstream would
have all of its requests at one backend.
"""

from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from spooky.policy.balance.contract import Feed

_Entry = tuple[float, float, int, int]


class LeastConnections:
    """A heap of the backends by load; O(log n).

    An entry is `(load, turn, place, version)`. A change makes a new one, and the old, whose
    version is no longer that of its place, is dropped when it comes up. A turn is a moment on a
    clock that goes on by 1/weight of whoever is picked (stride scheduling, Waldspurger 1995).
    """

    def __init__(self, weights: Sequence[int], feed: Feed, rand: Callable[[], float]) -> None:
        self._feed = feed
        self._turns = [rand() / weight if weight else 0.0 for weight in weights]
        self._versions = [0] * len(weights)
        self._clock = 0.0
        self._heap: list[_Entry] = []
        self._most = 4 * len(weights) + 16
        self.reweigh(weights)

    def reweigh(self, weights: Sequence[int]) -> None:
        """Take other weights, and look at all backends anew."""
        self._weights = tuple(weights)
        self._rebuild()

    def notice(self, place: int) -> None:
        """Ask the feed anew how much a backend has to do."""
        if self._weights[place]:
            heappush(self._heap, self._entry(place))
            if len(self._heap) > self._most:
                self._rebuild()

    def pick(self, _key: int = 0, exclude: Collection[int] = ()) -> int | None:
        """Return the one with the least to do."""
        heap, versions = self._heap, self._versions
        passed: list[_Entry] = []
        picked = None
        while heap:
            _, turn, place, version = heap[0]
            if version != versions[place]:
                heappop(heap)
            elif place in exclude:
                passed.append(heappop(heap))
            else:
                picked = place
                self._clock = max(self._clock, turn)
                self._turns[place] = self._clock + 1 / self._weights[place]
                heapreplace(heap, self._entry(place))
                break
        for entry in passed:
            heappush(heap, entry)
        return picked

    def _entry(self, place: int) -> _Entry:
        version = self._versions[place] = self._versions[place] + 1
        load = self._feed.in_flight(place) / self._weights[place]
        return (load, self._turns[place], place, version)

    def _rebuild(self) -> None:
        self._heap = [self._entry(place) for place, weight in enumerate(self._weights) if weight]
        heapify(self._heap)
