"""TLS session tickets that need no store: a ticket is its session, sealed (RFC 8446 section 4.6.1).

Every worker of every generation opens them, for all have the same keys, which change as time
passes (`ratchet.py`). It knows nothing of connections and of what else is in a TLS message.

A rule: random nonces under one key wear AES-GCM out; so each ticket has a key of its own, derived
from the random octets that it brings.
"""

import hmac
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spooky.protocol import ratchet

LIFETIME_S: Final = 86_400
"""A ticket is taken for a day; RFC 8446 section 4.6.1 allows seven."""
SEED_OCTETS: Final = 16

_PERIOD_OCTETS: Final = 4
_ISSUED_OCTETS: Final = 8
_SUITE_OCTETS: Final = 2
_NONCE: Final = bytes(12)


class Session(NamedTuple):
    """What is needed to resume a session: the number of its cipher suite, its secret."""

    cipher_suite: int
    secret: bytes


class SessionTickets:
    """Makes and reads tickets."""

    __slots__ = ("_clock", "_random", "_state")

    def __init__(
        self, state: bytes, clock: Callable[[], float], random: Callable[[int], bytes]
    ) -> None:
        """Take a state of `ratchet`, a clock that all workers share, and a source of octets."""
        self._state = state
        self._clock = clock
        self._random = random

    def seal(self, session: Session, bound: bytes) -> bytes:
        """Make a ticket that opens only for the same `bound`."""
        now = self._clock()
        self._state = ratchet.advance(self._state, now)
        period = ratchet.period_at(now)
        secret = ratchet.secret_of(self._state, period, now)
        assert secret is not None, "the clock went back"
        head = period.to_bytes(_PERIOD_OCTETS, "big") + self._random(SEED_OCTETS)
        issued = round(now * 1000).to_bytes(_ISSUED_OCTETS, "big")
        content = issued + session.cipher_suite.to_bytes(_SUITE_OCTETS, "big") + session.secret
        return head + _cipher(secret, head).encrypt(_NONCE, content, bound)

    def open(self, ticket: bytes, bound: bytes) -> Session | None:
        """Return the session in a ticket; None: it is not ours, too old, or for something else."""
        now = self._clock()
        head = ticket[: _PERIOD_OCTETS + SEED_OCTETS]
        period = int.from_bytes(head[:_PERIOD_OCTETS], "big")
        secret = ratchet.secret_of(self._state, period, now)
        if secret is None:
            return None
        try:
            content = _cipher(secret, head).decrypt(_NONCE, ticket[len(head) :], bound)
        except InvalidTag:
            return None
        if now * 1000 >= int.from_bytes(content[:_ISSUED_OCTETS], "big") + LIFETIME_S * 1000:
            return None
        content = content[_ISSUED_OCTETS:]
        return Session(int.from_bytes(content[:_SUITE_OCTETS], "big"), content[_SUITE_OCTETS:])


def _cipher(secret: bytes, head: bytes) -> AESGCM:
    return AESGCM(hmac.digest(secret, b"ticket" + head, "sha256"))
