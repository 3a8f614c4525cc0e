"""How load is shared between groups of backends of which the earlier are preferred.

The rule is Envoy's for priority levels: a group takes as much as its well part can carry, and a
group is thought to have 40 % more room than it needs ("overprovisioning factor" 1.4), so the
next one is asked only when less than 1/1.4, about 71 %, of it is well. What is left over goes to
the next group, by the same rule. Where all of them together cannot carry it, each takes its part
of it all the same.

The panic threshold is Envoy's as well: when all tiers together cannot carry the load, health is
ignored in a tier of which less than this part is well, for it may be the judgement that is wrong,
and the few that are left would fall next. When that is so in every tier, all of them share the
load by their weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

OVERPROVISIONING: Final = 1.4
"""Envoy's default, `overprovisioning_factor: 140`."""


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of the weights of some backends, each a part of the one before."""

    whole: int = 0
    """Of all of them, also of those that the operator drains or took out."""
    wanted: int = 0
    """Of those that the operator wants to serve."""
    usable: int = 0
    """Of those among them that may serve when health is ignored."""
    well: int = 0
    """Of those among them that are well."""

    @property
    def capacity(self) -> float:
        """The part of the load, 0 to 1, that it can carry; 0 without any weight."""
        return min(1.0, self.well * OVERPROVISIONING / self.whole) if self.whole else 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a tier gets."""

    part: float
    """Of the upstream's load; those of all tiers add up to 1, or to 0 when nobody may serve."""
    is_panic: bool = False
    """Whether health is ignored in it."""


def shares(capacities: Iterable[float]) -> list[float]:
    """Share the load out, the preferred first: parts of 1, or all 0 when nobody can carry any.

    `capacities` are 0 or more each.
    """
    left = 1.0
    taken = []
    for able in capacities:
        taken.append(min(able, left))
        left -= taken[-1]
    return _parts(taken)


def loads(tiers: Sequence[Group], panic_threshold: float) -> list[Load]:
    """Share the load out between tiers, the preferred first.

    `panic_threshold`: the part of a tier, 0 to 1, of which less has to be well; 0: never.
    """
    capacities = [tier.capacity for tier in tiers]
    suffice = sum(capacities) >= 1.0
    panics = [not suffice and tier.well < panic_threshold * tier.wanted for tier in tiers]
    if all(is_panic or not tier.wanted for tier, is_panic in zip(tiers, panics, strict=True)):
        parts = _parts([float(tier.usable) for tier in tiers])
    else:
        parts = shares(capacities)
    return [Load(part, is_panic and part > 0) for part, is_panic in zip(parts, panics, strict=True)]


def _parts(taken: Sequence[float]) -> list[float]:
    total = sum(taken)
    return [one / total if total > 0 else 0.0 for one in taken]
