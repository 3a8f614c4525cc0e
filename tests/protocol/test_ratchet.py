"""Keys that turn with time: alike for all, and never back."""

import pytest

from spooky.protocol import ratchet
from spooky.protocol.ratchet import KEPT, PERIOD_S

NOW = 10.5 * PERIOD_S
STATE = ratchet.begin(NOW, bytes(range(32)))


def secret(state: bytes, period: int, now: float = NOW) -> bytes | None:
    return ratchet.secret_of(state, period, now)


def test_who_turned_it_has_what_they_have_who_did_not() -> None:
    later = NOW + 3 * PERIOD_S
    turned = ratchet.advance(STATE, later)
    assert turned != STATE
    for period in (11, 12, 13):
        assert secret(turned, period, later) == secret(STATE, period, later) is not None
    assert len({secret(STATE, period, later) for period in (11, 12, 13)}) == 3


@pytest.mark.parametrize(
    ("period", "after", "is_known"),
    [(10, 0, True), (9, 0, False), (11, 0, False), (10, KEPT, True), (10, KEPT + 1, False)],
)
def test_which_secrets_there_are(period: int, after: int, is_known: bool) -> None:
    assert (secret(STATE, period, NOW + after * PERIOD_S) is not None) is is_known


def test_what_was_turned_past_is_forgotten() -> None:
    """Whatever the clock says then."""
    turned = ratchet.advance(STATE, NOW + 20 * PERIOD_S)
    assert secret(turned, 10) is None
    assert STATE[4:] not in turned
    assert ratchet.advance(turned, NOW) == turned
