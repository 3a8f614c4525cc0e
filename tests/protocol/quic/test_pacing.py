"""Pacing: how many packets may go at once, and how the allowance comes back."""

import pytest

from spooky.protocol.quic.pacing import INITIAL_BURST, UNLIMITED, Pacer


@pytest.fixture
def pacer() -> Pacer:
    pacer = Pacer(max_datagram_size=1200)
    pacer.update_rate(congestion_window=120_000, smoothed_rtt=0.1)
    return pacer


def test_no_limit_before_the_round_trip_time_is_known() -> None:
    pacer = Pacer(max_datagram_size=1200)
    pacer.spend()
    assert pacer.allowance(1.0) == UNLIMITED


def test_a_burst_is_as_long_as_the_initial_window(pacer: Pacer) -> None:
    assert pacer.allowance(10.0) == INITIAL_BURST


def test_the_allowance_is_used_up_and_comes_back_with_time(pacer: Pacer) -> None:
    for left in range(pacer.allowance(10.0), 0, -1):
        assert pacer.allowance(10.0) == left
        pacer.spend()
    assert pacer.allowance(10.0) == 0
    due = pacer.next_send_time(10.0)
    # 100 packets in 0.1 s, and a quarter faster.
    assert due == pytest.approx(10.0 + 0.1 / 100 / 1.25)
    assert pacer.allowance(due) == 1


def test_a_clock_that_goes_back_gives_nothing(pacer: Pacer) -> None:
    while pacer.allowance(10.0):
        pacer.spend()
    assert pacer.allowance(9.0) == 0
