"""Finding the row of a key among those that all workers share, and summing up its lanes.

**Rows** go by a keyed hash, which strangers cannot steer: a key may be in any of eight. A row that
nobody needs any more is free for another key. Where all eight are in use the one that is soonest
free changes hands with what is in it: a flood of keys takes no memory and resets no bucket, but
keys may then share one.

**Many processes.** The lanes of the first block are summed up anew each time. Of what lies beyond
them the octets are compared with those of the last look, and summed up where they differ: most
keys are those of a client, whom few workers meet.
"""

import sys
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

from spooky.shm.rates import LANES, Block, RateColumn, RateTable

WAYS: Final = 8
"""Rows that a key may be in."""
RECHECK_NS: Final = 1_000_000_000
"""How long the place of a key is taken as known: two workers that meet a new key at one moment may
give it a row each, and both come to use the first of them when they look again."""
MOST_KNOWN: Final = 8192
MOST_SEEN: Final = 1024
"""Rows of which the lanes beyond the first block are remembered: 6 KiB each, with all slots."""
_TAG: Final = 0xFFFFFFFF
_CLAIM: Final = int(RateColumn.CLAIM)

Sums: TypeAlias = tuple[int, int, int]
"""The columns of a row, each summed up over all lanes in its own way."""


_NOTHING: Final = (0, 0, 0)


class Summing(NamedTuple):
    """How an algorithm sums up its columns, and reads from the sums until when a row is needed."""

    of_lanes: tuple[Callable[[tuple[int, ...]], int], ...]
    of_sums: tuple[Callable[[int, int], int], ...]
    """The same of two parts of the lanes."""
    busy_until: Callable[[Sums], int]


class Rows:
    """Finds the rows of one limit's keys."""

    __slots__ = (
        "_known",
        "_known_until",
        "_prefix",
        "_secret",
        "_seen",
        "_sets",
        "_summing",
        "_unseen",
        "lane",
        "table",
    )

    def __init__(
        self, table: RateTable, process: int, secret: bytes, identity: str, summing: Summing
    ) -> None:
        """`identity` tells the limit from all others; `secret` is the same in all processes."""
        self.table = table
        self.lane = table.lane(process)
        self._summing = summing
        self._sets = table.rows // WAYS
        self._secret = secret
        self._prefix = identity.encode() + b"\0"
        self._known: dict[bytes, tuple[int, int]] = {}
        self._known_until = 0
        self._seen: dict[int, list[tuple[bytes, Sums]]] = {}
        self._unseen: list[tuple[bytes, Sums]] = []
        """The same of a row that nobody has written, with the blocks that are in use."""

    def find(self, key: bytes, now: int) -> tuple[int, Sums]:
        """Return the row of a key, and what is in it; one is made the key's where none is."""
        if now >= self._known_until:
            self._known.clear()
            self._known_until = now + RECHECK_NS
        known = self._known.get(key)
        if known is not None:
            row, tag = known
            sums = self._sum(row)
            if sums[_CLAIM] & _TAG == tag:
                return row, sums
        return self._search(key, now)

    # --- a row ----------------------------------------------------------------------------------

    def _sum(self, row: int) -> Sums:
        table, (first, second, claim) = self.table, self._summing.of_lanes
        cells = table.read_first(row)
        sums = (
            first(cells[:LANES]),
            second(cells[LANES : 2 * LANES]),
            claim(cells[2 * LANES :]),
        )
        return sums if table.processes <= LANES else self._add_others(row, sums)

    def _add_others(self, row: int, of_first: Sums) -> Sums:
        """Add what the lanes beyond the first block have."""
        blocks, octets, of_sums = self.table.blocks(), self.table.octets, self._summing.of_sums
        if len(self._unseen) != len(blocks):
            self._seen = {}
            self._unseen = [(bytes(block.stride), _NOTHING) for block in blocks]
        seen = self._seen.get(row)
        if seen is None:
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()
            seen = self._seen[row] = self._unseen.copy()
        first, second, claim = of_first
        for place in range(1, len(blocks)):
            start, stride, _, _ = blocks[place]
            begin = start + row * stride
            raw = octets[begin : begin + stride].tobytes()
            last, sums = seen[place]
            if raw != last:
                sums = self._sum_changed(blocks[place], raw, last, sums)
                seen[place] = raw, sums
            first = of_sums[0](first, sums[0])
            second = of_sums[1](second, sums[1])
            claim = of_sums[2](claim, sums[2])
        return first, second, claim

    def _sum_changed(self, block: Block, raw: bytes, last: bytes, sums: Sums) -> Sums:
        """Sum up the columns of a block's row that are other than they were."""
        found = list(sums)
        for column, of_lanes in enumerate(self._summing.of_lanes):
            begin = column * block.column
            end = begin + block.column
            if raw[begin:end] != last[begin:end]:
                found[column] = of_lanes(block.unpack(raw[begin:end]))
        return found[0], found[1], found[2]

    # --- the rows of a key ----------------------------------------------------------------------

    def _search(self, key: bytes, now: int) -> tuple[int, Sums]:
        digest = int.from_bytes(
            blake2b(self._prefix + key, digest_size=8, key=self._secret).digest(), "big"
        )
        tag = digest & _TAG or 1
        first = (digest >> 32) % self._sets * WAYS
        for row in range(first, first + WAYS):
            if self._may_be(row, tag):
                sums = self._sum(row)
                if sums[_CLAIM] & _TAG == tag:
                    if len(self._known) >= MOST_KNOWN:
                        self._known.clear()
                    self._known[key] = row, tag
                    return row, sums
        row, sums = self._give_up(first, now)
        self.lane.set(row, _CLAIM, (sums[_CLAIM] >> 32) + 1 << 32 | tag)
        return row, sums

    def _may_be(self, row: int, tag: int) -> bool:
        """Say whether anybody ever gave a row to the key with that tag, or it looks so."""
        octets, mark = self.table.octets, tag.to_bytes(4, sys.byteorder)
        for start, stride, column, _ in self.table.blocks():
            end = start + (row + 1) * stride
            if mark in octets[end - column : end].tobytes():
                return True
        return False

    def _give_up(self, first: int, now: int) -> tuple[int, Sums]:
        """Find a row that is free, or that is so first."""
        busy_until = self._summing.busy_until
        best: tuple[int, int, Sums] | None = None
        for row in range(first, first + WAYS):
            sums = self._sum(row)
            until = busy_until(sums)
            if best is None or until < best[0]:
                best = until, row, sums
            if until <= now:
                break
        assert best is not None
        return best[1], best[2]
