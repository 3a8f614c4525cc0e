"""Balancers for tests, and a feed that is what the test says."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from spooky.policy.balance import Balancer, make_balancer


@dataclass(frozen=True)
class Choice:
    """Settings of a balancer."""

    type: str
    bound: int | None = None


@dataclass
class Known:
    """What is known of some backends, and the balancer that is told of changes."""

    flying: list[int]
    slowness: list[float] = field(default_factory=list)
    balancer: Balancer | None = None

    def in_flight(self, place: int) -> int:
        return self.flying[place]

    def total_in_flight(self) -> int:
        return sum(self.flying)

    def latency(self, place: int) -> float:
        return self.slowness[place] if self.slowness else 0.0

    def change(self, place: int, by: int) -> None:
        self.flying[place] += by
        if self.balancer is not None and self.balancer.notice is not None:
            self.balancer.notice(place)


def names(count: int) -> list[str]:
    return [f"http://10.0.{place // 250}.{place % 250}:8080" for place in range(count)]


def make(
    kind: str,
    weights: Sequence[int],
    *,
    bound: int | None = None,
    seed: int = 1,
    named: Sequence[str] = (),
) -> tuple[Balancer, Known]:
    """Make a balancer over idle backends."""
    known = Known([0] * len(weights))
    known.balancer = make_balancer(
        Choice(kind, bound),
        named or names(len(weights)),
        weights,
        known,
        random.Random(seed).random,
    )
    return known.balancer, known


def keys(count: int, seed: int = 3) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(64) for _ in range(count)]
