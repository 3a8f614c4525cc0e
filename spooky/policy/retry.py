"""Whether a request is tried again after a try of it has failed, and after what wait.

Pure: what happened goes in, a verdict with its reason comes out. It knows nothing of backends and
does not count: the tries are the caller's, and what all requests together may repeat is the
budget's (`budget.py`), which is asked last.

The rule that comes before what an operator asks for: a request that a backend may have acted on is
repeated only if its method is idempotent (RFC 9110 section 9.2.2), and none is repeated whose
content is no longer at hand.
"""

from dataclasses import dataclass
from enum import Enum

from spooky.errors import Kind

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""RFC 9110 section 9.2.2."""

MAX_REFUSALS = 3
"""How often a request may be tried again after backends that refuse streams or say GOAWAY, even
where `attempts` allows fewer: each of them promised that it did not act on the request, and a busy
backend may do so twice in a row."""

_MOST_DOUBLINGS = 30


class Cause(Enum):
    """Why a try failed, as far as repeating it goes; the value is its name in configurations."""

    CONNECT_FAILURE = "connect-failure"
    """There was no connection, or no free stream on one: the backend never got the request."""
    REFUSED = "refused-stream"
    """The backend promised not to have acted on it (RFC 9113 sections 6.8 and 8.7)."""
    LOST = "connection-lost"
    """The connection died before a response began."""
    RESET = "reset"
    """The backend reset the stream before a response began."""
    TRY_TIMEOUT = "per-try-timeout"
    """The response did not begin in the time that one try has."""
    STATUS = "status"
    """The response has a status that the operator listed."""


class Verdict(Enum):
    """What is decided of a failed try; the value is the reason, in words for a log."""

    AGAIN = "it is safe to repeat"
    FINAL = "this failure is final"
    NOT_ASKED_FOR = "not repeated after such a failure"
    ATTEMPTS_USED = "all attempts are used"
    NOT_IDEMPOTENT = "the backend may have acted on it and the method is not idempotent"
    NOT_REPLAYABLE = "its content is no longer at hand"
    NO_TIME = "no time is left for another attempt"
    BUDGET_SPENT = "the retry budget is spent"
    NO_BACKEND = "there is no other backend"
    GOES_ON = "another try is under way"


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before another try, seconds: by chance between 0 and a step that doubles."""

    initial: float = 0.0
    """The step of the first retry; 0: no wait at all."""
    ceiling: float = 0.0
    """What no step exceeds."""

    def wait(self, retry: int, chance: float) -> float:
        """Return the wait before the `retry`-th retry, counted from 1.

        `chance` is a random number in [0, 1). Those who failed together are spread over the whole
        step ("full jitter": Brooker, "Exponential Backoff And Jitter", AWS, 2015).
        """
        doublings = min(retry - 1, _MOST_DOUBLINGS)
        return chance * min(self.ceiling, self.initial * 2.0**doublings)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What an operator allows; the default is one retry where a connection is at fault."""

    attempts: int = 2
    """Tries of one request, the first included; 1: nothing is repeated."""
    on: frozenset[Cause] = frozenset(
        (Cause.CONNECT_FAILURE, Cause.REFUSED, Cause.LOST, Cause.TRY_TIMEOUT)
    )
    statuses: frozenset[int] = frozenset()
    """Statuses of a response that count as a failed try."""
    per_try_timeout: float = 0.0
    """From the start of a try to the head of its response, seconds; 0: no limit."""
    backoff: Backoff = Backoff()


def cause_of(kind: Kind, *, unprocessed: bool) -> Cause | None:
    """Say what a failure of a try was, None: one that no other try can mend.

    `unprocessed`: the backend never got the request, or promised not to have acted on it.
    """
    match kind:
        case Kind.CONNECT_FAILED | Kind.CONNECT_TIMEOUT | Kind.OVERLOADED:
            return Cause.CONNECT_FAILURE
        case Kind.BACKEND_RESET:
            return Cause.REFUSED if unprocessed else Cause.RESET
        case Kind.BACKEND_GONE:
            return Cause.REFUSED if unprocessed else Cause.LOST
        case Kind.TRY_TIMEOUT:
            return Cause.TRY_TIMEOUT
        case Kind.BAD_STATUS:
            return Cause.STATUS
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Failure:
    """A try that failed."""

    cause: Cause | None
    method: bytes
    unprocessed: bool
    """The backend never got the request, or promised not to have acted on it."""
    replayable: bool
    """All that was sent of the content is still at hand."""
    tries: int
    """How many there were of this request, this one included."""


def judge(policy: RetryPolicy, failure: Failure) -> Verdict:
    """Say whether a request is tried again, as far as it alone is concerned."""
    cause = failure.cause
    if cause is None:
        return Verdict.FINAL
    if cause is not Cause.STATUS and cause not in policy.on:
        return Verdict.NOT_ASKED_FOR
    if failure.tries >= _most_tries(policy, cause):
        return Verdict.ATTEMPTS_USED
    if not failure.unprocessed and failure.method not in IDEMPOTENT:
        return Verdict.NOT_IDEMPOTENT
    return Verdict.AGAIN if failure.replayable else Verdict.NOT_REPLAYABLE


def _most_tries(policy: RetryPolicy, cause: Cause) -> int:
    if policy.attempts > 1 and cause is Cause.REFUSED:
        return max(policy.attempts, 1 + MAX_REFUSALS)
    return policy.attempts


def may_ask_again(cause: Cause, wait: float) -> bool:
    """Say whether, where no other backend is left, one that has failed may be asked again.

    `wait` is how long that is put off, seconds: one that could not be reached, or that has just
    dropped a connection, needs some time.
    """
    return wait > 0 or cause not in {Cause.CONNECT_FAILURE, Cause.LOST}
