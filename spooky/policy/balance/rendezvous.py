"""Rendezvous hashing: whoever has the best score with a key has the key.

Thaler, Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998. With up to
`LEAF` backends each is looked at, and when one leaves the file nobody else's keys move. More of
them stand in a tree whose shape follows from their names, and each fork is a rendezvous of its
branches (Wang, Ravishankar, "Hash-Based Virtual Hierarchies for Scalable Location Service in
Mobile Ad-hoc Networks", 2009): a pick costs O(log n), and when a backend leaves the file, for each
fork above it about as many keys move as it had.
"""

from collections.abc import Iterator, Sequence
from math import inf, log
from typing import Final, TypeAlias

from spooky.policy.balance.consistent import (
    LOG_RANGE,
    RANGE,
    SHIFT,
    next_key,
    odd_of,
    score,
    seed_of,
)

LEAF: Final = 16
"""From more backends than this a branch is made a fork."""
_BITS: Final = 3
_BRANCHES: Final = 1 << _BITS
_SEED_BITS: Final = 64

_Branch: TypeAlias = "tuple[int, float, int | _Node]"
"""What stands for it in a score, the inverse of its weight, and a place or what is below."""
_Node: TypeAlias = list[_Branch]
_Backend: TypeAlias = tuple[int, str, float, int]
"""Seed, name, weight, place."""


class Rendezvous:
    """The tree."""

    def __init__(self, names: Sequence[str], weights: Sequence[float]) -> None:
        """Lay out backends; at least one has a weight."""
        # In the order of the seeds, not of the file.
        backends = sorted(
            (seed_of(names[place]), names[place], weight, place)
            for place, weight in enumerate(weights)
            if weight
        )
        self._flat = len(backends) <= LEAF
        self._root = _grow(backends, 0)

    def first(self, key: int) -> int:
        """Return who has the best score, from fork to fork."""
        node = self._root
        while True:
            found = _best(node, key)
            if isinstance(found, int):
                return found
            node = found

    def others(self, key: int) -> Iterator[int]:
        """Go on with the next best score, or in a tree from the root with another key."""
        if self._flat:
            order = sorted(self._root, key=lambda one: score(key, one[0], one[1]))
            yield from (place for _, _, place in order[1:] if isinstance(place, int))
            return
        while True:
            key = next_key(key)
            yield self.first(key)


def _grow(backends: Sequence[_Backend], level: int) -> _Node:
    """Make a tree, in which the next bits of a backend's seed say which branch it is on."""
    if len(backends) <= LEAF:
        return [(odd_of(name), 1 / weight, place) for _, name, weight, place in backends]
    branches: list[list[_Backend]] = [[] for _ in range(_BRANCHES)]
    shift = _SEED_BITS - _BITS * (level + 1)
    for backend in backends:
        branches[backend[0] >> shift & _BRANCHES - 1].append(backend)
    return [
        (odd_of(f"{level}/{number}"), 1 / sum(one[2] for one in branch), _grow(branch, level + 1))
        for number, branch in enumerate(branches)
        if branch
    ]


def _best(node: _Node, key: int) -> "int | _Node":
    """Find the branch with the smallest `score`.

    A logarithm costs more than all the rest, and is only taken where it may be the smallest:
    -log(u) is at least 1 - u. Scores are in units of 2**-BITS here.
    """
    position = key >> SHIFT
    least = inf
    found: int | _Node = node
    for odd, per_weight, what in node:
        number = position * odd & RANGE
        if (RANGE - number) * per_weight < least:
            value = (LOG_RANGE - log(number + 1)) * per_weight * (RANGE + 1)
            if value < least:
                least, found = value, what
    return found
