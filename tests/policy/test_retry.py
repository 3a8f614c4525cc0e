"""Whether a request is tried again: the rules one by one, then over every combination."""

import itertools

import pytest

from spooky.errors import CONSEQUENCES, Kind, Retry
from spooky.policy.retry import (
    IDEMPOTENT,
    MAX_REFUSALS,
    Backoff,
    Cause,
    Failure,
    RetryPolicy,
    Verdict,
    cause_of,
    judge,
    may_ask_again,
)

ALL = RetryPolicy(attempts=3, on=frozenset(Cause))

CASES = [
    # kind, method, unprocessed, replayable, tries, verdict by the default policy
    (Kind.CONNECT_FAILED, b"POST", True, True, 1, Verdict.AGAIN),
    (Kind.CONNECT_FAILED, b"POST", True, True, 2, Verdict.ATTEMPTS_USED),
    (Kind.CONNECT_FAILED, b"POST", True, False, 1, Verdict.NOT_REPLAYABLE),
    (Kind.CONNECT_TIMEOUT, b"POST", True, True, 1, Verdict.AGAIN),
    (Kind.OVERLOADED, b"POST", True, True, 1, Verdict.AGAIN),
    (Kind.BACKEND_GONE, b"POST", False, True, 1, Verdict.NOT_IDEMPOTENT),
    (Kind.BACKEND_GONE, b"GET", False, True, 1, Verdict.AGAIN),
    (Kind.BACKEND_GONE, b"PUT", False, True, 1, Verdict.AGAIN),
    (Kind.BACKEND_GONE, b"PUT", False, False, 1, Verdict.NOT_REPLAYABLE),
    (Kind.BACKEND_GONE, b"GET", False, True, 2, Verdict.ATTEMPTS_USED),
    (Kind.BACKEND_GONE, b"POST", True, True, 3, Verdict.AGAIN),
    (Kind.BACKEND_RESET, b"PATCH", True, True, 3, Verdict.AGAIN),
    (Kind.BACKEND_RESET, b"PATCH", True, True, 4, Verdict.ATTEMPTS_USED),
    (Kind.BACKEND_RESET, b"GET", False, True, 1, Verdict.NOT_ASKED_FOR),
    (Kind.BAD_RESPONSE, b"GET", False, True, 1, Verdict.FINAL),
    (Kind.RESPONSE_TIMEOUT, b"GET", False, True, 1, Verdict.FINAL),
    (Kind.TRY_TIMEOUT, b"GET", False, True, 1, Verdict.AGAIN),
    (Kind.TRY_TIMEOUT, b"POST", False, True, 1, Verdict.NOT_IDEMPOTENT),
    (Kind.TRY_TIMEOUT, b"POST", True, True, 1, Verdict.AGAIN),
    (Kind.BAD_STATUS, b"GET", False, True, 1, Verdict.AGAIN),
    (Kind.BAD_STATUS, b"POST", False, True, 1, Verdict.NOT_IDEMPOTENT),
    (Kind.DEADLINE, b"GET", True, True, 1, Verdict.FINAL),
    (Kind.TOTAL_TIMEOUT, b"GET", True, True, 1, Verdict.FINAL),
    (Kind.CLIENT_RESET, b"GET", True, True, 1, Verdict.FINAL),
    (Kind.INTERNAL, b"GET", True, True, 1, Verdict.FINAL),
]


@pytest.mark.parametrize(("kind", "method", "unprocessed", "replayable", "tries", "verdict"), CASES)
def test_cases(
    kind: Kind, method: bytes, unprocessed: bool, replayable: bool, tries: int, verdict: Verdict
) -> None:
    cause = cause_of(kind, unprocessed=unprocessed)
    assert judge(RetryPolicy(), Failure(cause, method, unprocessed, replayable, tries)) is verdict


@pytest.mark.parametrize("cause", [Cause.RESET, Cause.LOST, Cause.STATUS, Cause.TRY_TIMEOUT])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_what_may_have_been_acted_on_is_repeated_only_if_that_is_safe(
    cause: Cause, method: bytes
) -> None:
    verdict = judge(ALL, Failure(cause, method, False, True, 1))
    assert verdict is (Verdict.AGAIN if method == b"GET" else Verdict.NOT_IDEMPOTENT)


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.STATUS])
def test_only_what_was_asked_for_is_repeated(cause: Cause) -> None:
    failure = Failure(cause, b"GET", True, True, 1)
    assert judge(RetryPolicy(on=frozenset((cause,))), failure) is Verdict.AGAIN
    others = RetryPolicy(on=frozenset(Cause) - {cause})
    assert judge(others, failure) is Verdict.NOT_ASKED_FOR


@pytest.mark.parametrize("attempts", range(1, 8))
def test_attempts_bound_the_tries_and_refusals_have_a_bound_of_their_own(attempts: int) -> None:
    policy = RetryPolicy(attempts, on=frozenset(Cause))
    for cause in Cause:
        tries = 1
        while judge(policy, Failure(cause, b"GET", True, True, tries)) is Verdict.AGAIN:
            tries += 1
        refused = cause is Cause.REFUSED and attempts > 1
        assert tries == (max(attempts, 1 + MAX_REFUSALS) if refused else attempts)


def test_what_never_happens() -> None:
    methods = [*sorted(IDEMPOTENT), b"POST", b"PATCH", b"CONNECT", b"get", b"X-OWN"]
    for cause, method, unprocessed, replayable, tries in itertools.product(
        [*Cause, None], methods, (False, True), (False, True), range(1, 6)
    ):
        failure = Failure(cause, method, unprocessed, replayable, tries)
        if judge(ALL, failure) is Verdict.AGAIN:
            assert cause is not None
            assert replayable
            assert tries < max(ALL.attempts, 1 + MAX_REFUSALS)
            assert unprocessed or method in IDEMPOTENT, "it might be acted on twice"


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("unprocessed", [False, True])
def test_a_failure_has_a_cause_exactly_if_the_table_of_consequences_allows_a_retry(
    kind: Kind, unprocessed: bool
) -> None:
    final = CONSEQUENCES[kind].retry is Retry.NEVER
    assert (cause_of(kind, unprocessed=unprocessed) is None) is final


def test_methods_that_may_be_repeated_are_those_of_the_rfc() -> None:
    assert b"GET" in IDEMPOTENT
    assert not {b"POST", b"PATCH", b"CONNECT", b"get"} & IDEMPOTENT


@pytest.mark.parametrize(
    ("retry", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.5), (5, 0.5), (10**6, 0.5)]
)
def test_the_wait_is_spread_over_a_step_that_doubles_up_to_a_ceiling(
    retry: int, longest: float
) -> None:
    backoff = Backoff(0.1, 0.5)
    assert backoff.wait(retry, 0.0) == 0.0
    assert backoff.wait(retry, 0.5) == pytest.approx(longest / 2)
    assert backoff.wait(retry, 1.0) == pytest.approx(longest)
    assert Backoff().wait(retry, 1.0) == 0.0


@pytest.mark.parametrize("cause", Cause)
def test_a_backend_that_has_just_failed_to_hold_a_connection_is_asked_again_only_later(
    cause: Cause,
) -> None:
    assert may_ask_again(cause, 0.001)
    assert may_ask_again(cause, 0.0) is (cause not in {Cause.CONNECT_FAILURE, Cause.LOST})
