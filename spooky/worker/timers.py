"""One timer of the event loop for any number of connections.

A heap of deadlines with one entry in force a connection, moved lazily: a deadline that grows later
is left where it is and put off when it comes up, for that is what nearly every packet does.

Rule: an entry that is no longer in force lets go of its connection at once, and is swept out of
the heap before such entries outnumber the others.
"""

import asyncio
import heapq
import itertools
from typing import Protocol

_SWEEP_FROM = 64
"""Fewer stale entries than this are not worth the work of sweeping them out."""


class Timed(Protocol):
    """Something that has a deadline."""

    timer_at: float | None
    """The time of its entry in the heap; owned by `Timers`."""

    def deadline(self) -> float | None:
        """Say when `expire` is due."""

    def expire(self, now: float) -> None:
        """Act on the deadline."""


class _Entry:
    """A place in the heap; `timed` is None once it is stale."""

    __slots__ = ("timed",)

    def __init__(self, timed: Timed) -> None:
        self.timed: Timed | None = timed


class Timers:
    """Deadlines on the clock of `time.monotonic`, which is also the event loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: "Clock") -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[float, int, _Entry]] = []
        self._in_force: dict[Timed, _Entry] = {}
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

    def discard(self, timed: Timed) -> None:
        """Forget `timed`, if it is known: it will not expire, and nothing here refers to it."""
        if self._invalidate(timed):
            self._sweep()

    def _push(self, timed: Timed, deadline: float) -> None:
        superseded = self._invalidate(timed)
        entry = self._in_force[timed] = _Entry(timed)
        timed.timer_at = deadline
        heapq.heappush(self._heap, (deadline, next(self._order), entry))
        if superseded:
            self._sweep()

    def _invalidate(self, timed: Timed) -> bool:
        entry = self._in_force.pop(timed, None)
        if entry is None:
            return False
        entry.timed = timed.timer_at = None
        return True

    def _sweep(self) -> None:
        """Rebuild the heap if most of it is stale."""
        stale = len(self._heap) - len(self._in_force)
        if stale > _SWEEP_FROM and stale > len(self._in_force):
            self._heap = [item for item in self._heap if item[2].timed is not None]
            heapq.heapify(self._heap)

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
            timed = heapq.heappop(self._heap)[2].timed
            if timed is None:
                continue
            self._invalidate(timed)
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
        self._in_force.clear()


class Clock(Protocol):
    """A monotonic clock."""

    def __call__(self) -> float:
        """Return seconds."""
