"""How many requests at a time are good for a server, found out from how it answers.

Two ways. `Aimd` has a latency that is too much: the limit grows by one for each limit's worth of
good answers, and is cut when one is bad (Chiu and Jain, 1989; one cut for all that was under way
at a cut, as TCP does, RFC 5681 section 3.2). `Gradient` needs no such number: it measures the
latency of a server with little to do, and keeps the limit where answers take little longer
(Envoy's adaptive concurrency filter and Netflix's concurrency-limits).

Pure: times are seconds on any clock that does not go back, chance comes from the caller. The
rule: a limit that nobody comes near to does not grow, as nothing was learned about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import Final, Protocol

CUT: Final = 0.7
"""What is left of the limit after a cut: the factor of CUBIC (RFC 9438 section 4.6)."""
WINDOW_S: Final = 0.1
"""How long answers are gathered before the gradient moves the limit, as in Envoy."""
WINDOW_ANSWERS: Final = 10
"""How many there must be at least."""
MOST_ANSWERS: Final = 256
"""How many of a window are looked at."""
PROBE_ANSWERS: Final = 20
"""How many say what the latency without load is."""
PROBE_S: Final = 1.0
"""How long those may take: responses that never end must not hold the limit down for ever."""
JITTER: Final = 0.15
"""By how much the time between two probes varies, so that workers do not probe together."""
STEEPEST: Final = 0.5
"""What is left of the limit at least after one window."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a limit begins and between what it moves; 1 <= least <= first <= most."""

    least: int
    first: int
    most: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request was met with: when it began, and seconds until the response's head came."""

    begun: float
    latency: float
    failed: bool


class Limiter(Protocol):
    """A limit that moves."""

    def limit(self, now: float) -> int:
        """Say how many may be in flight."""

    def observe(self, answer: Answer, in_flight: int, now: float) -> None:
        """Learn from an answer; so many requests were under way, that one among them."""


class Aimd:
    """Additive increase, multiplicative decrease."""

    __slots__ = ("_bounds", "_cut_at", "_limit", "_too_long")

    def __init__(self, bounds: Bounds, too_long: float) -> None:
        """Take the latency, in seconds, beyond which an answer counts as bad."""
        self._bounds = bounds
        self._too_long = too_long
        self._limit = float(bounds.first)
        self._cut_at = -1.0
        """When the limit was cut last; before all clocks."""

    def limit(self, _now: float) -> int:
        """Say how many may be in flight."""
        return int(self._limit)

    def observe(self, answer: Answer, in_flight: int, now: float) -> None:
        """Grow a little, or cut."""
        if answer.failed or answer.latency > self._too_long:
            if answer.begun > self._cut_at:
                self._limit = max(self._limit * CUT, self._bounds.least)
                self._cut_at = now
        elif in_flight * 2 >= self._limit:
            self._limit = min(self._limit + 1.0 / self._limit, self._bounds.most)


class Gradient:
    """By the ratio of the latency without load to the present one.

    From time to time it lowers the limit to its least and measures the former: a probe. A failure
    says nothing about latency, as a refusal is fast; it is left out.
    """

    __slots__ = (
        "_best",
        "_bounds",
        "_busiest",
        "_every",
        "_latencies",
        "_limit",
        "_probe_at",
        "_probing",
        "_rand",
        "_since",
        "_tolerance",
    )

    def __init__(
        self, bounds: Bounds, tolerance: float, every: float, rand: Callable[[], float]
    ) -> None:
        """Take how much longer answers may take (1.5: by half), and seconds between probes."""
        self._bounds = bounds
        self._tolerance = tolerance
        self._every = every
        self._rand = rand
        self._limit = float(bounds.first)
        self._best: float | None = None
        """The latency without load, once known."""
        self._probing = False
        self._probe_at = -1.0
        self._since = 0.0
        """When the window, or the probe, began."""
        self._latencies: list[float] = []
        self._busiest = 0

    def limit(self, now: float) -> int:
        """Say how many may be in flight."""
        if self._probing and now - self._since < PROBE_S:
            return self._bounds.least
        return int(self._limit)

    def observe(self, answer: Answer, in_flight: int, now: float) -> None:
        """Gather an answer, and move the limit at the end of a window."""
        if answer.failed:
            return
        if self._probing:
            self._probe(answer, now)
        elif now >= self._probe_at:
            self._probing = True
            self._begin(now)
        else:
            self._gather(answer.latency, in_flight, now)

    def _begin(self, now: float) -> None:
        self._since = now
        self._latencies = []
        self._busiest = 0

    def _probe(self, answer: Answer, now: float) -> None:
        # What was asked before the limit fell has waited for others.
        if answer.begun >= self._since:
            self._latencies.append(answer.latency)
        late = now - self._since >= PROBE_S
        if len(self._latencies) < PROBE_ANSWERS and not late:
            return
        if self._latencies:
            self._best = median(self._latencies)
        self._probing = False
        self._probe_at = now + self._every * (1 + JITTER * self._rand())
        self._begin(now)

    def _gather(self, latency: float, in_flight: int, now: float) -> None:
        if len(self._latencies) < MOST_ANSWERS:
            self._latencies.append(latency)
        self._busiest = max(self._busiest, in_flight)
        if now - self._since < WINDOW_S or len(self._latencies) < WINDOW_ANSWERS:
            return
        present = median(self._latencies)
        self._best = present if self._best is None else min(self._best, present)
        self._move(present)
        self._begin(now)

    def _move(self, present: float) -> None:
        assert self._best is not None
        allowed = self._best * self._tolerance
        gradient = 1.0 if present <= allowed else max(allowed / present, STEEPEST)
        # The headroom lets the limit grow while latency does not: the square root, as in Envoy.
        wanted = self._limit * gradient
        wanted += sqrt(wanted)
        if wanted > self._limit and self._busiest * 2 < self._limit:
            return
        self._limit = min(max(wanted, self._bounds.least), self._bounds.most)
