"""Which backends of an upstream may get requests now, how much each, and why.

One look at all of them gives the weights that balancers share the requests out by. What the
operator took away (weight 0, draining, out) never gets new requests, nor does a backend whose
breaker is open, even in a panic. Of the rest, tiers are asked in their order and the own zone
first in each, as far as what is well of them carries the load (`overflow.py`); one that came back
gets its weight bit by bit (`slow_start.py`).

The weights are whole numbers: those of the configuration as long as all that serve have just
those, otherwise others in the right proportion, to half a percent.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from spooky.policy import slow_start
from spooky.policy.overflow import Group, loads, shares

_LEAST_PART: Final = 0.001
_SCALES: Final = (1, 10, 100, 1000)
_TOLERANCE: Final = 0.005
"""A share may be off by so much of itself, for the sake of smaller weights."""


class Standing(Enum):
    """Why a backend has the weight that it has; the words are for operators."""

    SERVING = "serving"
    SLOW_START = "slow start"
    DEGRADED = "degraded"
    PANIC = "panic"
    """Health is ignored: it gets requests though it is not well."""
    STANDBY = "standby"
    """The tiers before it suffice."""
    OTHER_ZONE = "other zone"
    """What is well of the own zone suffices."""
    NO_WEIGHT = "weight 0"
    DRAINING = "draining"
    OUT = "out"
    BREAKER_OPEN = "breaker open"
    UNHEALTHY = "unhealthy"
    EJECTED = "ejected"


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of one backend of an upstream."""

    weight: int = 100
    """Its share against the others, 0 to 1000; 0: no new requests."""
    tier: int = 0
    """0: primary; 1 and more: backups, in this order."""
    zone: str = ""
    """Where it stands; "": not said, and then it is nobody's own."""
    is_out: bool = False
    """The operator took it out."""
    is_draining: bool = False
    """It gets no new requests, but keeps its sessions."""
    is_breaker_open: bool = False
    is_unhealthy: bool = False
    """Probes or failures say so."""
    is_ejected: bool = False
    """It does worse than the others."""
    part: float = 1.0
    """Of its weight that it has while it is not quite well; over 0, up to 1."""
    well_for: float = math.inf
    """Seconds since it became well; infinite where it was never known to be otherwise."""

    def objection(self) -> Standing | None:
        """Say what keeps requests from it, the operator's word before ours; None: nothing."""
        if self.is_out:
            return Standing.OUT
        if self.is_draining:
            return Standing.DRAINING
        if self.weight <= 0:
            return Standing.NO_WEIGHT
        if self.is_breaker_open:
            return Standing.BREAKER_OPEN
        if self.is_unhealthy:
            return Standing.UNHEALTHY
        return Standing.EJECTED if self.is_ejected else None

    def keeps_sessions(self, *, is_panic: bool) -> bool:
        """Say whether it may serve sessions that it has, though perhaps no new ones."""
        is_ill = (self.is_unhealthy or self.is_ejected) and not is_panic
        return not (self.is_out or self.is_breaker_open or is_ill)


