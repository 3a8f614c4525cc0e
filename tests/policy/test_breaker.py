"""The circuit breaker."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.breaker import (
    TRANSITIONS,
    Breaker,
    BreakerSettings,
    BreakerStatus,
    Event,
    State,
    trial_share,
)
from spooky.policy.tally import Tally

SETTINGS = BreakerSettings(
    consecutive_failures=5,
    failure_percent=50,
    minimum_requests=20,
    window=10,
    open_time=5,
    max_open_time=30,
    trials=3,
    successes=2,
)


class Backend:
    """A backend's breaker and sums."""

    def __init__(self, settings: BreakerSettings = SETTINGS) -> None:
        self.breaker = Breaker(settings, BreakerStatus())
        self.sums = Tally()
        self.now = 100.0
        self.look(0)

    def look(self, seconds: float, **counts: int) -> str:
        self.now += seconds
        more = {name: getattr(self.sums, name) + count for name, count in counts.items()}
        self.sums = replace(self.sums, **more)
        change = self.breaker.observe(self.sums, self.now)
        return f"{change.status.state.name}: {change.reason}" if change else ""

    def half_open(self) -> "Backend":
        self.look(0, resets=4)
        assert self.look(0, resets=1) == "OPEN: 5 failures in a row"
        assert self.look(5) == "HALF_OPEN: to try again"
        return self


def test_the_table_leaves_no_state_without_a_way_out() -> None:
    for state in State:
        targets = {to for (start, _), to in TRANSITIONS.items() if start is state}
        assert targets - {state}
    assert (State.OPEN, Event.FAILED) not in TRANSITIONS, "what fails late changes nothing"


@pytest.mark.parametrize(
    ("looks", "last"),
    [
        pytest.param([{"resets": 3}, {"resets": 1}], "", id="too few in a row"),
        pytest.param([{"resets": 4}, {"resets": 1}], "OPEN: 5 failures in a row", id="in a row"),
        pytest.param([{"resets": 9}], "", id="perhaps one event"),
        pytest.param(
            [{"resets": 2}, {}, {"timeouts": 1, "errors": 1}, {"connect_failures": 1}],
            "OPEN: 5 failures in a row",
            id="of any kind",
        ),
        pytest.param([{"resets": 4}, {"successes": 1}, {"resets": 4}], "", id="not in a row"),
        pytest.param(
            [{"successes": 10, "errors": 10}], "OPEN: 10 of 20 requests failed", id="by the rate"
        ),
        pytest.param([{"successes": 11, "errors": 10}], "", id="below the rate"),
        pytest.param([{"successes": 9, "errors": 10}], "", id="too few to say"),
    ],
)
def test_it_opens(looks: list[dict[str, int]], last: str) -> None:
    backend = Backend()
    told = [backend.look(0.05, **counts) for counts in looks]
    assert told[-1] == last
    assert not any(told[:-1])


def test_each_rule_may_be_switched_off() -> None:
    backend = Backend(replace(SETTINGS, consecutive_failures=0))
    assert backend.look(0, resets=19) == ""
    assert backend.look(0, resets=1) == "OPEN: 20 of 20 requests failed"
    backend = Backend(replace(SETTINGS, failure_percent=0))
    assert backend.look(0, resets=500, successes=1) == ""


def test_failures_of_another_window_do_not_count() -> None:
    backend = Backend()
    assert backend.look(1, successes=10, errors=9) == ""
    assert backend.look(10) == ""
    assert backend.look(1, successes=1, errors=1) == ""


def test_trials_that_succeed_close_it() -> None:
    backend = Backend().half_open()
    assert backend.look(0.05, successes=1) == ""
    assert backend.look(0.05, successes=1) == "CLOSED: 2 trials succeeded"
    assert backend.breaker.status == BreakerStatus(State.CLOSED, 0.0, 1, 0)
    assert backend.look(0.05, resets=4) == "", "and nothing is held against it"


