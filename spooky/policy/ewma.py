"""How slow a backend is: a peak-sensitive moving average of its latency.

As in Finagle and Linkerd: a peak counts at once and in full, what is better only little by
little, so that a backend which stalls is left alone at the first sign of it. What is known also
fades with time, so that one who was slow is tried again. Time is the caller's and may stand still.
"""

from math import exp
from typing import Final

DECAY_S: Final = 10.0
"""After so long without an answer an estimate has fallen to 1/e; Finagle's default."""


class PeakEwma:
    """The estimate for one backend, in seconds."""

    __slots__ = ("_at", "_decay", "_value")

    def __init__(self, decay: float = DECAY_S) -> None:
        """Know nothing; `decay` is in seconds, above 0."""
        self._decay = decay
        self._value = 0.0
        self._at = 0.0

    def observe(self, latency: float, now: float) -> None:
        """Take a latency of at least 0 seconds, seen at `now`."""
        if latency >= self._value:
            self._value = latency
        else:
            kept = self._kept(now)
            self._value = self._value * kept + latency * (1.0 - kept)
        self._at = max(self._at, now)

    def value(self, now: float) -> float:
        """Return the estimate as it has faded by `now`; 0.0 where there never was one."""
        return self._value * self._kept(now)

    def _kept(self, now: float) -> float:
        """Say which share of what was known is left; a clock that went back counts as still."""
        return exp(-max(0.0, now - self._at) / self._decay)
