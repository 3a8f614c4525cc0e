"""What one upstream's requests may repeat, as this worker knows it.

Made once from the configuration; it owns the worker's share of the retry budget and what hedging
has learnt of how long responses take.
"""

from collections.abc import Callable
from dataclasses import dataclass

from spooky.config.model import Upstream
from spooky.policy.budget import RetryBudget
from spooky.policy.hedging import HedgePolicy, Hedging
from spooky.policy.retry import Backoff, Cause, RetryPolicy


@dataclass(frozen=True, slots=True)
class Repetition:
    """The policies of an upstream that its requests' tries follow."""

    policy: RetryPolicy
    budget: RetryBudget
    hedging: Hedging | None
    deadline_header: bytes | None
    rand: Callable[[], float]


def make_repetition(
    upstream: Upstream, workers: int, now: float, rand: Callable[[], float]
) -> Repetition:
    """Make the policies of an upstream for one of so many workers; `now` seconds."""
    retries, hedging = upstream.retries, upstream.hedging
    name = upstream.timeouts.deadline_header
    return Repetition(
        RetryPolicy(
            retries.attempts,
            frozenset(Cause(word) for word in retries.on),
            frozenset(retries.statuses),
            retries.per_try_timeout,
            Backoff(retries.backoff.initial, retries.backoff.max),
        ),
        RetryBudget(retries.budget.ratio, retries.budget.minimum / workers, now),
        Hedging(HedgePolicy(hedging.delay.seconds, hedging.delay.percentile)) if hedging else None,
        name.encode() if name else None,
        rand,
    )