def test_a_trial_that_fails_opens_it_for_longer_up_to_the_cap() -> None:
    backend = Backend().half_open()
    lengths = []
    for _ in range(4):
        assert backend.look(0.05, successes=1, errors=1) == "OPEN: a trial failed"
        lengths.append(backend.breaker.status.until - backend.now)
        assert backend.look(lengths[-1] - 0.01) == ""
        assert backend.look(0.02) == "HALF_OPEN: to try again"
    assert lengths == pytest.approx([10, 20, 30, 30])


def test_lost_trials_are_followed_by_another_round() -> None:
    backend = Backend().half_open()
    assert backend.breaker.status.round == 1
    assert backend.look(5) == ""
    assert backend.breaker.status.round == 2
    assert backend.look(0.05, successes=2) == "CLOSED: 2 trials succeeded"


def test_trials_of_several_rounds_add_up() -> None:
    """Where one worker has all the traffic, and one trial in a round at most."""
    backend = Backend().half_open()
    assert backend.look(0.05, successes=1) == ""
    assert backend.look(5) == ""
    assert backend.breaker.status.round == 2
    assert backend.look(0.05, successes=1) == "CLOSED: 2 trials succeeded"


def test_a_trial_of_a_later_round_that_fails_takes_all_back() -> None:
    backend = Backend().half_open()
    backend.look(0.05, successes=1)
    backend.look(5)
    assert backend.look(0.05, resets=1) == "OPEN: a trial failed"
    assert backend.look(10) == "HALF_OPEN: to try again"
    assert backend.look(0.05, successes=1) == ""


def test_a_breaker_of_before_goes_on() -> None:
    status = BreakerStatus(State.OPEN, until=50, round=4, openings=2)
    breaker = Breaker(SETTINGS, status)
    assert breaker.observe(Tally(errors=900), 40) is None
    assert breaker.status == status
    change = breaker.observe(Tally(errors=900), 50)
    assert change is not None
    assert (change.status.state, change.status.round) == (State.HALF_OPEN, 5)


COUNTS = st.fixed_dictionaries(
    {name: st.integers(0, 6) for name in ("successes", "errors", "connect_failures", "resets")}
)
STEPS = st.lists(
    st.tuples(st.one_of(st.just(0.0), st.floats(0, 6), st.floats(-1e7, 1e7)), COUNTS), max_size=60
)


@given(STEPS)
def test_whatever_the_clock_does_it_follows_the_table_and_comes_back(
    steps: list[tuple[float, dict[str, int]]],
) -> None:
    backend = Backend()
    for seconds, counts in steps:
        before = backend.breaker.status
        told = backend.look(seconds, **counts)
        after = backend.breaker.status
        assert bool(told) == (after.state is not before.state)
        if told:
            assert after.state in {
                to for (start, _), to in TRANSITIONS.items() if start is before.state
            }
        assert after.round - before.round in (0, 1)
        assert after.round == before.round or after.state is State.HALF_OPEN
        assert after.until <= backend.now + SETTINGS.max_open_time or after.state is State.CLOSED
        if before.state is State.OPEN:
            assert after.state is not State.CLOSED, "never without a trial"
        if before.state is State.HALF_OPEN and any(
            v for k, v in counts.items() if k != "successes"
        ):
            assert after.state is State.OPEN
    backend.look(SETTINGS.max_open_time)
    assert backend.breaker.status.state is not State.OPEN
    backend.look(0, successes=SETTINGS.successes)
    assert backend.breaker.status.state is State.CLOSED


@given(st.integers(0, 50), st.integers(0, 1000), st.integers(1, 40))
def test_the_shares_of_the_workers_are_the_trials(trials: int, number: int, workers: int) -> None:
    shares = [trial_share(trials, number, index, workers) for index in range(workers)]
    assert sum(shares) == trials
    assert max(shares) - min(shares) <= 1


def test_each_worker_has_a_trial_in_some_round() -> None:
    for index in range(4):
        assert any(trial_share(1, number, index, 4) for number in range(4))
