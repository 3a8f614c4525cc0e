"""What an upstream's requests may be tried again, and beside one another.

Values with their defaults, as in `model.py`; the keys that become them are declared in
`repeat_tables.py`.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a request is tried again: by chance, up to a step that doubles."""

    initial: float = 0.0
    """The step before the first retry; 0: no wait before any."""
    max: float = 1.0
    """What no step exceeds; at least `initial`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of an upstream's requests may be tried again in all, over the last 10 s."""

    ratio: float = 0.2
    """Retries and hedges for each request."""
    minimum: float = 10.0
    """Retries and hedges a second besides, of all workers together."""


@dataclass(frozen=True, slots=True)
class Retries:
    """When a request is tried again after a try of it has failed.

    Only what is safe: a request that a backend may have acted on is repeated only if its method is
    idempotent (RFC 9110 section 9.2.2), and none whose content is no longer kept.
    """

    attempts: int = 2
    """Tries of one request, the first included; 1: nothing is repeated."""
    per_try_timeout: float = 0.0
    """From the start of a try, or from the end of the request if that is later, to the head of the
    response; 0: no limit."""
    on: tuple[str, ...] = (
        "connect-failure",
        "refused-stream",
        "connection-lost",
        "per-try-timeout",
    )
    """After which failures: `connect-failure`, `refused-stream`, `connection-lost`, `reset`,
    `per-try-timeout`."""
    statuses: tuple[int, ...] = ()
    """Statuses of a response that count as a failure, such as 502, 503 and 504."""
    backoff: Backoff = field(default_factory=Backoff)
    """How long to wait before each retry."""
    budget: Budget = field(default_factory=Budget)
    """How much may be repeated in all."""


@dataclass(frozen=True, slots=True)
class HedgeDelay:
    """A wait in seconds, or a percentile (0 to 100) of how long responses took to begin lately."""

    seconds: float = 0.0
    percentile: float | None = None


@dataclass(frozen=True, slots=True)
class Hedging:
    """A second try beside the first for safe requests that take long; the first response wins."""

    delay: HedgeDelay
    """How long the first try is waited for: a duration, or `p95` for the 95th percentile of recent
    requests."""
