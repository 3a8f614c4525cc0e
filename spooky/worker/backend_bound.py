"""What one backend gets at most, over all workers.

A pool tells how much it has whenever that changes, and asks before it takes more. It has nothing
to forget: what is in flight is counted from its connections each time. `policy/gate.py` says by
how much workers that decide at the same moment may exceed a limit together; here it is the same.
"""

from spooky.config.admission import BackendLimits
from spooky.shm.limits import LimitRow


class BackendBound:
    """The limits of a backend, as one worker sees them."""

    __slots__ = ("_limits", "_row")

    def __init__(self, limits: BackendLimits, row: LimitRow) -> None:
        self._limits = limits
        self._row = row

    def has_room(self, in_flight: int, queued: int, *, has_stream: bool) -> bool:
        """Say whether the backend may get one more; `in_flight`: those who wait among them.

        `has_stream`: it would not have to wait.
        """
        most, most_queued = self._limits.max_in_flight, self._limits.max_queued
        others = self._row.others()
        if most and in_flight + others.in_flight >= most:
            return False
        return has_stream or not most_queued or queued + others.waiting < most_queued

    def publish(self, in_flight: int, queued: int) -> None:
        """Tell the other workers what this one has."""
        self._row.say(in_flight, queued, claims=False)


def part_of(most: int, workers: int, index: int) -> int:
    """Return the part of a limit that a worker has: an equal one, and 1 at least."""
    return max(1, most // workers + (index < most % workers))
