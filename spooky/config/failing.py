"""What the configuration says of backends that fail requests: passive health, circuit breaker.

Part of the model (`model.py`): frozen objects with every default, and nothing else. Durations are
seconds. A count or factor of 0 switches its rule off.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PassiveHealth:
    """When a backend that fails requests is kept from them for a while; `off`: never."""

    consecutive_connect_failures: int = 3
    """Failures to connect in a row; 0: they do not count."""
    consecutive_timeouts: int = 5
    """Requests in a row without an answer in time; 0: they do not count."""
    consecutive_resets: int = 5
    """Requests in a row that were reset, lost with their connection or answered with nonsense;
    0: they do not count."""
    consecutive_5xx: int = 0
    """Answers in a row with a status of 500 to 599; 0: they do not count."""
    success_rate_stdev_factor: float = 0.0
    """Standard deviations below the mean success rate of the upstream; 0: rates are not
    compared."""
    latency_factor: float = 0.0
    """Times the median of the upstream's mean times to answer; 0: times are not compared."""
    window: float = 10.0
    """Over which backends are compared."""
    minimum_requests: int = 100
    """That a backend must have had in the window to be compared."""
    minimum_backends: int = 5
    """That must have had so many, for there to be a comparison."""
    ejection_time: float = 10.0
    """How long a backend is away, times how often it was ejected."""
    max_ejection_time: float = 300.0
    """The longest time away; at least `ejection_time`."""
    max_ejection_percent: int = 50
    """Of the upstream's backends, that may be away at a time; at least one of several may."""


NO_PASSIVE_HEALTH = PassiveHealth(
    consecutive_connect_failures=0, consecutive_timeouts=0, consecutive_resets=0
)
"""`passive_health: off`."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """When no requests are sent to a backend, and how it is tried again."""

    consecutive_failures: int = 5
    """Failures of any kind in a row, answers of 5xx among them, that open it; 0: they do not."""
    failure_percent: int = 50
    """Of the requests in the window, whose failure opens it; 0: none does."""
    minimum_requests: int = 20
    """In the window, for the percentage to mean anything."""
    window: float = 10.0
    """Over which the percentage is taken."""
    open_time: float = 5.0
    """How long it is open before a round of trials, twice as long after each that fails."""
    max_open_time: float = 60.0
    """The longest of these times; at least `open_time`."""
    trials: int = 3
    """Requests that a round of trials admits, over all workers."""
    trial_successes: int = 2
    """Of them that must succeed to close it; at most `trials`."""
