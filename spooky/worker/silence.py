"""How long a backend's connection has been silent while something is awaited on it.

Pure: the connection says what it hears and asks what to do; the time is the caller's. A host that
vanishes says nothing: neither an answer nor the end of the connection. A PING tells it from one
that is slow, which answers it at once (RFC 9113 section 6.7).

Two rules. A short silence only makes a connection suspect, so that requests that can go elsewhere
do; only the silence that the operator gives it ends it, and what is open on it. And a backend
that answers PINGs and says nothing else is asked early once, then after the operator's interval,
and from then on every `QUIET_S` until there is a new request: gRPC servers end connections that
send more than two PINGs within five minutes of silence ("too_many_pings"), and calls of theirs
may be quiet for hours.
"""

from enum import Enum
from typing import Final

EARLY_S: Final = 0.3
"""Silence after which the early PING is sent."""
SUSPECT_S: Final = 0.3
"""What its answer may take before the connection is suspect. With the looks of the pool, every
`LOOK_S`, that is known within a second."""
LOOK_S: Final = 0.15
QUIET_S: Final = 310.0
"""Between PINGs of a connection that answered two in a row and said nothing else."""


class Step(Enum):
    """What a connection is to do."""

    NOTHING = "nothing"
    PING = "ping"
    GIVE_UP = "give up"


class Silence:
    """The silence of one connection. Times are seconds."""

    __slots__ = (
        "_answered",
        "_answered_before",
        "_heard_at",
        "_interval",
        "_pinged_at",
        "_timeout",
        "is_suspect",
    )

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        """After `interval` a PING is sent at the latest, and answered within `timeout`.

        An interval of 0: never.
        """
        self._interval = interval
        self._timeout = timeout
        self._heard_at = now
        self._pinged_at = 0.0
        """When the PING was sent that is not answered; 0: there is none."""
        self._answered = 1
        """PINGs answered in a row with nothing else heard; the early one is the first. Before the
        backend's SETTINGS none is sent early."""
        self._answered_before = 1
        """What it was before the octets that were heard last."""
        self.is_suspect = False
        """An early sign of life is overdue."""

    def heard(self, now: float) -> None:
        """Take any octet as a sign of life."""
        self._heard_at = now
        self._pinged_at = 0.0
        self._answered_before, self._answered = self._answered, 0
        self.is_suspect = False

    def heard_pong(self) -> None:
        """Take note that what was heard was the answer to a PING."""
        self._answered = self._answered_before + 1

    def asked(self) -> None:
        """Take note of a new request: its answer is awaited anew."""
        self._answered = min(self._answered, 1)

    def look(self, now: float, *, is_awaited: bool) -> Step:
        """Say what to do; `is_awaited`: there are requests on the connection."""
        if self._pinged_at:
            self.is_suspect = now - self._pinged_at >= SUSPECT_S
            is_over = now - max(self._heard_at + self._interval, self._pinged_at) >= self._timeout
            return Step.GIVE_UP if is_over else Step.NOTHING
        if not is_awaited:
            # Nobody asked, so this is no silence.
            self._heard_at = now
            return Step.NOTHING
        if not self._interval or now - self._heard_at < self._patience():
            return Step.NOTHING
        self._pinged_at = now
        return Step.PING

    def _patience(self) -> float:
        """Say after how long a silence the next PING is sent."""
        match self._answered:
            case 0:
                return min(self._interval, EARLY_S)
            case 1:
                return self._interval
            case _:
                return max(self._interval, QUIET_S)
