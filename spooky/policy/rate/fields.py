"""The response fields that tell a client of limits (draft-ietf-httpapi-ratelimit-headers-11).

`RateLimit-Policy` says what a limit is, `RateLimit` what is left of it: lists of strings with
parameters (RFC 9651). A limit's name has no characters that a string would have to escape.
"""

from typing import Final

from spooky.policy.rate.verdict import SECOND_NS, Quota

POLICY: Final = b"ratelimit-policy"
LIMIT: Final = b"ratelimit"
RETRY_AFTER: Final = b"retry-after"


def whole_seconds(nanoseconds: int) -> int:
    """Round up to seconds, 1 at least."""
    return max(1, -(-nanoseconds // SECOND_NS))


def policy_item(name: str, capacity: int, window_ns: int) -> bytes:
    """Say that `capacity` requests may pass in a window (section 3.1)."""
    return f'"{name}";q={capacity};w={whole_seconds(window_ns)}'.encode()


def limit_item(name: str, quota: Quota) -> bytes:
    """Say what is left, and for how long it has to do (section 4.1)."""
    return f'"{name}";r={quota.remaining};t={whole_seconds(quota.within_ns)}'.encode()


def refused_item(name: str, wait_ns: int) -> bytes:
    """Say that nothing is left; the time is that of `Retry-After` (section 6)."""
    return limit_item(name, Quota(0, wait_ns))
