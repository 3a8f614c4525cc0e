"""Session persistence by a cookie: the client brings back which backend it had.

The cookie names a backend without telling who it is: a digest of the backend's identity, the time
at which the session ends and a signature over both and the name of the upstream, all of it made
with a key that only Spooky has. So nobody can make one up to reach a backend of his choice, and a
cookie goes on to hold over reloads, whichever worker or instance with the same key reads it.
Nothing is kept of it here.

The rule: a session sticks to a backend by its identity (scheme, host and port), not by its place
in the file or its name.
"""

import hmac
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final

from spooky.policy.cookies import cookies_named

VERSION: Final = b"\x01"
_EXPIRY_OCTETS: Final = 5
_DIGEST_OCTETS: Final = 8
_MAC_OCTETS: Final = 16
_SIGNED: Final = len(VERSION) + _EXPIRY_OCTETS + _DIGEST_OCTETS
VALUE_LENGTH: Final = (_SIGNED + _MAC_OCTETS) * 4 // 3
"""30 octets in base64: 40 characters without padding."""
RENEW_AFTER: Final = 0.5
"""The part of the timeout after which a session that is used is given the whole of it again."""


class WhenGone(Enum):
    """What becomes of a request whose backend is gone, or may not serve it now."""

    PICK_ANOTHER = "pick-another"
    """Another backend takes over the session."""
    FAIL = "fail"
    """503, until the backend is back, the session is over or the client forgets the cookie."""


@dataclass(frozen=True, slots=True)
class CookieRules:
    """How the cookie looks that a client gets."""

    name: str
    timeout: float = 3600.0
    """Seconds without a request after which the session is over; 0: when the client ends its
    own session, and never here."""
    path: str = "/"
    same_site: str = "lax"
    """`lax`, `strict` or `none`."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a client's cookie says: the identity of its backend, None when that is not there."""

    backend: str | None
    is_stale: bool = False
    """So much of its time is over that the client is to get a new cookie."""


class CookieSessions:
    """Reads and makes the cookies of one upstream."""

    def __init__(
        self, key: bytes, upstream: str, identities: Iterable[str], rules: CookieRules
    ) -> None:
        """Take the backends that there are, by their `identities`.

        `key` is 32 octets or more that nobody else has; keys for each purpose are derived of it.
        """
        self.name = rules.name.encode()
        self._timeout = rules.timeout
        signing = hmac.digest(key, b"spooky session signature", sha256)
        self._naming = hmac.digest(key, b"spooky session backend", sha256)
        self._key = hmac.digest(signing, upstream.encode(), sha256)
        self._attributes = _attributes(rules)
        self.lay_out(identities)

    def lay_out(self, identities: Iterable[str]) -> None:
        """Take other backends."""
        self._digests = {
            identity: hmac.digest(self._naming, identity.encode(), sha256)[:_DIGEST_OCTETS]
            for identity in identities
        }
        self._identities = {digest: identity for identity, digest in self._digests.items()}

    def find(self, fields: Iterable[bytes], now: float) -> Session | None:
        """Read a client's `cookie` fields; None when it has no session that holds.

        `now` is the time of the clock on the wall in seconds. Of several cookies of the name the
        first that holds counts, and one whose backend is there before one whose is not.
        """
        gone = None
        for value in cookies_named(self.name, fields):
            session = self._read(value, now)
            if session is not None and session.backend is not None:
                return session
            gone = gone or session
        return gone

    def _read(self, value: bytes, now: float) -> Session | None:
        if len(value) != VALUE_LENGTH:
            return None
        try:
            octets = urlsafe_b64decode(value)
        except ValueError:
            return None
        signed, mac = octets[:_SIGNED], octets[_SIGNED:]
        if not hmac.compare_digest(mac, self._sign(signed)) or signed[:1] != VERSION:
            return None
        ends = int.from_bytes(signed[1 : 1 + _EXPIRY_OCTETS])
        if ends and ends <= now:
            return None
        left = ends - now
        # More than the whole is left where the timeout was made shorter since, or a clock is off.
        is_fresh = self._timeout * RENEW_AFTER <= left <= self._timeout + 1
        return Session(
            self._identities.get(signed[1 + _EXPIRY_OCTETS :]),
            is_stale=not is_fresh if self._timeout else bool(ends),
        )

    def issue(self, backend: str, now: float) -> bytes | None:
        """Return the value of a `set-cookie` field that binds a client to a backend from `now`.

        None where the backend is not there any more.
        """
        digest = self._digests.get(backend)
        if digest is None:
            return None
        ends = math.ceil(now + self._timeout) if self._timeout else 0
        signed = VERSION + ends.to_bytes(_EXPIRY_OCTETS) + digest
        value = urlsafe_b64encode(signed + self._sign(signed))
        return self.name + b"=" + value + self._attributes

    def _sign(self, signed: bytes) -> bytes:
        return hmac.digest(self._key, signed, sha256)[:_MAC_OCTETS]


def _attributes(rules: CookieRules) -> bytes:
    """Write what a client is told of the cookie (RFC 6265bis section 4.1.2).

    Scripts do not see it and it stays on secure connections, which HTTP/3 always is.
    """
    age = f"; Max-Age={math.ceil(rules.timeout)}" if rules.timeout else ""
    same_site = rules.same_site.capitalize()
    return f"; Path={rules.path}{age}; HttpOnly; Secure; SameSite={same_site}".encode()
