"""When a second try of a request is started beside the first, against a long tail.

A request that has waited for longer than most of them do is sent to another backend too, and the
response that begins first is the client's (Dean and Barroso, "The Tail at Scale", CACM 2013). The
wait is fixed, or a percentile of how long responses took to begin lately: with the 95th, one
request in twenty is hedged.

Pure. Rules: only safe methods without content are hedged (RFC 9110 section 9.2.1), once, and each
hedge is paid for from the retry budget; while few responses are known there is no percentile, and
no hedge.
"""

import math
from dataclasses import dataclass
from itertools import accumulate

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""RFC 9110 section 9.2.1."""

_STEPS_PER_DOUBLING = 8
RESOLUTION = 2.0 ** (1 / _STEPS_PER_DOUBLING)
"""A percentile is told too high by at most this factor: 9%."""
SHORTEST_S = 1e-4
LONGEST_S = SHORTEST_S * 2.0**20
"""Longer waits count as this one, 105 s."""
_STEPS = 20 * _STEPS_PER_DOUBLING + 1
FEWEST = 100
"""Responses that have to be known before there is a percentile."""
REMEMBERED = 2000
"""At so many the counts are halved, so that the last few thousand decide."""
_BETWEEN_LOOKS = 50


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """What an operator asks for: `percentile` (0 to 100) where it is not None, else `delay` (s)."""

    delay: float = 0.0
    percentile: float | None = None


class RecentWaits:
    """How long responses took to begin lately: counts by size, which fade as new ones come."""

    __slots__ = ("_counts", "_percentile", "_total", "_until_next", "longest")

    def __init__(self, percentile: float) -> None:
        """`percentile`: of 100 responses, how many are not to exceed `longest`."""
        self._percentile = percentile
        self._counts = [0] * _STEPS
        self._total = 0
        self._until_next = FEWEST
        self.longest: float | None = None
        """The wait at the percentile, seconds; None: too few responses are known."""

    def record(self, wait: float) -> None:
        """Take note of a response that began after `wait` seconds."""
        step = 0
        if wait > SHORTEST_S:
            step = math.ceil(math.log2(wait / SHORTEST_S) * _STEPS_PER_DOUBLING)
        self._counts[min(step, _STEPS - 1)] += 1
        self._total += 1
        self._until_next -= 1
        if self._until_next <= 0:
            self._look()

    def _look(self) -> None:
        """Find the percentile anew: its cost is shared by the responses since the last time."""
        self._until_next = _BETWEEN_LOOKS
        if self._total >= REMEMBERED:
            self._counts = [count >> 1 for count in self._counts]
            self._total = sum(self._counts)
        rank = self._total * self._percentile / 100
        reached = accumulate(self._counts)
        step = next((step for step, count in enumerate(reached) if count >= rank), _STEPS - 1)
        self.longest = SHORTEST_S * 2.0 ** (step / _STEPS_PER_DOUBLING)


class Hedging:
    """When one upstream's requests are hedged."""

    __slots__ = ("_delay", "waits")

    def __init__(self, policy: HedgePolicy) -> None:
        self._delay = policy.delay
        self.waits = None if policy.percentile is None else RecentWaits(policy.percentile)
        """What the wait is learnt from; None: it is fixed."""

    def delay(self, method: bytes, *, empty: bool) -> float | None:
        """Return after how many seconds a request is hedged; None: it is not.

        `empty`: the request has no content and no trailers.
        """
        if method not in SAFE or not empty:
            return None
        return self._delay if self.waits is None else self.waits.longest
