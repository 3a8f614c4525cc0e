"""Address validation by Retry packets (RFC 9000 section 8.1.2): tokens, and the packets about them.

It owns what is in a token and in a Retry packet. It keeps no state, for that is the point of it:
all that is known of a client that was asked to come again is in what it brings. Whether to ask is
decided elsewhere.

A rule: random nonces under one key wear AES-GCM out after some 2^32 tokens, which a flood brings
about in half a day; so each token has a key of its own, derived from the 16 octets it begins with.
"""

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spooky.protocol.cid import is_ours
from spooky.protocol.datagram import Datagram
from spooky.protocol.downstream import Retried
from spooky.protocol.messages import Path
from spooky.protocol.quic.packets import retry_packet

TOKEN_LIFETIME_S = 10.0
"""Clients come back at once (RFC 9000 section 8.1.3); this is for lost datagrams."""
SEED_OCTETS = 16

_KIND = b"retry"
"""Tells these tokens from others under the same key (RFC 9000 section 8.1.1)."""
_NONCE = bytes(12)
_EXPIRY_OCTETS = 8


class RetryTokens:
    """Makes and reads the tokens of Retry packets, with a key that all workers have."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(
        self, initial: Datagram, path: Path, source_cid: bytes, now: float, rand: bytes
    ) -> bytes:
        """Make the token for a client that sent `initial`; `source_cid` is that of our Retry.

        `now` is in seconds of a clock that all workers share; `rand` has 16 random octets or
        more.
        """
        seed = rand[:SEED_OCTETS]
        expiry_ms = round((now + TOKEN_LIFETIME_S) * 1000)
        content = expiry_ms.to_bytes(_EXPIRY_OCTETS, "big") + initial.dcid
        bound = _bound_to(initial.version, path, source_cid)
        return seed + self._cipher(seed).encrypt(_NONCE, content, bound)

    def open(self, initial: Datagram, path: Path, now: float) -> Retried | None:
        """Return what the token of `initial` proves; None where it proves nothing.

        That is: it is not ours, has expired, or was made for another address, port, QUIC version
        (RFC 9369 section 5) or Retry than the one that the client answers (RFC 9000 section
        17.2.5.2).
        """
        seed, sealed = initial.token[:SEED_OCTETS], initial.token[SEED_OCTETS:]
        bound = _bound_to(initial.version, path, initial.dcid)
        try:
            content = self._cipher(seed).decrypt(_NONCE, sealed, bound)
        except InvalidTag:
            return None
        expiry_ms = int.from_bytes(content[:_EXPIRY_OCTETS], "big")
        if now * 1000 >= expiry_ms:
            return None
        return Retried(path, content[_EXPIRY_OCTETS:], initial.dcid)

    def _cipher(self, seed: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._key, _KIND + seed, "sha256"))


def _bound_to(version: int, path: Path, source_cid: bytes) -> bytes:
    """Make the octets that have to be the same when the client comes back."""
    host, port = path.peer[:2]
    return b"%d %b %d %b" % (version, host.encode(), port, source_cid)


def make_retry(initial: Datagram, source_cid: bytes, token: bytes) -> bytes:
    """Make the Retry packet that answers `initial` (RFC 9000 section 17.2.5).

    `source_cid` becomes the client's next destination, so it carries the slot of the worker that
    is to take the connection.
    """
    return retry_packet(initial, source_cid, token)


def was_retried(initial: Datagram) -> bool:
    """Say whether the client answers a Retry of ours; it would not take another one.

    If its token proves nothing, it is to be told (`stateless.refusal` with INVALID_TOKEN), or it
    would wait for its own timeout (RFC 9000 section 8.1.3).

    A client that brings a token of somebody else's, or of an earlier connection, has chosen its
    destination itself: to that one a Retry may be sent (RFC 9000 section 8.1.3).
    """
    return bool(initial.token) and is_ours(initial.dcid)
