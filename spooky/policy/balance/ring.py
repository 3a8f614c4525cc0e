"""The hash ring: each backend has points on a circle, and a key belongs to the next point.

Points and their number are those of libketama (Jones, 2007): four from each MD5 of `NAME-NUMBER`,
160 for a backend of the mean weight, so that others can foretell them. One difference: the
lightest backend has four points as well, never none.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import md5
from struct import iter_unpack
from typing import Final

GROUPS: Final = 40
"""Fours of points that a backend of the mean weight has."""


class Ring:
    """The circle, of 2**32 positions; a look-up costs O(log n)."""

    def __init__(self, names: Sequence[str], weights: Sequence[float]) -> None:
        """Lay out backends; at least one has a weight."""
        mean = sum(weights) / sum(1 for weight in weights if weight)
        # Two points in one position are in the order of the names, not of the file.
        order = sorted(range(len(names)), key=names.__getitem__)
        points = sorted(
            position << 16 | rank
            for rank, place in enumerate(order)
            if weights[place]
            for position in _positions(names[place], int(weights[place] / mean * GROUPS + 1e-9))
        )
        self._positions = array("I", (point >> 16 for point in points))
        self._owners = array("H", (order[point & 0xFFFF] for point in points))

    def first(self, key: int) -> int:
        """Return whose point is the next; the key's upper 32 bits are its position."""
        at = bisect_left(self._positions, key >> 32)
        return self._owners[at if at < len(self._owners) else 0]

    def others(self, key: int) -> Iterator[int]:
        """Go on around the circle, once."""
        owners = self._owners
        at = bisect_left(self._positions, key >> 32)
        for step in range(at + 1, at + len(owners)):
            yield owners[step % len(owners)]


def _positions(name: str, groups: int) -> Iterator[int]:
    for number in range(max(1, groups)):
        digest = md5(f"{name}-{number}".encode(), usedforsecurity=False).digest()
        for (position,) in iter_unpack("<I", digest):
            yield position
