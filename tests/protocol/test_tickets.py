"""Session tickets: what opens them, and what does not."""

import pytest

from spooky.protocol import ratchet
from spooky.protocol.tickets import LIFETIME_S, Session, SessionTickets

SESSION = Session(0x1301, bytes(range(32)))
BOUND = b"1 localhost"
NOW = 7 * ratchet.PERIOD_S + 40_000.0


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tickets(clock: Clock, state: bytes | None = None) -> SessionTickets:
    made = ratchet.begin(NOW, bytes(32))
    return SessionTickets(state or made, clock, lambda count: b"r" * count)


TICKET = tickets(Clock(NOW)).seal(SESSION, BOUND)


@pytest.mark.parametrize("age", [0.0, 3600.0, LIFETIME_S - 1])
def test_any_worker_opens_a_ticket_as_long_as_it_lives(age: float) -> None:
    assert tickets(Clock(NOW + age)).open(TICKET, BOUND) == SESSION


@pytest.mark.parametrize("age", [LIFETIME_S, 10 * LIFETIME_S])
def test_none_opens_it_after_that(age: float) -> None:
    assert tickets(Clock(NOW + age)).open(TICKET, BOUND) is None


def test_one_that_turned_its_keys_makes_tickets_for_one_that_did_not() -> None:
    late = Clock(NOW + 5 * ratchet.PERIOD_S)
    turned = tickets(late)
    first = turned.seal(SESSION, BOUND)
    assert turned.seal(SESSION, BOUND) == first
    assert tickets(late).open(first, BOUND) == SESSION
    assert turned.open(TICKET, BOUND) is None


@pytest.mark.parametrize("bound", [b"2 localhost", b"1 other", b""])
def test_it_opens_for_what_it_was_made_for_alone(bound: bytes) -> None:
    assert tickets(Clock(NOW)).open(TICKET, bound) is None


def test_no_octet_of_it_may_change() -> None:
    mine = tickets(Clock(NOW))
    for index in range(len(TICKET)):
        changed = TICKET[:index] + bytes([TICKET[index] ^ 1]) + TICKET[index + 1 :]
        assert mine.open(changed, BOUND) is None


@pytest.mark.parametrize("ticket", [b"", b"x", bytes(4), TICKET[:20], b"\xff" * 90, TICKET + b"x"])
def test_nonsense_is_no_ticket(ticket: bytes) -> None:
    assert tickets(Clock(NOW)).open(ticket, BOUND) is None


def test_the_keys_are_needed() -> None:
    other = ratchet.begin(NOW, b"k" * 32)
    assert tickets(Clock(NOW), other).open(TICKET, BOUND) is None


def test_it_shows_nothing_of_the_session() -> None:
    assert SESSION.secret[:8] not in TICKET
