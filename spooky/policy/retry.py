"""Whether another backend may be asked after one has failed."""

from spooky.errors import CONSEQUENCES, Kind, Retry

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""RFC 9110 section 9.2.2."""

MAX_RETRIES = 1
MAX_REFUSALS = 3
"""How often a request may meet a backend that refuses streams or says GOAWAY: each of them
promised that it did not act on the request, and a busy backend may do so twice in a row."""

_REFUSALS = frozenset((Kind.BACKEND_RESET, Kind.BACKEND_GONE))


def may_retry(
    kind: Kind, method: bytes, *, unprocessed: bool, replayable: bool, retries: int
) -> bool:
    """Say whether an exchange that failed by `kind` may be tried on another backend.

    `unprocessed`: the backend never got the request, or promised not to have acted on it.
    `replayable`: all that was sent of the content is still at hand. `retries`: how many there
    have been.
    """
    limit = MAX_REFUSALS if unprocessed and kind in _REFUSALS else MAX_RETRIES
    if retries >= limit or not replayable:
        return False
    match CONSEQUENCES[kind].retry:
        case Retry.NEVER:
            return False
        case Retry.IF_UNSENT:
            return unprocessed
        case Retry.IF_IDEMPOTENT:
            return unprocessed or method in IDEMPOTENT
