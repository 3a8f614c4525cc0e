"""The backends of one upstream, weighed again whenever something of them has changed.

It is for whoever follows an upstream for long: workers, which balance by it, and the keeper,
which tells of it. Both have the same rows before them and come to the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from spooky.policy.eligibility import Member, Rules, Weighing, weigh

Fitness: TypeAlias = tuple[bool, bool, bool, bool, bool, float, float]
"""What is known of a backend beside the configuration: the fields of `Member` from `is_out` on."""


class Row(Protocol):
    """Where it is known."""

    def deciding(self) -> list[int]:
        """Return what `weight_of` and `fitness` go by, time aside: unchanged, so are they."""

    def weight_of(self, configured: int) -> int:
        """Say which weight holds in place of the configured one."""

    def fitness(self, now_ms: int) -> Fitness:
        """Say how it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """A backend of the upstream as the configuration has it, and its row."""

    weight: int
    tier: int
    zone: str
    row: Row

    def member(self, now_ms: int) -> Member:
        """Say what is known of it."""
        weight = self.row.weight_of(self.weight)
        return Member(weight, self.tier, self.zone, *self.row.fitness(now_ms))


class Census:
    """All of them."""

    def __init__(self, places: Sequence[Place], rules: Rules) -> None:
        """Take the backends in the order of the configuration."""
        self._places = places
        self._rules = rules
        self._seen: list[list[int]] | None = None
        self.due_ms = math.inf
        """When the passing of time alone changes something."""

    def take(self, now_ms: int) -> Weighing | None:
        """Weigh them if it may come out otherwise than the last time; None where it cannot."""
        seen = [place.row.deciding() for place in self._places]
        if seen == self._seen and now_ms < self.due_ms:
            return None
        self._seen = seen
        weighing = weigh([place.member(now_ms) for place in self._places], self._rules)
        again_in = weighing.again_in
        self.due_ms = math.inf if again_in is None else now_ms + again_in * 1000
        return weighing
