"""One timer of the event loop for any number of connections.

A heap of deadlines with one entry a connection, moved lazily: a deadline that grows later is
left where it is and put off when it comes up, for that is what nearly every packet does.
"""

import asyncio
import heapq
import itertools
from typing import Protocol


class Timed(Protocol):
    """Something that has a deadline."""

    timer_at: float | None
    """The time of its entry in the heap; owned by `Timers`."""

    def deadline(self) -> float | None:
        """Say when `expire` is due."""

    def expire(self, now: float) -> None:
        """Act on the deadline."""


class Timers:
    """Deadlines on the clock of `time.monotonic`, which is also the event loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: "Clock") -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = itertools.count()
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at = 0.0

    def schedule(self, timed: Timed) -> None:
        """Make sure that `timed` expires at its deadline, as it stands now."""
        deadline = timed.deadline()
        if deadline is None or (timed.timer_at is not None and timed.timer_at <= deadline):
            return
        self._push(timed, deadline)
        self._arm()

    def _push(self, timed: Timed, deadline: float) -> None:
        timed.timer_at = deadline
        heapq.heappush(self._heap, (deadline, next(self._order), timed))

    def _arm(self) -> None:
        if not self._heap:
            return
        at = self._heap[0][0]
        if self._handle is not None:
            if self._handle_at <= at:
                return
            self._handle.cancel()
        self._handle_at = at
        self._handle = self._loop.call_later(max(0.0, at - self._clock()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            at, _, timed = heapq.heappop(self._heap)
            if timed.timer_at != at:
                continue  # An earlier entry was pushed since; this one is stale.
            timed.timer_at = None
            deadline = timed.deadline()
            if deadline is None:
                timed.expire(now)
            elif deadline > now:
                self._push(timed, deadline)
            else:
                timed.expire(now)
        self._arm()

    def close(self) -> None:
        """Forget all deadlines."""
        if self._handle is not None:
            self._handle.cancel()
        self._heap.clear()


class Clock(Protocol):
    """A monotonic clock."""

    def __call__(self) -> float:
        """Return seconds."""
