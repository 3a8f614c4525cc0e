"""What the log is told of whether one backend can be reached.

Pure: the pool says how its attempts to connect ended, and logs the words that it gets for it; the
time is the caller's. Told is a change of state, never an attempt. The rule that is not obvious: a
reason is worth a warning once in `REPEAT_S`, and only so many reasons are, for a backend that
comes and goes, or words its failures anew each time, would otherwise fill the log.
"""

from typing import Final

REPEAT_S: Final = 30.0
"""Between two warnings of the same backend for the same reason."""
MOST_REASONS: Final = 4
"""Warnings of one backend within that time."""


class Reachability:
    """What this worker has said of one backend; one that was never tried counts as reachable."""

    def __init__(self, name: str) -> None:
        """`name` is how the log calls it: `api/b1 10.0.0.1:8080`."""
        self._name = name
        self._reason = ""
        """Of the last warning that still holds."""
        self._told: dict[str, float] = {}

    def failed(self, reason: str, now: float) -> str:
        """Return the warning that a failed connection is worth, empty for none; `now` seconds."""
        if reason == self._reason or not self._is_news(reason, now):
            return ""
        self._reason = reason
        return f"backend {self._name}: cannot connect: {reason}"

    def breached(self, reason: str, now: float) -> str:
        """Return the warning that a connection is worth which the backend's faults have ended."""
        if not self._is_news(reason, now):
            return ""
        return f"backend {self._name}: its connection was ended: {reason}"

    def _is_news(self, reason: str, now: float) -> bool:
        self._told = {text: when for text, when in self._told.items() if now - when < REPEAT_S}
        if reason in self._told or len(self._told) >= MOST_REASONS:
            return False
        self._told[reason] = now
        return True

    def connected(self) -> str:
        """Return what a connection is worth saying; empty unless the last word was a warning."""
        if not self._reason:
            return ""
        self._reason = ""
        return f"backend {self._name}: reachable again"
