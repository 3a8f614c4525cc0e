"""The keys of `passive_health` and `circuit_breaker`, and what must hold between them.

Declarations like those of `tables.py`, of which they are a part.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from spooky.config.document import Finding, Places
from spooky.config.failing import NO_PASSIVE_HEALTH, CircuitBreaker, PassiveHealth
from spooky.config.scalars import decimal, duration, integer
from spooky.config.shapes import Field, OrOff, Section

_DAY = 86_400
_IN_A_ROW = integer(0, 1_000_000)
_WINDOW = duration(0.1, _DAY)
_TIME_AWAY = duration(0.1, _DAY)
_REQUESTS = integer(1, 1_000_000)


def _passive_health(values: dict[str, Any]) -> PassiveHealth:
    passive = PassiveHealth(**values)
    longest = max(passive.max_ejection_time, passive.ejection_time)
    return passive if "max_ejection_time" in values else replace(passive, max_ejection_time=longest)


def _circuit_breaker(values: dict[str, Any]) -> CircuitBreaker:
    """Let what is not said follow what is: `trials: 1` alone means one success."""
    breaker = CircuitBreaker(**values)
    following: dict[str, Any] = {
        "max_open_time": max(breaker.max_open_time, breaker.open_time),
        "trial_successes": min(breaker.trial_successes, breaker.trials),
    }
    return replace(breaker, **{key: v for key, v in following.items() if key not in values})


PASSIVE_HEALTH = OrOff(
    Section(
        PassiveHealth,
        {
            "consecutive_connect_failures": Field(_IN_A_ROW),
            "consecutive_timeouts": Field(_IN_A_ROW),
            "consecutive_resets": Field(_IN_A_ROW),
            "consecutive_5xx": Field(_IN_A_ROW),
            "success_rate_stdev_factor": Field(decimal(0, 100)),
            "latency_factor": Field(decimal(0, 1000)),
            "window": Field(_WINDOW),
            "minimum_requests": Field(_REQUESTS),
            "minimum_backends": Field(integer(2, 4096)),
            "ejection_time": Field(_TIME_AWAY),
            "max_ejection_time": Field(_TIME_AWAY),
            "max_ejection_percent": Field(integer(1, 100)),
        },
        _passive_health,
    ),
    NO_PASSIVE_HEALTH,
)

CIRCUIT_BREAKER = Section(
    CircuitBreaker,
    {
        "consecutive_failures": Field(_IN_A_ROW),
        "failure_percent": Field(integer(0, 100)),
        "minimum_requests": Field(_REQUESTS),
        "window": Field(_WINDOW),
        "open_time": Field(_TIME_AWAY),
        "max_open_time": Field(_TIME_AWAY),
        "trials": Field(integer(1, 1_000_000)),
        "trial_successes": Field(integer(1, 1_000_000)),
    },
    _circuit_breaker,
)


def check_passive_health(passive: PassiveHealth, key: str, known: Places) -> Iterator[Finding]:
    """Find what contradicts itself in the section at `key`."""
    if (
        known.is_sound(f"{key}.ejection_time", f"{key}.max_ejection_time")
        and passive.max_ejection_time < passive.ejection_time
    ):
        yield Finding(f"{key}.max_ejection_time", "is shorter than ejection_time")


def check_circuit_breaker(
    breaker: CircuitBreaker | None, key: str, known: Places
) -> Iterator[Finding]:
    """Find what contradicts itself in the section at `key`."""
    if breaker is None:
        return
    if (
        known.is_sound(f"{key}.open_time", f"{key}.max_open_time")
        and breaker.max_open_time < breaker.open_time
    ):
        yield Finding(f"{key}.max_open_time", "is shorter than open_time")
    if (
        known.is_sound(f"{key}.trials", f"{key}.trial_successes")
        and breaker.trial_successes > breaker.trials
    ):
        text = f"is more than trials, which is {breaker.trials}, so that it would never close"
        yield Finding(f"{key}.trial_successes", text)
    if (
        known.is_sound(f"{key}.consecutive_failures", f"{key}.failure_percent")
        and not breaker.consecutive_failures
        and not breaker.failure_percent
    ):
        text = "opens by nothing; give consecutive_failures or failure_percent, or leave it out"
        yield Finding(key, text)
