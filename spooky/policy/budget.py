"""How much may be repeated: a budget of retries, in proportion to requests.

Retries mend the failures of single backends; when all of them fail, retries are a load that keeps
them down. So all retries and hedges of an upstream together are kept to a share of its requests
over a sliding window (Finagle's RetryBudget, linkerd's and Envoy's retry budgets), and to a small
number a second besides, so that a quiet upstream can retry at all.

The bound. Of R requests that came until a moment T seconds after the first, at most
`ratio * R + minimum * (T + WINDOW_S)` were repeated: whatever the order, and for a clock that
stands still `ratio * R + minimum * WINDOW_S`. It holds because a retry is remembered at least as
long as the requests that it was paid from. Each worker has a budget of its own, fed by its own
requests, with its part of `minimum`, so the bound holds for the sum over all of them; while a
reload replaces them, the old ones' part of `minimum` comes on top.

The time is the caller's, in seconds; one that goes back counts as standing still.
"""

WINDOW_S = 10.0
"""As Finagle's default."""
_SLOTS = 10
_SLOT_S = WINDOW_S / _SLOTS


class RetryBudget:
    """What one worker may repeat of one upstream's requests."""

    __slots__ = ("_at", "_floor", "_ratio", "_requests", "_retries", "_slot", "_slot_ends")

    def __init__(self, ratio: float, minimum: float, now: float) -> None:
        """`ratio`: retries for each request; `minimum`: retries a second besides, this worker's."""
        self._ratio = ratio
        self._floor = minimum * WINDOW_S
        self._slot = int(now / _SLOT_S)
        self._slot_ends = (self._slot + 1) * _SLOT_S
        self._at = self._slot % _SLOTS
        self._requests = [0] * _SLOTS
        self._retries = [0] * _SLOTS

    def deposit(self, now: float) -> None:
        """Take note of a request."""
        if now >= self._slot_ends:
            self._forget(now)
        self._requests[self._at] += 1

    def withdraw(self, now: float) -> bool:
        """Pay for a retry; False: there is nothing left to pay it from."""
        if not self.affords(now):
            return False
        self._retries[self._at] += 1
        return True

    def affords(self, now: float) -> bool:
        """Say whether a retry could be paid for."""
        if now >= self._slot_ends:
            self._forget(now)
        return sum(self._retries) + 1 <= self._ratio * sum(self._requests) + self._floor

    def _forget(self, now: float) -> None:
        """Move on to the slot of `now`, and forget what has left the window."""
        slot = int(now / _SLOT_S)
        for passed in range(max(self._slot, slot - _SLOTS) + 1, slot + 1):
            self._requests[passed % _SLOTS] = self._retries[passed % _SLOTS] = 0
        self._slot = slot
        self._slot_ends = (slot + 1) * _SLOT_S
        self._at = slot % _SLOTS
