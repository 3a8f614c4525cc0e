"""Passive health of one upstream."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.deviation import DeviationSettings
from spooky.policy.ejection import EjectionSettings, Standing
from spooky.policy.outlier import OutlierDetector, OutlierSettings, Verdict
from spooky.policy.tally import Failure, Tally

SETTINGS = OutlierSettings(
    consecutive={Failure.CONNECT: 3, Failure.RESET: 5},
    window=10,
    deviation=DeviationSettings(0, 0, 100, 3),
    ejection=EjectionSettings(base_time=10, max_time=60, max_percent=50),
)


class Upstream:
    """Backends and what workers add up of them."""

    def __init__(self, backends: int, settings: OutlierSettings = SETTINGS) -> None:
        self.detector = OutlierDetector(settings, backends)
        self.standings = [Standing()] * backends
        self.sums = [Tally()] * backends
        self.now = 1000.0
        self.look(0)

    def add(self, place: int, **counts: int) -> None:
        more = {name: getattr(self.sums[place], name) + count for name, count in counts.items()}
        self.sums[place] = replace(self.sums[place], **more)

    def look(self, seconds: float) -> list[tuple[int, Verdict, str]]:
        self.now += seconds
        changes = self.detector.observe(self.sums, self.standings, self.now)
        for change in changes:
            self.standings[change.place] = change.standing
        return [
            (change.place, change.verdict, change.reason)
            for change in changes
            if change.verdict is not Verdict.AGED
        ]

    def fail(self, place: int) -> list[tuple[int, Verdict, str]]:
        """Let it fail to connect three times, in two looks."""
        self.add(place, connect_failures=2)
        told = self.look(0)
        self.add(place, connect_failures=1)
        return told + self.look(0)

    def away(self) -> list[int]:
        found = enumerate(self.standings)
        return [place for place, standing in found if standing.ejected]


@pytest.mark.parametrize(
    ("looks", "reason"),
    [
        ([{"connect_failures": 1}] * 2, ""),
        ([{"connect_failures": 1}] * 3, "3 connect failures in a row"),
        ([{"connect_failures": 90}], ""),
        ([{"connect_failures": 90}, {}, {"connect_failures": 1}], "91 connect failures in a row"),
        ([{"resets": 2}] * 2, ""),
        ([{"resets": 4}, {"resets": 1}], "5 resets in a row"),
        ([{"timeouts": 99, "errors": 99}] * 3, ""),
        ([{"connect_failures": 2, "successes": 1}] * 3, ""),
        ([{"connect_failures": 2}, {"successes": 1}, {"connect_failures": 2}], ""),
    ],
)
def test_failures_in_a_row_eject(looks: list[dict[str, int]], reason: str) -> None:
    upstream = Upstream(3)
    told = []
    for counts in looks:
        upstream.add(1, **counts)
        told += upstream.look(0.05)
    assert told == ([(1, Verdict.EJECTED, reason)] if reason else [])
    assert upstream.away() == ([1] if reason else [])


def test_the_first_failure_ejects_where_one_is_enough() -> None:
    upstream = Upstream(2, replace(SETTINGS, consecutive={Failure.TIMEOUT: 1}))
    upstream.add(0, timeouts=1)
    assert upstream.look(0.05) == [(0, Verdict.EJECTED, "1 timeouts in a row")]


def test_it_returns_and_leaves_again_for_longer() -> None:
    upstream = Upstream(2)
    assert upstream.fail(0) == [(0, Verdict.EJECTED, "3 connect failures in a row")]
    upstream.add(0, connect_failures=9)
    assert upstream.look(9.9) == []
    assert upstream.look(0.1) == [(0, Verdict.RETURNED, "its time away is over")]
    upstream.add(0, connect_failures=2)
    assert upstream.look(0.05) == [], "what failed before is forgotten"
    upstream.add(0, connect_failures=1)
    assert upstream.look(0) == [(0, Verdict.EJECTED, "3 connect failures in a row")]
    assert upstream.look(19.9) == []
    assert upstream.look(0.1) == [(0, Verdict.RETURNED, "its time away is over")]


def test_only_so_many_are_away_and_the_next_one_is_when_there_is_room() -> None:
    upstream = Upstream(3)
    assert [verdict for _, verdict, _ in upstream.fail(0)] == [Verdict.EJECTED]
    assert [verdict for _, verdict, _ in upstream.fail(1)] == [Verdict.SPARED]
    for _ in range(3):
        upstream.add(1, connect_failures=3)
        assert upstream.look(0.05) == [], "said once"
    upstream.add(1, connect_failures=1)
    assert [(place, verdict) for place, verdict, _ in upstream.look(10)] == [
        (0, Verdict.RETURNED),
        (1, Verdict.EJECTED),
    ]


def test_who_is_spared_after_it_has_answered_is_told_of_again() -> None:
    upstream = Upstream(3)
    upstream.fail(0)
    assert [verdict for _, verdict, _ in upstream.fail(1)] == [Verdict.SPARED]
    upstream.add(1, successes=1)
    assert upstream.look(0.05) == []
    assert [verdict for _, verdict, _ in upstream.fail(1)] == [Verdict.SPARED]


def test_room_does_not_eject_by_old_evidence() -> None:
    upstream = Upstream(2)
    upstream.fail(0)
    upstream.fail(1)
    assert [verdict for _, verdict, _ in upstream.look(3600)] == [Verdict.RETURNED]
    assert upstream.away() == []


def test_sums_from_before_are_not_held_against_anybody() -> None:
    detector = OutlierDetector(SETTINGS, 2)
    sums = [Tally(connect_failures=500), Tally(resets=500)]
    for now in (5, 6, 7):
        assert detector.observe(sums, [Standing()] * 2, now) == []


def test_who_was_away_before_returns_in_time() -> None:
    detector = OutlierDetector(SETTINGS, 2)
    standings = [Standing(until=50, times=2), Standing(calm_since=40)]
    assert detector.observe([Tally()] * 2, standings, 40) == []
    [returned] = detector.observe([Tally()] * 2, standings, 50)
    assert (returned.verdict, returned.standing.times) == (Verdict.RETURNED, 2)


def test_who_another_upstream_has_ejected_counts_as_away() -> None:
    upstream = Upstream(3)
    upstream.standings[2] = Standing(until=1020, times=1)
    assert [verdict for _, verdict, _ in upstream.fail(0)] == [Verdict.SPARED]
    upstream.standings[2] = Standing()
    assert [verdict for _, verdict, _ in upstream.fail(0)] == [Verdict.EJECTED]


def compared() -> OutlierSettings:
    return replace(SETTINGS, deviation=DeviationSettings(1.2, 3, 100, 3))


def test_who_does_worse_over_a_window_is_ejected_at_its_end() -> None:
    upstream = Upstream(4, compared())
    for _ in range(9):
        for place in range(4):
            upstream.add(place, successes=20, errors=10 * (place == 2))
        assert upstream.look(1) == []
    [(place, verdict, reason)] = upstream.look(1)
    assert (place, verdict) == (2, Verdict.EJECTED)
    assert reason == "66.7% of its requests succeed, against 91.7% in the mean"


def test_who_was_away_during_a_window_is_not_compared() -> None:
    upstream = Upstream(4, compared())
    upstream.fail(2)
    for place in range(4):
        upstream.add(place, successes=200, errors=200 * (place == 2))
    assert upstream.look(9.9) == []
    assert upstream.look(1) == [(2, Verdict.RETURNED, "its time away is over")]
    for place in range(4):
        upstream.add(place, successes=200, errors=200 * (place == 2))
    assert upstream.look(9) == [], "back for part of this window only"


COUNTS = st.tuples(*[st.integers(0, 6)] * 5)
STEPS = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0, 5), st.floats(-1e7, 1e7)),
        st.lists(COUNTS, min_size=4, max_size=4),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 100))
def test_whatever_happens_enough_stay_and_all_return(
    steps: list[tuple[float, list[tuple[int, ...]]]], percent: int
) -> None:
    settings = replace(compared(), ejection=EjectionSettings(10, 60, percent))
    upstream = Upstream(4, settings)
    limit = max(1, 4 * percent // 100) if percent else 0
    for seconds, growths in steps:
        for place, counts in enumerate(growths):
            names = ("successes", "errors", "connect_failures", "timeouts", "resets")
            upstream.add(place, **dict(zip(names, counts, strict=True)))
        before = upstream.away()
        verdicts = upstream.look(seconds)
        after = upstream.away()
        assert len(after) <= limit
        ejected = {place for place, verdict, _ in verdicts if verdict is Verdict.EJECTED}
        returned = {place for place, verdict, _ in verdicts if verdict is Verdict.RETURNED}
        assert set(after) == (set(before) - returned) | ejected, "each change is told"
        assert all(one.until <= upstream.now + 60 for one in upstream.standings if one.until > 1)
    # What was seen once is judged when it is seen again, and at the end of its window.
    for seconds in (0.1, 0.1, 0.1, settings.window, 60.1):
        upstream.look(seconds)
    assert not upstream.away()
