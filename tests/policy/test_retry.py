"""Whether another backend is asked: the rules one by one, then over every combination."""

import itertools

import pytest

from spooky.errors import CONSEQUENCES, Kind, Retry
from spooky.policy.retry import IDEMPOTENT, MAX_REFUSALS, MAX_RETRIES, may_retry

BACKEND_SIDE = [kind for kind in Kind if CONSEQUENCES[kind].retry is not Retry.NEVER]


def test_some_failures_are_worth_another_backend() -> None:
    assert {Kind.CONNECT_FAILED, Kind.CONNECT_TIMEOUT, Kind.BACKEND_RESET, Kind.BACKEND_GONE} <= {
        *BACKEND_SIDE
    }


@pytest.mark.parametrize("kind", BACKEND_SIDE)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_request_that_no_backend_acted_on_is_tried_again(kind: Kind, method: bytes) -> None:
    assert may_retry(kind, method, unprocessed=True, replayable=True, retries=0)


CASES = [
    # kind, method, unprocessed, replayable, retries, allowed
    (Kind.CONNECT_FAILED, b"POST", True, True, 0, True),
    (Kind.CONNECT_FAILED, b"POST", True, True, 1, False),
    (Kind.CONNECT_FAILED, b"POST", True, False, 0, False),
    (Kind.BACKEND_GONE, b"POST", False, True, 0, False),
    (Kind.BACKEND_GONE, b"GET", False, True, 0, True),
    (Kind.BACKEND_GONE, b"GET", False, True, 1, False),
    (Kind.BACKEND_GONE, b"POST", True, True, 2, True),
    (Kind.BACKEND_RESET, b"PATCH", True, True, 2, True),
    (Kind.BACKEND_RESET, b"PATCH", True, True, 3, False),
    (Kind.BACKEND_RESET, b"POST", False, True, 0, False),
    (Kind.BAD_RESPONSE, b"GET", True, True, 0, False),
    (Kind.RESPONSE_TIMEOUT, b"GET", False, True, 0, False),
    (Kind.CLIENT_RESET, b"GET", True, True, 0, False),
    (Kind.INTERNAL, b"GET", True, True, 0, False),
]


@pytest.mark.parametrize(
    ("kind", "method", "unprocessed", "replayable", "retries", "allowed"), CASES
)
def test_cases(
    kind: Kind, method: bytes, unprocessed: bool, replayable: bool, retries: int, allowed: bool
) -> None:
    assert (
        may_retry(kind, method, unprocessed=unprocessed, replayable=replayable, retries=retries)
        is allowed
    )


@pytest.mark.parametrize(
    ("method", "unprocessed", "allowed"),
    [(b"PUT", False, True), (b"GET", True, True), (b"POST", True, True), (b"POST", False, False)],
)
def test_what_may_have_been_acted_on_is_repeated_only_if_that_is_safe(
    method: bytes, unprocessed: bool, allowed: bool
) -> None:
    assert (
        may_retry(Kind.BACKEND_GONE, method, unprocessed=unprocessed, replayable=True, retries=0)
        is allowed
    )


@pytest.mark.parametrize("kind", Kind)
def test_what_never_happens_for_any_kind(kind: Kind) -> None:
    methods = [*sorted(IDEMPOTENT), b"POST", b"PATCH", b"CONNECT", b"get", b"X-OWN"]
    for method, unprocessed, replayable, retries in itertools.product(
        methods, (False, True), (False, True), range(6)
    ):
        if not may_retry(
            kind, method, unprocessed=unprocessed, replayable=replayable, retries=retries
        ):
            continue
        assert replayable
        assert CONSEQUENCES[kind].retry is not Retry.NEVER
        assert retries < max(MAX_RETRIES, MAX_REFUSALS)
        assert unprocessed or method in IDEMPOTENT, "it might be acted on twice"


def test_methods_that_may_be_repeated_are_those_of_the_rfc() -> None:
    assert b"GET" in IDEMPOTENT
    assert not {b"POST", b"PATCH", b"CONNECT", b"get"} & IDEMPOTENT
