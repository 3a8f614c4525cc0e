"""Maglev hashing: a table that backends fill in turns, each in an order of its own.

Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
3.4. A look-up is one index; everybody has its share of the table to one entry.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from spooky.policy.balance.consistent import next_key, seed_of

SIZES: Final = (1_021, 10_007, 65_537, 131_071, 655_373, 6_553_577)
"""Primes. The paper wants at least 100 entries for a backend; its own: 65537 and 655373."""

NOBODY: Final = 0xFFFF


class Maglev:
    """The table."""

    def __init__(self, names: Sequence[str], weights: Sequence[float]) -> None:
        """Lay out backends; at least one has a weight."""
        size = table_size(len(names))
        # Turns go in the order of the names, not of the file.
        order = sorted((place for place, own in enumerate(weights) if own), key=names.__getitem__)
        starts = [offset_and_skip(names[place], size) for place in order]
        ranks = fill(starts, [weights[place] for place in order], size)
        self._table = array("H", (order[rank] for rank in ranks))
        self._size = size

    def first(self, key: int) -> int:
        """Return the key's entry."""
        return self._table[key % self._size]

    def others(self, key: int) -> Iterator[int]:
        """Go on with entries from all over the table."""
        while True:
            key = next_key(key)
            yield self._table[key % self._size]


def table_size(backends: int) -> int:
    """Return the size of the table for so many backends."""
    return next((size for size in SIZES if size >= 100 * backends), SIZES[-1])


def offset_and_skip(name: str, size: int) -> tuple[int, int]:
    """Return where a backend's order of the table begins, and how it goes on."""
    return seed_of(name) % size, seed_of(f"{name} skip") % (size - 1) + 1


def fill(starts: Sequence[tuple[int, int]], weights: Sequence[float], size: int) -> Sequence[int]:
    """Fill a table of a prime size: who has which entry, by rank.

    Each takes in its turn the first entry of its order that is free; one that is half as heavy as
    the heaviest takes every second turn. Everybody has the first turn, as in Envoy, so that the
    lightest has an entry. `starts` has offset and skip of each.
    """
    table = [NOBODY] * size
    following = [offset for offset, _ in starts]
    skips = [skip for _, skip in starts]
    heaviest = max(weights)
    credit = [0.0] * len(starts)
    free = size
    while True:
        for rank, weight in enumerate(weights):
            credit[rank] += weight
            if credit[rank] < 0:
                continue
            credit[rank] -= heaviest
            at, skip = following[rank], skips[rank]
            while table[at] != NOBODY:
                at = (at + skip) % size
            table[at] = rank
            following[rank] = at
            free -= 1
            if not free:
                return table
