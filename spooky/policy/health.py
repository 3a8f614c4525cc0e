"""What probes say of a backend, and when it is probed next.

The states are a table; `judge` enters one result, `next_probe` says when the next one is due. All
of it is pure: the caller brings the time and the chance, and keeps the `Standing`.

What a state means for traffic: UNKNOWN (never probed), HEALTHY and DEGRADED get requests;
UNHEALTHY and RECOVERING get none. One failure is enough to be DEGRADED, which takes nothing away;
a backend that fails now and then and never often enough in a row stays there, where an operator
sees it. RECOVERING is the way back: its probes pass, but there were not enough of them yet.

A rule: a wait is never 0, however the clock goes, so that no settings make probes a storm.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

_MOST_DOUBLINGS: Final = 32
_MOST: Final = 0xFFFF
"""What is counted is counted up to here."""


class State(Enum):
    """What is thought of a backend."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    RECOVERING = "recovering"


class Result(Enum):
    """What a probe adds up to with those before it."""

    PASS = "passed"
    ENOUGH_PASSES = "passed often enough"
    FAIL = "failed"
    ENOUGH_FAILS = "failed often enough"


TRANSITIONS: Final[dict[tuple[State, Result], State]] = {
    (State.UNKNOWN, Result.PASS): State.HEALTHY,
    (State.UNKNOWN, Result.ENOUGH_PASSES): State.HEALTHY,
    (State.UNKNOWN, Result.FAIL): State.DEGRADED,
    (State.UNKNOWN, Result.ENOUGH_FAILS): State.UNHEALTHY,
    (State.HEALTHY, Result.PASS): State.HEALTHY,
    (State.HEALTHY, Result.ENOUGH_PASSES): State.HEALTHY,
    (State.HEALTHY, Result.FAIL): State.DEGRADED,
    (State.HEALTHY, Result.ENOUGH_FAILS): State.UNHEALTHY,
    (State.DEGRADED, Result.PASS): State.DEGRADED,
    (State.DEGRADED, Result.ENOUGH_PASSES): State.HEALTHY,
    (State.DEGRADED, Result.FAIL): State.DEGRADED,
    (State.DEGRADED, Result.ENOUGH_FAILS): State.UNHEALTHY,
    (State.UNHEALTHY, Result.PASS): State.RECOVERING,
    (State.UNHEALTHY, Result.ENOUGH_PASSES): State.HEALTHY,
    (State.UNHEALTHY, Result.FAIL): State.UNHEALTHY,
    (State.UNHEALTHY, Result.ENOUGH_FAILS): State.UNHEALTHY,
    (State.RECOVERING, Result.PASS): State.RECOVERING,
    (State.RECOVERING, Result.ENOUGH_PASSES): State.HEALTHY,
    (State.RECOVERING, Result.FAIL): State.UNHEALTHY,
    (State.RECOVERING, Result.ENOUGH_FAILS): State.UNHEALTHY,
}

OUT: Final = frozenset({State.UNHEALTHY, State.RECOVERING})
"""The states in which a backend gets no requests."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how patiently a backend is probed; durations in seconds."""

    interval: float
    """From the start of a probe to that of the next; above 0."""
    failure_threshold: int
    """Failures in a row that take it out; at least 1."""
    success_threshold: int
    """Passes in a row that bring it back; at least 1."""
    cooldown: float
    """From the end of what took it out to the first probe that may bring it back; doubled by each
    that fails. 0: it is probed every `interval` as ever."""
    max_cooldown: float
    """What the doubling stops at; at least `cooldown`."""
    jitter: float
    """The share, from 0 to below 1, by which an interval may be shorter and a cooldown longer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a backend between two probes."""

    state: State = State.UNKNOWN
    failures: int = 0
    """Failures in a row."""
    passes: int = 0
    """Passes in a row."""
    setbacks: int = 0
    """Probes that failed since it was taken out."""


def judge(before: Standing, pace: Pace, *, passed: bool) -> Standing:
    """Enter the result of a probe."""
    failures = 0 if passed else min(before.failures + 1, _MOST)
    passes = min(before.passes + 1, _MOST) if passed else 0
    if passed:
        result = Result.ENOUGH_PASSES if passes >= pace.success_threshold else Result.PASS
    else:
        result = Result.ENOUGH_FAILS if failures >= pace.failure_threshold else Result.FAIL
    state = TRANSITIONS[before.state, result]
    if state not in OUT or before.state not in OUT:
        setbacks = 0
    else:
        setbacks = before.setbacks if passed else min(before.setbacks + 1, _MOST)
    return Standing(state, failures, passes, setbacks)


def next_probe(standing: Standing, pace: Pace, began: float, now: float, chance: float) -> float:
    """Say when the next probe is due after one that `began`, and has ended `now`.

    `chance` is a random number in [0, 1). Intervals are only ever made shorter by it, so that a
    backend is out at the latest `failure_threshold` intervals and one timeout after it fails.
    """
    if standing.state is State.UNHEALTHY and pace.cooldown > 0:
        doublings = min(standing.setbacks, _MOST_DOUBLINGS)
        wait = min(pace.max_cooldown, pace.cooldown * 2.0**doublings)
        return now + wait * (1 + pace.jitter * chance)
    # Where the probe took as long as the interval, as where the clock jumps, not at once again.
    return max(began + pace.interval * (1 - pace.jitter * chance), now + pace.interval / 10)


def first_probe(standing: Standing, pace: Pace, due: float, now: float, chance: float) -> float:
    """Say when to begin with a backend: at once, or when it was `due` for who probed it before.

    `due` is 0 where nobody did. Where it is further away than any wait of this pace (a new
    configuration, which is more eager), the wait is that of this pace.
    """
    if standing.state is State.UNKNOWN:
        return now
    return max(now, min(due, next_probe(standing, pace, now, now, chance)))
