"""Budgets of one connection: spent at once, filled again by time, and by requests seen through."""

from spooky.bounds import Bound
from spooky.protocol.flood import CANCEL_BURST_S, Floods


def test_as_many_frames_as_in_a_second_may_come_at_once() -> None:
    floods = Floods(control_frames=100, cancelled_requests=1)
    assert all(floods.spend(1) for _ in range(100))
    assert floods.reached is None
    assert not floods.spend(1)
    assert floods.reached is Bound.CONTROL_FRAMES


def test_frames_at_the_rate_itself_go_on_for_ever() -> None:
    floods = Floods(control_frames=100, cancelled_requests=1)
    for tick in range(1000):
        floods.now = 5 + tick / 10
        assert floods.spend(10), tick


def test_a_little_more_than_the_rate_is_found_out() -> None:
    floods = Floods(control_frames=100, cancelled_requests=1)
    spent = 0
    for tick in range(1000):
        floods.now = 5 + tick / 10
        if not floods.spend(12):
            break
        spent += 12
    else:
        raise AssertionError("never refused")
    assert spent > 100 * tick / 10


def test_silence_saves_up_no_more_than_a_second() -> None:
    floods = Floods(control_frames=100, cancelled_requests=1)
    assert floods.spend(100)
    floods.now = 1000.0
    assert floods.spend(100)
    assert not floods.spend(1)


def cancelled_until_refused(floods: Floods, opened_for_each: int, most: int = 10_000) -> int:
    for number in range(most):
        if not floods.cancel((number + 1) * opened_for_each):
            return number
    return most


def test_a_client_that_cancels_all_it_asks_for_is_refused_after_a_burst() -> None:
    floods = Floods(control_frames=100, cancelled_requests=20)
    assert cancelled_until_refused(floods, opened_for_each=1) == 20 * CANCEL_BURST_S
    assert floods.reached is Bound.CANCELLED_REQUESTS


def test_a_client_may_cancel_half_of_what_it_asks_for() -> None:
    floods = Floods(control_frames=100, cancelled_requests=1)
    assert cancelled_until_refused(floods, opened_for_each=2) == 10_000


def test_opening_many_at_once_and_cancelling_all_counts_as_cancelling_all() -> None:
    floods = Floods(control_frames=100, cancelled_requests=1)
    cancelled = 0
    for wave in range(1, 100):
        if not all(floods.cancel(wave * 128) for _ in range(128)):
            break
        cancelled += 128
    assert cancelled < 3 * 128
