"""Bounded load over any balancer: nobody gets much more than its share.

Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018: with a factor c, a
backend that has `ceil(c x its share of all requests in flight)` gets no more; the request goes
where the balancer would send it without that backend. Shares go by weight and count the new
request. As c is at least 1, there is always somebody below the bound.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from spooky.policy.balance.consistent import Consistent
from spooky.policy.balance.contract import Balancer, Feed

_TRIES: Final = 8
"""So many full backends are met one by one; then all of them are looked for at once."""
_ROUNDING: Final = 1e-9


class Bounded:
    """A balancer with a bound.

    Backends that are excluded take no part: the bound is over those that are left.
    """

    def __init__(self, inner: Balancer, weights: Sequence[int], feed: Feed, factor: float) -> None:
        """Take the balancer and how many times its share a backend may have, at least 1."""
        self.notice = inner.notice
        self._inner = inner
        # To go on from a key's first candidate costs less than to look for it again and again.
        self._candidates = (
            inner.candidates if isinstance(inner, Consistent) else self._one_after_another
        )
        self._feed = feed
        self._factor = factor
        self._take(weights)

    def _take(self, weights: Sequence[int]) -> None:
        self._weights = tuple(weights)
        self._total = sum(weights)

    def reweigh(self, weights: Sequence[int]) -> None:
        """Take other weights."""
        self._take(weights)
        self._inner.reweigh(weights)

    def pick(self, key: int = 0, exclude: Collection[int] = ()) -> int | None:
        """Return the balancer's choice among those below the bound."""
        weights, in_flight = self._weights, self._feed.in_flight
        each = self._each(exclude)
        for place in islice(self._candidates(key, exclude), _TRIES):
            # Below the whole number that the share is rounded up to is below the share.
            if in_flight(place) < each * weights[place] - _ROUNDING:
                return place
        full = {
            place
            for place, own in enumerate(weights)
            if own and in_flight(place) >= each * own - _ROUNDING
        }
        return self._inner.pick(key, full.union(exclude))

    def _each(self, exclude: Collection[int]) -> float:
        """Return how many requests a backend may have for each unit of its weight."""
        weight, total = self._total, self._feed.total_in_flight() + 1
        if exclude:
            without = set(exclude)
            weight -= sum(self._weights[place] for place in without)
            total -= sum(map(self._feed.in_flight, without))
        return self._factor * total / weight if weight else 0.0

    def _one_after_another(self, key: int, exclude: Collection[int]) -> Iterator[int]:
        without: Collection[int] = exclude
        while (place := self._inner.pick(key, without)) is not None:
            yield place
            without = {*without, place}
