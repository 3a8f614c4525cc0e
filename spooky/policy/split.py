"""Which of several upstreams takes a client: shares by weight, the same client always the same.

Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables",
2005; the logarithmic method): each side draws a score for the key, and the highest takes it. It
keeps no state and depends on names, not on places, so that all workers, restarts and machines
with the same weights agree.

A rule: it is monotone. While a side's weight grows and no other's does, every client that it has
stays with it, and those that come to it are taken from the others in proportion.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

T = TypeVar("T")

_POINTS = 1 << 53
"""As many as a float tells apart."""


@dataclass(frozen=True, slots=True)
class Side(Generic[T]):
    """One side of a split: a name of its own, its weight, and what it leads to."""

    name: str
    weight: int
    upstream: T


class Split(Generic[T]):
    """A weighted choice that is the same for the same key."""

    __slots__ = ("_sides",)

    def __init__(self, sides: Sequence[Side[T]]) -> None:
        """Take the sides.

        Raises:
            ValueError: two have the same name, or none has a weight above 0.
        """
        if len({side.name for side in sides}) < len(sides):
            raise ValueError("two sides of a split have the same name")
        self._sides = [
            (_seed(side.name), float(side.weight), side.upstream)
            for side in sides
            if side.weight > 0
        ]
        if not self._sides:
            raise ValueError("no side of the split has a weight above 0")

    def choose(self, key: bytes) -> T:
        """Return where a client goes that is known by `key`."""
        sides = self._sides
        if len(sides) == 1:
            return sides[0][2]
        return max(sides, key=lambda side: side[1] / -math.log(_draw(key, side[0])))[2]


def _seed(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=16).digest()


def _draw(key: bytes, seed: bytes) -> float:
    """Draw from (0, 1), always the same for the same key and seed."""
    digest = blake2b(key, digest_size=8, key=seed).digest()
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / _POINTS


def is_sampled(rand: float, percent: float) -> bool:
    """Say whether a request with a random number in [0, 1) is among `percent` of all."""
    return rand * 100 < percent
