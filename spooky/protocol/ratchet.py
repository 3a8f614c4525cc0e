"""Keys that change as time passes, alike in every process, and cannot be turned back.

A state is the secret of one period and the period's number. From it follow the secrets of all
later periods and none of an earlier one, so whoever gets hold of a state can read nothing that
was sealed before the oldest period that it is kept for. It keeps no clock: who calls says what
time it is, on one that all processes share.
"""

import hmac
from typing import Final

PERIOD_S: Final = 43_200
"""How long one secret is the newest."""
KEPT: Final = 2
"""Periods before the newest whose secrets are still of use: what was sealed at the end of the
first of them is a day old when it is forgotten, or older."""
SECRET_OCTETS: Final = 32
_NUMBER_OCTETS: Final = 4


def period_at(now: float) -> int:
    """Say which period a moment is in."""
    return int(now // PERIOD_S)


def begin(now: float, rand: bytes) -> bytes:
    """Make the first state; `rand` has `SECRET_OCTETS` random octets."""
    return _state(period_at(now), rand)


def advance(state: bytes, now: float) -> bytes:
    """Return the state without what is of no use any more."""
    number, secret = _parts(state)
    oldest = max(number, period_at(now) - KEPT)
    return _state(oldest, _forward(secret, oldest - number))


def secret_of(state: bytes, period: int, now: float) -> bytes | None:
    """Return the secret of a period; None: it is forgotten, or has not come."""
    number, secret = _parts(state)
    newest = period_at(now)
    if not max(number, newest - KEPT) <= period <= newest:
        return None
    return _forward(secret, period - number)


def _forward(secret: bytes, steps: int) -> bytes:
    for _ in range(steps):
        secret = hmac.digest(secret, b"next", "sha256")
    return secret


def _state(number: int, secret: bytes) -> bytes:
    return number.to_bytes(_NUMBER_OCTETS, "big") + secret


def _parts(state: bytes) -> tuple[int, bytes]:
    return int.from_bytes(state[:_NUMBER_OCTETS], "big"), state[_NUMBER_OCTETS:]
