import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.eligibility import Member, Rules, Standing, weigh

WELL = Member()
SICK = Member(is_unhealthy=True)
BACKUP = Member(tier=1)
CALM = Rules(panic_threshold=0)
HALF = Rules(panic_threshold=0.5)

MEMBERS = st.builds(
    Member,
    weight=st.integers(0, 1000),
    tier=st.integers(0, 3),
    zone=st.sampled_from(["", "a", "b"]),
    is_out=st.booleans(),
    is_draining=st.booleans(),
    is_breaker_open=st.booleans(),
    is_unhealthy=st.booleans(),
    is_ejected=st.booleans(),
    part=st.floats(0, 1),
    well_for=st.floats(-10, 100) | st.just(math.inf),
)
RULES = st.builds(
    Rules,
    slow_start=st.floats(0, 60),
    panic_threshold=st.floats(0, 1),
    zone=st.sampled_from(["", "a", "c"]),
)


def may_serve(member: Member, rules: Rules) -> bool:
    ill = member.is_unhealthy or member.is_ejected
    return (
        member.weight > 0
        and not (member.is_out or member.is_draining or member.is_breaker_open)
        and (not ill or rules.panic_threshold > 0)
    )


@given(st.lists(MEMBERS, max_size=12), RULES)
def test_who_must_not_serve_never_does_and_somebody_does_who_may(
    members: list[Member], rules: Rules
) -> None:
    found = weigh(members, rules)
    for member, weight, keeps in zip(members, found.weights, found.keeps, strict=True):
        assert weight >= 0
        assert not weight or may_serve(member, rules)
        assert not weight or keeps
    assert any(found.weights) == any(may_serve(member, rules) for member in members)


@given(st.lists(MEMBERS, max_size=12), RULES)
def test_health_is_ignored_in_a_panic_only(members: list[Member], rules: Rules) -> None:
    found = weigh(members, rules)
    for member, weight, standing in zip(members, found.weights, found.standings, strict=True):
        ill = member.is_unhealthy or member.is_ejected
        assert (standing is Standing.PANIC) == bool(weight and ill)


@given(st.lists(MEMBERS, max_size=12), RULES)
def test_it_comes_out_the_same_until_it_says(members: list[Member], rules: Rules) -> None:
    found = weigh(members, rules)
    later = 1e6 if found.again_in is None else found.again_in * 0.99
    aged = [replace(one, well_for=max(one.well_for, 0) + later) for one in members]
    assert weigh(aged, rules).weights == found.weights


@given(st.lists(st.builds(Member, weight=st.integers(0, 1000)), max_size=12), RULES)
def test_where_nothing_is_the_matter_weights_are_those_of_the_file(
    members: list[Member], rules: Rules
) -> None:
    assert list(weigh(members, rules).weights) == [member.weight for member in members]


@given(st.integers(1, 1000), st.lists(st.floats(-1, 100), min_size=2, max_size=20))
def test_slow_start_never_falls(weight: int, times: list[float]) -> None:
    rules = Rules(slow_start=60)
    shares = []
    for well_for in sorted(times):
        weights = weigh([WELL, Member(weight, well_for=well_for)], rules).weights
        shares.append(weights[1] / sum(weights))
    assert shares == sorted(shares)


