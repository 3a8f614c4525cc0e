"""How much the backends of an upstream have to do, and how fast they answer: the balancer's feed.

What this worker does is known at once, what the others do every 20 ms, from the traffic table.
Only upstreams whose balancer asks have one of these; the requests of all others are not counted
here. It decides nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from spooky.config.model import Backend
from spooky.policy.ewma import PeakEwma
from spooky.shm.traffic import TrafficColumn, TrafficTable

INTERVAL_S: Final = 0.02
_UNDER_WAY: Final = int(TrafficColumn.UNDER_WAY)
_ANSWERS: Final = int(TrafficColumn.ANSWERS)
_ANSWER_TIME: Final = int(TrafficColumn.ANSWER_TIME_US)


class Load:
    """The load of an upstream's backends, by place (policy.balance.Feed)."""

    def __init__(self, backends: int, *, is_timed: bool) -> None:
        """Know nothing of so many backends; `is_timed`: latency is asked for."""
        self.notice: Callable[[int], None] | None = None
        """The balancer's, to be told of changes."""
        self._is_timed = is_timed
        self._counts = [0] * backends
        self._total = 0
        self._latencies = [0.0] * backends
        self._estimates = [PeakEwma() for _ in range(backends)] if is_timed else []
        self._answers = [(0, 0)] * backends
        self._cells: list[memoryview[int]] = []
        self._rows: Sequence[int] = ()

    # --- policy.balance.Feed ----------------------------------------------------------------

    def in_flight(self, place: int) -> int:
        """Count the requests that a backend has from all workers."""
        return self._counts[place]

    def total_in_flight(self) -> int:
        """Count those of all backends."""
        return self._total

    def latency(self, place: int) -> float:
        """Return the peak EWMA of a backend's latency, as it was at the last look, in seconds."""
        return self._latencies[place]

    # --- what this worker does --------------------------------------------------------------

    def took(self, place: int) -> None:
        """Count an attempt that begins."""
        self._change(place, 1)

    def gave(self, place: int) -> None:
        """Count an attempt that is over."""
        self._change(place, -1)

    def _change(self, place: int, by: int) -> None:
        self._cells[place][_UNDER_WAY] += by
        self._counts[place] += by
        self._total += by
        if self.notice is not None:
            self.notice(place)

    # --- what all do ------------------------------------------------------------------------

    def attach(self, table: TrafficTable, process: int, rows: Sequence[int]) -> None:
        """Take this process's cells of each backend; comes before the first request."""
        self._rows = rows
        self._cells = [table.row(process, row) for row in rows]

    def succeed(self, other: "Load", origins: Sequence[int | None]) -> None:
        """Go on from what another one knows; `origins`: the place there of each backend here.

        What the other one has begun to count it also ends; it is taken over at the next look.
        """
        for place, origin in enumerate(origins):
            if origin is not None and self._is_timed:
                self._estimates[place] = other._estimates[origin]
                self._answers[place] = other._answers[origin]
                self._latencies[place] = other._latencies[origin]

    def look(self, table: TrafficTable, now: float) -> None:
        """Take over what all workers have counted; `now` in seconds."""
        counts = table.sums(_UNDER_WAY, self._rows)
        changed = [place for place, count in enumerate(counts) if count != self._counts[place]]
        self._counts = counts
        self._total = sum(counts)
        if self.notice is not None:
            for place in changed:
                self.notice(place)
        if self._is_timed:
            self._look_at_answers(table, now)

    def _look_at_answers(self, table: TrafficTable, now: float) -> None:
        # The number first: it is written last, so that the time is there of all that are seen.
        counts = table.sums(_ANSWERS, self._rows)
        fresh = list(zip(counts, table.sums(_ANSWER_TIME, self._rows), strict=True))
        for estimate, (count, time_us), (known, known_us) in zip(
            self._estimates, fresh, self._answers, strict=True
        ):
            if count > known:
                estimate.observe(max(0, time_us - known_us) / (count - known) / 1e6, now)
        self._answers = fresh
        self._latencies = [estimate.value(now) for estimate in self._estimates]


class Loaded(Protocol):
    """An upstream: its backends, and their load if its balancer asks for it."""

    backends: tuple[Backend, ...]
    load: Load | None


class Lookout:
    """Looks at the traffic table, over and over, for all upstreams that need it."""

    def __init__(
        self,
        groups: Sequence[Loaded],
        table: TrafficTable,
        process: int,
        rows: Mapping[str, int],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Take the upstreams, and the row of each identity of their backends."""
        self._groups = [group for group in groups if group.load is not None]
        self._table = table
        self._process = process
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        for group in self._groups:
            self.attach(group, rows)

    def attach(self, group: Loaded, rows: Mapping[str, int]) -> None:
        """Take the backends of an upstream as they are now; comes before the next request."""
        if group.load is not None:
            numbers = [rows[backend.identity] for backend in group.backends]
            group.load.attach(self._table, self._process, numbers)
            group.load.look(self._table, self._loop.time())

    def start(self) -> None:
        """Look now, and from now on."""
        if not self._groups:
            return
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        for group in self._groups:
            if group.load is not None:
                group.load.look(self._table, self._loop.time())

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()
