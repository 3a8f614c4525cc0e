"""When a drained connection is closed: the rules, on a clock of their own."""

import pytest

from spooky.worker.farewell import (
    FIRST_REQUEST_S,
    HEAD_START_S,
    LAST_LOOK_S,
    STRETCH,
    Farewell,
    announcements,
)

FAST, SLOW, ABSURD = 0.03, 0.5, 60.0


def _farewell(since: float) -> Farewell:
    """Begin one that has said the first GOAWAY at 100."""
    farewell = Farewell(1.0, since, 100.0)
    farewell.announced = True
    return farewell


@pytest.mark.parametrize(
    ("probe_timeout", "quiet"), [(FAST, 1.0), (SLOW, 1.5), (ABSURD, 1.0 * STRETCH)]
)
def test_quiet_is_a_constant_or_what_the_path_needs(probe_timeout: float, quiet: float) -> None:
    assert _farewell(100.0).due(probe_timeout) == 100.0 + quiet


def test_it_is_over_after_a_quiet_period_and_a_last_look() -> None:
    farewell = _farewell(100.0)
    assert not farewell.is_over(100.9, FAST, busy=False)
    assert not farewell.is_over(101.0, FAST, busy=False)
    assert farewell.due(FAST) == pytest.approx(101.0 + LAST_LOOK_S)
    assert farewell.is_over(101.0 + LAST_LOOK_S, FAST, busy=False)


def test_a_request_found_by_the_last_look_is_served() -> None:
    farewell = _farewell(100.0)
    farewell.is_over(101.0, FAST, busy=False)
    assert not farewell.is_over(101.01, FAST, busy=True)
    assert farewell.due(FAST) is None
    assert not farewell.is_over(109.0, FAST, busy=False)
    assert farewell.due(FAST) == 110.0


def test_what_stirs_begins_the_quiet_period_anew() -> None:
    farewell = _farewell(100.0)
    farewell.is_over(101.0, FAST, busy=False)
    farewell.stir(101.02)
    assert not farewell.is_over(102.0, FAST, busy=False)
    assert farewell.due(FAST) == pytest.approx(102.02)


def test_once_it_refuses_it_is_over_with_the_last_request() -> None:
    farewell = _farewell(100.0)
    farewell.refusing = True
    assert not farewell.is_over(100.1, FAST, busy=True)
    assert farewell.is_over(100.2, FAST, busy=False)


def test_a_close_takes_no_longer_than_it_may() -> None:
    farewell = _farewell(100.0)
    assert not farewell.is_gone(1000.0)
    farewell.closes(100.0)
    farewell.closes(101.0)
    assert farewell.due(ABSURD) == 100.0 + STRETCH
    assert not farewell.is_gone(101.9)
    assert farewell.is_gone(102.0)


def test_a_connection_that_was_quiet_before_is_only_looked_at_once_more() -> None:
    farewell = Farewell(1.0, 90.0, 100.2)
    assert not farewell.is_over(100.0, FAST, busy=False)
    assert farewell.due(FAST) == pytest.approx(100.0 + LAST_LOOK_S)
    assert not farewell.announces(101.0)
    assert farewell.is_over(100.0 + LAST_LOOK_S, FAST, busy=False)


def test_a_connection_in_use_gets_its_first_goaway_in_its_turn() -> None:
    farewell = Farewell(1.0, 99.9, 100.5)
    assert not farewell.is_over(100.0, FAST, busy=True)
    assert farewell.due(FAST) == 100.5
    assert not farewell.announces(100.4)
    assert farewell.announces(100.5)
    farewell.announced = True
    assert not farewell.announces(100.6)
    assert farewell.due(FAST) is None


def test_first_goaways_follow_the_close_of_the_quiet_one_after_the_other() -> None:
    assert announcements(1.0, 4) == [
        pytest.approx(HEAD_START_S + quarter) for quarter in (0.0, 0.25, 0.5, 0.75)
    ]
    assert announcements(1.0, 0) == []
    assert HEAD_START_S > 2 * LAST_LOOK_S


@pytest.mark.parametrize(("quiet", "more"), [(1.0, FIRST_REQUEST_S), (0.25, 0.0)])
def test_a_first_request_may_take_longer_where_a_successor_serves(
    quiet: float, more: float
) -> None:
    farewell = Farewell(quiet, 100.0, 100.0)
    farewell.announced = True
    farewell.await_first_request()
    assert farewell.due(FAST) == 100.0 + quiet + more
    farewell.stir(102.0)
    assert farewell.due(FAST) == 102.0 + quiet, "it has asked"
