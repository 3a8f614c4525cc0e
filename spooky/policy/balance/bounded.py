"""Bounded load over any balancer: nobody gets much more than its share.

Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018: with a factor c, a
backend that has `ceil(c x its share of all requests in flight)` gets no more; the request goes
where the balancer would send it without that backend. Shares go by weight and count the new
request. As c is at least 1, there is always somebody below the bound.
"""

from collections.abc import Collection, Sequence
from math import ceil
from typing import Final

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
        picked = self._inner.pick(key, exclude)
        if picked is None:
            return None
        without = set(exclude)
        weight = self._total - sum(weights[place] for place in without)
        total = self._feed.total_in_flight() + 1 - sum(in_flight(place) for place in without)
        each = self._factor * total / weight
        for _ in range(_TRIES):
            if in_flight(picked) < ceil(each * weights[picked] - _ROUNDING):
                return picked
            without.add(picked)
            other = self._inner.pick(key, without)
            if other is None:
                return picked
            picked = other
        without.update(
            place
            for place, own in enumerate(weights)
            if own and in_flight(place) >= ceil(each * own - _ROUNDING)
        )
        return self._inner.pick(key, without)
