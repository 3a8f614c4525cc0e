"""Tokens with which a client proves its address when it comes back (RFC 9000 section 8.1.3).

They go out in NEW_TOKEN frames and come in with the first Initial of a later connection, from the
same address and any port of it. It keeps no state; that a token is taken once is seen to elsewhere.

A rule: a client whose token proves nothing is served as one that brought none, for it may be
another server's.
"""

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spooky.protocol.messages import Path

TOKEN_LIFETIME_S = 86_400.0
SEED_OCTETS = 16

_KIND = b"new token"
"""Tells these tokens from those of Retry packets under the same key (RFC 9000 section 8.1.1)."""
_NONCE = bytes(12)
_EXPIRY_OCTETS = 8


class NewTokens:
    """Makes and reads the tokens of NEW_TOKEN frames, with a key that all workers have."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, version: int, path: Path, now: float, rand: bytes) -> bytes:
        """Make a token for the client at the end of `path`.

        `now` is in seconds of a clock that all workers share; `rand` has 16 random octets or
        more.
        """
        seed = rand[:SEED_OCTETS]
        expiry_ms = round((now + TOKEN_LIFETIME_S) * 1000)
        content = expiry_ms.to_bytes(_EXPIRY_OCTETS, "big")
        return seed + self._cipher(seed).encrypt(_NONCE, content, _bound_to(version, path))

    def open(self, token: bytes, version: int, path: Path, now: float) -> bytes | None:
        """Return what tells the token from all others; None where it proves nothing.

        That is: it is not ours, has expired, or was made for another address or QUIC version (RFC
        9369 section 5).
        """
        seed, sealed = token[:SEED_OCTETS], token[SEED_OCTETS:]
        try:
            content = self._cipher(seed).decrypt(_NONCE, sealed, _bound_to(version, path))
        except InvalidTag:
            return None
        return seed if now * 1000 < int.from_bytes(content, "big") else None

    def _cipher(self, seed: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._key, _KIND + seed, "sha256"))


def _bound_to(version: int, path: Path) -> bytes:
    return b"%d %b" % (version, path.peer[0].encode())
