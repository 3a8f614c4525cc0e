"""When a silent connection is asked for a sign of life, suspected, and given up."""

import pytest

from spooky.worker.silence import SUSPECT_S, Silence, Step

INTERVAL_S, TIMEOUT_S = 15.0, 5.0


def silence(interval: float = INTERVAL_S) -> Silence:
    """Make that of a connection that was heard at 100 s, by its SETTINGS."""
    one = Silence(interval, TIMEOUT_S, 99.0)
    one.heard(100.0)
    return one


def steps(one: Silence, *, until: float, began: float = 100.0) -> list[tuple[float, Step]]:
    """Look eight times a second while a request waits; return what was to be done, and when."""
    found: list[tuple[float, Step]] = []
    for eighth in range(int((until - began) * 8) + 1):
        now = began + eighth / 8
        step = one.look(now, is_awaited=True)
        if step is not Step.NOTHING:
            found.append((now - 100, step))
    return found


def test_a_silent_one_is_asked_early_suspected_and_given_up_when_the_operator_says() -> None:
    one = silence()
    assert steps(one, until=100.5) == [(0.375, Step.PING)]
    assert not one.is_suspect
    one.look(100.375 + SUSPECT_S + 0.001, is_awaited=True)
    assert one.is_suspect
    assert steps(one, began=101, until=119.9) == []
    assert one.look(100 + INTERVAL_S + TIMEOUT_S, is_awaited=True) is Step.GIVE_UP


def test_any_octet_ends_the_suspicion() -> None:
    one = silence()
    steps(one, until=102)
    assert one.is_suspect
    one.heard(102)
    assert not one.is_suspect
    assert steps(one, began=102, until=102.5) == [(2.375, Step.PING)]


def pings(one: Silence, began: int, until: int) -> list[int]:
    """Answer every PING, and nothing else; return when they came."""
    asked = []
    for eighth in range(8 * began, 8 * until):
        now = 100 + eighth / 8
        if one.look(now, is_awaited=True) is Step.PING:
            asked.append(round(now - 100))
            one.heard(now)
            one.heard_pong()
    assert not one.is_suspect
    return asked


def test_who_only_answers_pings_is_asked_ever_more_seldom() -> None:
    """gRPC servers take more than two in five minutes without a response for an attack."""
    assert pings(silence(), 0, 1000) == [0, 15, 325, 635, 945]


def test_a_new_request_is_awaited_as_the_first_was() -> None:
    one = silence()
    assert pings(one, 0, 100) == [0, 15]
    one.asked()
    assert pings(one, 100, 400) == [100]


def test_a_quiet_one_that_vanishes_is_given_up_when_its_ping_is_overdue() -> None:
    one = silence()
    assert pings(one, 0, 100) == [0, 15]
    asked, *rest = steps(one, began=420, until=425 + 2 * TIMEOUT_S)
    assert (round(asked[0]), asked[1]) == (325, Step.PING)
    assert one.is_suspect
    assert rest[0] == (asked[0] + TIMEOUT_S, Step.GIVE_UP)


def test_where_nobody_waits_there_is_no_silence() -> None:
    one = silence()
    for second in range(60):
        assert one.look(100 + second, is_awaited=False) is Step.NOTHING
    assert steps(one, began=159, until=159.5) == [(59.375, Step.PING)]


def test_one_that_was_asked_is_given_up_also_when_nobody_waits_any_more() -> None:
    one = silence()
    steps(one, until=101)
    assert one.look(119.9, is_awaited=False) is Step.NOTHING
    assert one.look(120, is_awaited=False) is Step.GIVE_UP


@pytest.mark.parametrize(("interval", "asked"), [(0.0, []), (0.1, [0.125])])
def test_the_operator_may_want_it_sooner_or_not_at_all(interval: float, asked: list[float]) -> None:
    found = steps(silence(interval), until=103)
    assert [when for when, step in found if step is Step.PING] == asked
