"""Consistent hashing: the same key goes to the same backend, in every worker and after a restart.

Three ways to lay backends out share what happens when one of them is not to be asked. The layout
is made for the weights of the configuration and stays as it is while backends come and go: a key
whose backend is out goes to its next candidate, and back when it is in again, so that nobody
else's keys move. Only where less than half of the weight is left, or weights have been raised, a
layout is made anew, which is a rule on the weights alone: workers with the same weights agree,
whatever they have seen before.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from math import log
from typing import Final, Protocol

_MASK: Final = (1 << 64) - 1
_ODD: Final = 0x9E3779B97F4A7C15
BITS: Final = 30
"""Of a key and of a backend that a score goes by: a digit of Python's numbers, which multiply at
little cost then."""
SHIFT: Final = 64 - BITS
RANGE: Final = (1 << BITS) - 1
LOG_RANGE: Final = log(1 << BITS)
_CANDIDATES: Final = 32
"""So many are looked at one after another before all are looked at: half of them are in at the
least, so that 32 in a row which are not are rare."""


def seed_of(identity: str) -> int:
    """Return 64 bits that stand for a backend, wherever and whenever."""
    return int.from_bytes(blake2b(identity.encode(), digest_size=8).digest(), "big")


def next_key(key: int) -> int:
    """Return a key for the next candidate, unlike those of all others."""
    key = (key ^ key >> 32) * _ODD & _MASK
    return key ^ key >> 29


def odd_of(identity: str) -> int:
    """Return an odd number of `BITS` bits that stands for a backend, for `score`."""
    return seed_of(identity) >> SHIFT | 1


def score(key: int, odd: int, per_weight: float) -> float:
    """Weigh a key with a backend, from 0: the smallest wins.

    Exponentially distributed with the weight (of which `per_weight` is the inverse) as its rate,
    so that each of several is the smallest in proportion to its weight: weighted rendezvous
    hashing (Schindelhauer, Schomaker, 2005). The upper `BITS` bits of the key are looked at.
    """
    return (LOG_RANGE - log(((key >> SHIFT) * odd & RANGE) + 1)) * per_weight


class Layout(Protocol):
    """Backends laid out by weight; who has none is not in it."""

    def first(self, key: int) -> int:
        """Return the place of the backend that a key belongs to."""

    def others(self, key: int) -> Iterator[int]:
        """Return its candidates after that; some may come more than once."""


class Consistent:
    """A balancer over a layout."""

    notice = None

    def __init__(
        self,
        identities: Sequence[str],
        weights: Sequence[int],
        lay_out: Callable[[Sequence[str], Sequence[float]], Layout],
    ) -> None:
        """Take the backends' identities and the configuration's weights."""
        self._identities = identities
        self._odds = [odd_of(identity) for identity in identities]
        self._configured = tuple(weights)
        self._lay_out = lay_out
        self._weights: tuple[int, ...] = ()
        self._shares: list[float] = []
        self._laid_for: tuple[float, ...] = ()
        self._layout: Layout | None = None
        self.reweigh(weights)

    def reweigh(self, weights: Sequence[int]) -> None:
        """Take other weights; makes a new layout only where the old one no longer serves."""
        self._weights = tuple(weights)
        scaled = _as_configured(self._configured, weights)
        highest = tuple(map(max, self._configured, scaled))
        base = highest if 2 * sum(scaled) >= sum(highest) else tuple(scaled)
        if base != self._laid_for:
            self._laid_for = base
            self._layout = self._lay_out(self._identities, base) if any(base) else None
        self._shares = [
            weight / laid_for if weight else 0.0
            for weight, laid_for in zip(scaled, base, strict=True)
        ]

    def pick(self, key: int = 0, exclude: Collection[int] = ()) -> int | None:
        """Return the first candidate of a key that may be asked."""
        layout = self._layout
        if layout is None:
            return None
        place = layout.first(key)
        if place not in exclude and self._takes(place, key):
            return place
        return next(self._others(layout, key, exclude), None)

    def candidates(self, key: int, exclude: Collection[int]) -> Iterator[int]:
        """List those that `pick` would return, each without those before; some more than once."""
        layout = self._layout
        if layout is not None:
            place = layout.first(key)
            if place not in exclude and self._takes(place, key):
                yield place
            yield from self._others(layout, key, exclude)

    def _others(self, layout: Layout, key: int, exclude: Collection[int]) -> Iterator[int]:
        for place in islice(layout.others(key), _CANDIDATES):
            if place not in exclude and self._takes(place, key):
                yield place
        best = self._best_of_all(key, exclude)
        if best is not None:
            yield best

    def _takes(self, place: int, key: int) -> bool:
        """Say whether a key is among those that a backend takes at the weight that it has now."""
        share = self._shares[place]
        if share == 1.0:
            return True
        return score(next_key(key), self._odds[place], 1.0) < -log(1.0 - share)

    def _best_of_all(self, key: int, exclude: Collection[int]) -> int | None:
        odds = self._odds
        scores = (
            (score(key, odds[place], 1 / weight), odds[place], place)
            for place, weight in enumerate(self._weights)
            if weight and place not in exclude
        )
        best = min(scores, default=None)
        return None if best is None else best[2]


def _as_configured(configured: Sequence[int], weights: Sequence[int]) -> Sequence[float]:
    """Scale weights so that most of the backends have those of the configuration.

    Only proportions count: who gives weights may have multiplied all of them, to say a third of
    one in whole numbers, and that alone must not move a key.
    """
    ratios = sorted(
        weight / own for weight, own in zip(weights, configured, strict=True) if weight and own
    )
    usual = ratios[len(ratios) // 2] if ratios else 1.0
    return weights if usual == 1.0 else [weight / usual for weight in weights]