_UNWANTED: Final = frozenset((Standing.OUT, Standing.DRAINING, Standing.NO_WEIGHT))
_ILL: Final = frozenset((Standing.UNHEALTHY, Standing.EJECTED))
"""What a panic overrules."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says of an upstream's backends together."""

    slow_start: float = 0.0
    """Seconds in which a backend that came back gets its whole weight again; 0: at once."""
    panic_threshold: float = 0.01
    """The part of a tier's weight, 0 to 1, of which less has to be well for health to be ignored;
    0: it never is."""
    zone: str = ""
    """The own zone; "": none, all zones are alike."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """What came of a look at all backends, each at its place."""

    weights: tuple[int, ...]
    standings: tuple[Standing, ...]
    keeps: tuple[bool, ...]
    """Whether it may serve the sessions that it has: a backend that is draining, of weight 0 or
    on standby still does."""
    again_in: float | None
    """Seconds after which it would come out otherwise though nothing else happens."""


class _Place:
    """One backend while it is looked at."""

    __slots__ = ("member", "objection", "part", "raw")

    def __init__(self, member: Member, window: float) -> None:
        self.member = member
        self.objection = member.objection()
        # An ill backend that is used in a panic is not nursed: there is nobody to spare it.
        nursed = self.objection is None
        part = max(member.part, _LEAST_PART) * slow_start.share(member.well_for, window)
        self.part = part if nursed else 1.0
        self.raw = 0.0

    @property
    def is_well(self) -> bool:
        return self.objection is None

    @property
    def is_usable(self) -> bool:
        return self.objection is None or self.objection in _ILL

    def standing(self, weight: int, *, is_asked: bool, window: float) -> Standing:
        if not weight:
            idle = Standing.OTHER_ZONE if is_asked else Standing.STANDBY
            return self.objection or idle
        if self.objection:
            return Standing.PANIC
        if slow_start.share(self.member.well_for, window) < 1:
            return Standing.SLOW_START
        return Standing.DEGRADED if self.member.part < 1 else Standing.SERVING


def weigh(members: Sequence[Member], rules: Rules) -> Weighing:
    """Look at the backends of an upstream, in the order of the configuration.

    A weight is 0 for whoever must not get new requests or is not asked for now, at least 1 for
    all others. All are 0 only when nobody may serve.
    """
    places = [_Place(member, rules.slow_start) for member in members]
    tiers = _by_tier(places)
    tier_loads = loads([_sums(tier) for tier in tiers.values()], rules.panic_threshold)
    load_of = dict(zip(tiers, tier_loads, strict=True))
    for number, tier in tiers.items():
        load = load_of[number]
        if load.is_panic:
            _give([place for place in tier if place.is_usable], load.part)
        else:
            _give_by_zone([place for place in tier if place.is_well], tier, load.part, rules.zone)
    weights = _whole_numbers(places)
    asked = [load_of[member.tier] for member in members]
    return Weighing(
        weights=tuple(weights),
        standings=tuple(
            place.standing(weight, is_asked=load.part > 0, window=rules.slow_start)
            for place, weight, load in zip(places, weights, asked, strict=True)
        ),
        keeps=tuple(
            member.keeps_sessions(is_panic=load.is_panic)
            for member, load in zip(members, asked, strict=True)
        ),
        again_in=_again_in(places, rules.slow_start),
    )


def _by_tier(places: Iterable[_Place]) -> dict[int, list[_Place]]:
    tiers: dict[int, list[_Place]] = {}
    for place in places:
        tiers.setdefault(place.member.tier, []).append(place)
    return dict(sorted(tiers.items()))


def _sums(places: Iterable[_Place]) -> Group:
    whole = wanted = usable = well = 0
    for place in places:
        weight = place.member.weight
        whole += weight
        if place.objection not in _UNWANTED:
            wanted += weight
        if place.is_usable:
            usable += weight
        if place.is_well:
            well += weight
    return Group(whole, wanted, usable, well)


def _give(places: Sequence[_Place], part: float) -> None:
    """Share a part of the upstream's load out by weight."""
    raw = [place.member.weight * place.part for place in places]
    total = sum(raw)
    for place, one in zip(places, raw, strict=True):
        place.raw = one * part / total


def _give_by_zone(well: Sequence[_Place], tier: Sequence[_Place], part: float, zone: str) -> None:
    """Share a tier's part of the load out between the own zone and the others."""
    own = [place for place in well if zone and place.member.zone == zone]
    others = [place for place in well if not (zone and place.member.zone == zone)]
    all_own = _sums(place for place in tier if place.member.zone == zone)
    own_part, others_part = shares([all_own.capacity if own else 0.0, 1.0 if others else 0.0])
    _give(own, part * own_part)
    _give(others, part * others_part)


def _whole_numbers(places: Sequence[_Place]) -> list[int]:
    """Make whole numbers of the shares: the weights of the configuration where they are in them.

    Else nobody's is higher than there, as far as whole numbers can say it.
    """
    rates = [place.raw / place.member.weight for place in places if place.raw > 0]
    if not rates:
        return [0] * len(places)
    most, least = max(rates), min(rates)
    if most - least <= most * 1e-9:
        return [place.member.weight if place.raw > 0 else 0 for place in places]
    exact = [place.raw / most for place in places]
    scale = next((one for one in _SCALES if _is_close(exact, one)), _SCALES[-1])
    return [max(1, round(one * scale)) if one > 0 else 0 for one in exact]


def _is_close(exact: Iterable[float], scale: int) -> bool:
    return all(abs(round(one * scale) - one * scale) <= one * scale * _TOLERANCE for one in exact)


def _again_in(places: Iterable[_Place], window: float) -> float | None:
    if window <= 0:
        return None
    steps = [
        step
        for place in places
        if place.is_well
        and (step := slow_start.next_step_in(place.member.well_for, window)) is not None
    ]
    return min(steps, default=None)