def shares_of(members: list[Member], rules: Rules) -> list[float]:
    weights = weigh(members, rules).weights
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(
    ("members", "rules", "shares"),
    [
        # One of two came back just now, and half of the way ago.
        ([WELL, Member(well_for=0)], Rules(slow_start=20), [20 / 21, 1 / 21]),
        ([WELL, Member(well_for=10)], Rules(slow_start=20), [20 / 31, 11 / 31]),
        # All came back together: nobody is there to spare them.
        ([Member(well_for=0)] * 2, Rules(slow_start=20), [0.5, 0.5]),
        ([WELL, Member(part=0.5)], CALM, [2 / 3, 1 / 3]),
        # A backup gets nothing while the primaries are well, and what they cannot carry after.
        ([WELL, WELL, BACKUP], CALM, [0.5, 0.5, 0]),
        ([WELL, SICK, BACKUP], CALM, [0.7, 0, 0.3]),
        ([SICK, SICK, BACKUP], CALM, [0, 0, 1]),
        ([SICK, replace(BACKUP, is_unhealthy=True), Member(tier=2)], CALM, [0, 0, 1]),
        # Whoever the operator takes out leaves room that is missing.
        ([WELL, Member(is_draining=True), BACKUP], CALM, [0.7, 0, 0.3]),
        ([Member(is_out=True), BACKUP], CALM, [0, 1]),
        ([Member(weight=0), BACKUP], CALM, [0, 1]),
        # Weights count, not heads.
        ([Member(900), Member(100, is_unhealthy=True), BACKUP], CALM, [1, 0, 0]),
        # Too few are well: all are used, as long as no backup can carry it.
        ([WELL, SICK, SICK], HALF, [1 / 3, 1 / 3, 1 / 3]),
        ([WELL, SICK], HALF, [1, 0]),
        ([SICK, SICK], HALF, [0.5, 0.5]),
        ([WELL, SICK, SICK, BACKUP], HALF, [7 / 15, 0, 0, 8 / 15]),
        ([SICK, replace(BACKUP, is_unhealthy=True)], HALF, [0.5, 0.5]),
        # Never a breaker that is open, nor what the operator took away.
        ([SICK, Member(is_breaker_open=True)], HALF, [1, 0]),
        ([SICK, Member(is_out=True), Member(is_draining=True)], HALF, [1, 0, 0]),
    ],
)
def test_shares(members: list[Member], rules: Rules, shares: list[float]) -> None:
    assert shares_of(members, rules) == pytest.approx(shares, abs=0.003)


A, B = Member(zone="a"), Member(zone="b")
A_SICK = replace(A, is_unhealthy=True)


@pytest.mark.parametrize(
    ("members", "zone", "shares"),
    [
        ([A, A, B, B], "a", [0.5, 0.5, 0, 0]),
        ([A, A_SICK, B, B], "a", [0.7, 0, 0.15, 0.15]),
        ([A_SICK, A_SICK, B, B], "a", [0, 0, 0.5, 0.5]),
        ([A, A, B, B], "", [0.25] * 4),
        ([A, A, B, B], "c", [0.25] * 4),
        ([A, replace(A, is_draining=True), B], "a", [0.7, 0, 0.3]),
        # The zone counts within a tier only.
        ([B, replace(A, tier=1)], "a", [1, 0]),
        # A single zone is all there is.
        ([A, A_SICK], "a", [1, 0]),
        # In a panic every zone is asked.
        ([A, B, A_SICK, A_SICK, A_SICK], "a", [0.2] * 5),
    ],
)
def test_zones(members: list[Member], zone: str, shares: list[float]) -> None:
    assert shares_of(members, Rules(panic_threshold=0.5, zone=zone)) == pytest.approx(
        shares, abs=0.003
    )


@pytest.mark.parametrize(
    ("member", "others", "standing", "keeps"),
    [
        (WELL, [], Standing.SERVING, True),
        (Member(weight=0), [], Standing.NO_WEIGHT, True),
        (Member(is_draining=True), [], Standing.DRAINING, True),
        (Member(is_draining=True, is_unhealthy=True), [WELL], Standing.DRAINING, False),
        (Member(is_out=True), [], Standing.OUT, False),
        (SICK, [WELL], Standing.UNHEALTHY, False),
        (Member(is_ejected=True), [WELL], Standing.EJECTED, False),
        (Member(is_breaker_open=True), [], Standing.BREAKER_OPEN, False),
        (SICK, [], Standing.PANIC, True),
        (BACKUP, [WELL], Standing.STANDBY, True),
        (B, [A], Standing.OTHER_ZONE, True),
        (Member(well_for=1), [WELL], Standing.SLOW_START, True),
        (Member(part=0.2), [WELL], Standing.DEGRADED, True),
    ],
)
def test_standings(member: Member, others: list[Member], standing: Standing, keeps: bool) -> None:
    found = weigh([member, *others], Rules(slow_start=10, zone="a"))
    assert (found.standings[0], found.keeps[0]) == (standing, keeps)


def test_in_a_panic_nobody_is_spared() -> None:
    nursed = replace(SICK, part=0.1, well_for=0.0)
    found = weigh([nursed, SICK], Rules(slow_start=10, panic_threshold=0.5))
    assert found.weights == (100, 100)


def test_who_may_serve_is_never_rounded_away() -> None:
    least = Member(weight=1, part=0.001, well_for=0.0)
    found = weigh([least, Member(weight=1000)], Rules(slow_start=10))
    assert found.weights[0] == 1


def test_nobody() -> None:
    found = weigh([], Rules())
    assert (found.weights, found.standings, found.again_in) == ((), (), None)
