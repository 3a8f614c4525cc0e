"""The search for the largest datagram that a path carries (RFC 9000 section 14.3, RFC 8899).

Pure: it says which size to probe next, and is told what came of it. A connection begins with the
size that every path carries, and searches only once it has something to gain: whoever sends a
few packets never pays for a probe.
"""

from dataclasses import dataclass, field

SMALLEST = 1200
"""What every path of QUIC carries (RFC 9000 section 14)."""
STEPS = (1372, 1280)
"""Tried below the largest: what common tunnels leave, and the least that IPv6 promises."""
TRIES = 3
"""Losses of a size before the next smaller one is tried: a probe may be lost to congestion."""
WORTH_BYTES = 32 * 1024
"""Sent on the path before the search begins."""
BLACK_HOLE_PTOS = 3
"""Probe timeouts in a row after which the size that was found is given up."""
BLACK_HOLE_LOSSES = 6
"""Losses in a row, of larger packets than every path carries, after which it is given up."""


@dataclass(slots=True)
class MtuSearch:
    """The search on one path; `largest` is the size that the operator allows."""

    largest: int
    current: int = SMALLEST
    """The size that is known to pass."""
    is_doubted: bool = False
    """It may not pass any more: `large_delivered` or `large_lost` is to follow for each packet."""
    _candidates: list[int] = field(default_factory=list)
    _losses: int = 0
    _in_flight: bool = False
    _vanished: int = 0

    def __post_init__(self) -> None:
        self._candidates = [
            size for size in (self.largest, *STEPS) if self.current < size <= self.largest
        ]

    def next_probe(self, sent: int) -> int | None:
        """Return the size to probe now that `sent` octets went along the path, None: none.

        The caller sends it: `acknowledged` or `lost` must follow.
        """
        if not self._candidates or self._in_flight or sent < WORTH_BYTES:
            return None
        self._in_flight = True
        return self._candidates[0]

    def acknowledged(self, size: int) -> None:
        """Take over a size that passed; the search is over, for larger ones were tried before."""
        self._in_flight = False
        self._candidates.clear()
        self.current = size

    def lost(self) -> None:
        """Try the size again, or the next one."""
        self._in_flight = False
        self._losses += 1
        if self._losses >= TRIES and self._candidates:
            del self._candidates[0]
            self._losses = 0

    def doubt(self, timeouts: int) -> None:
        """Watch what becomes of large packets, as there were so many probe timeouts in a row.

        The timeouts alone do not tell: small packets still pass a black hole, and end their row.
        """
        if timeouts >= BLACK_HOLE_PTOS:
            self._give_up()
        elif timeouts and self.current > SMALLEST:
            self.is_doubted = True

    def large_delivered(self) -> None:
        """Trust the size again: a packet that only a path of that size carries has passed."""
        self.is_doubted = False
        self._vanished = 0

    def large_lost(self) -> None:
        """Count it; nothing is lost only by chance so often."""
        self._vanished += 1
        if self._vanished >= BLACK_HOLE_LOSSES:
            self._give_up()

    def _give_up(self) -> None:
        """Fall back for good: what passed once does not any more (RFC 8899 section 4.3)."""
        self._candidates.clear()
        self.current = SMALLEST
        self.is_doubted = False
