"""What one client connection may have done that costs more to take than to send.

Two budgets, which fill up again with time: of control frames, and of cancelled requests. An
engine asks before it goes on, and closes the connection where the answer is no. It owns no clock:
`now` is what the engine was told last.

A rule: what an honest packet is full of costs nothing here (`FREE_FRAMES`), so no client is
slowed down for sending much.
"""

from spooky.bounds import Bound

FREE_FRAMES = 32
"""Frames of one packet, or small ones of one piece of a stream, that are not counted. An honest
packet has a few, and a packet full of the smallest requests some fifty."""
SMALL_FRAME = 64
"""Octets of an HTTP/3 frame from which on it pays for itself."""
CANCEL_BURST_S = 10
"""Requests that may be cancelled at once: as many as in so many seconds."""


class Floods:
    """The budgets of one connection."""

    __slots__ = (
        "_at",
        "_cancel_at",
        "_cancel_rate",
        "_cancelled",
        "_cancels",
        "_frame_rate",
        "_frames",
        "_most_kept",
        "now",
        "reached",
    )

    def __init__(self, control_frames: int, cancelled_requests: int) -> None:
        """Allow so many of both in a second."""
        self.now = 0.0
        """When the engine was last given something."""
        self.reached: Bound | None = None
        """The bound that ends the connection."""
        self._frame_rate = control_frames
        self._frames = float(control_frames)
        self._at = 0.0
        self._cancel_rate = cancelled_requests
        self._cancels = float(cancelled_requests * CANCEL_BURST_S)
        self._cancel_at = 0.0
        self._cancelled = 0
        self._most_kept = 0
        """The most requests that were opened and not cancelled, as far as was looked."""

    def spend(self, frames: int) -> bool:
        """Take control frames off the budget; False: there were too many."""
        if frames <= self._frames:
            self._frames -= frames
            return True
        filled = self._frames + (self.now - self._at) * self._frame_rate
        self._frames, self._at = min(float(self._frame_rate), filled) - frames, self.now
        return self._frames >= 0 or self.refuse(Bound.CONTROL_FRAMES)

    def cancel(self, opened: int) -> bool:
        """Take a cancelled request off the budget; False: there were too many.

        `opened`: requests that there ever were. Each that is not cancelled allows for another
        one that is, so a busy client may cancel half of all.
        """
        self._cancelled += 1
        kept = opened - self._cancelled
        grown = max(0, kept - self._most_kept)
        self._most_kept += grown
        filled = self._cancels + grown + (self.now - self._cancel_at) * self._cancel_rate
        self._cancels = min(float(self._cancel_rate * CANCEL_BURST_S), filled) - 1
        self._cancel_at = self.now
        return self._cancels >= 0 or self.refuse(Bound.CANCELLED_REQUESTS)

    def refuse(self, bound: Bound) -> bool:
        """Note which bound ends the connection; always False."""
        if self.reached is None:
            self.reached = bound
        return False
