"""Deadlines in a request's fields: read, never raising, and written rounded down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.deadline import (
    asked_for,
    format_grpc_timeout,
    format_milliseconds,
    is_grpc,
    parse_grpc_timeout,
    parse_milliseconds,
)

OWN = b"x-request-timeout"
GRPC = (b"content-type", b"application/grpc+proto")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"250m", 0.25),
        (b"100u", 0.0001),
        (b"5n", 5e-9),
        (b"99999999H", 99999999 * 3600),
        (b"00000001S", 1),
        (b"0m", 0),
        (b"", None),
        (b"S", None),
        (b"5", None),
        (b"5s", None),
        (b"5h", None),
        (b"123456789m", None),
        (b"-1S", None),
        (b"+1S", None),
        (b"1.5S", None),
        (b"1 S", None),
        (b" 1S", None),
        (b"1S ", None),
        (b"1_0S", None),
        (b"\xb2S", None),
    ],
)
def test_grpc_timeouts(value: bytes, seconds: float | None) -> None:
    assert parse_grpc_timeout(value) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1500", 1.5), (b"0", 0), (b"1s", None), (b"", None), (b"-5", None), (b"9" * 13, None)],
)
def test_milliseconds(value: bytes, seconds: float | None) -> None:
    assert parse_milliseconds(value) == seconds


@given(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30))
def test_no_octets_raise(grpc: bytes, own: bytes, kind: bytes) -> None:
    is_grpc(kind)
    for wait in (
        parse_grpc_timeout(grpc),
        parse_milliseconds(own),
        asked_for([(b"grpc-timeout", grpc), (OWN, own), (b"content-type", kind)], OWN),
    ):
        assert wait is None or wait >= 0


@given(st.floats(1e-9, 9e8))
def test_what_is_passed_on_is_never_longer_and_loses_little(left: float) -> None:
    value = format_grpc_timeout(left)
    assert len(value) <= 9
    told = parse_grpc_timeout(value)
    assert told is not None
    assert told <= left * (1 + 1e-9)
    if left < 99_999_999:
        assert told >= left * (1 - 1.1e-5) - 1e-9
    milliseconds = parse_milliseconds(format_milliseconds(left))
    assert milliseconds is not None
    assert left - 0.001 - 1e-9 <= milliseconds <= left * (1 + 1e-9)


@pytest.mark.parametrize("left", [0.0, -1.0, 1e-12])
def test_no_time_left_is_told_as_none(left: float) -> None:
    assert parse_grpc_timeout(format_grpc_timeout(left)) == 0
    assert format_milliseconds(left) == b"0"


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=x", True),
        (b"Application/GRPC", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_content_types_of_grpc(content_type: bytes, answer: bool) -> None:
    assert is_grpc(content_type) is answer


@pytest.mark.parametrize(
    ("fields", "own", "wait"),
    [
        ([], OWN, None),
        ([(OWN, b"200")], OWN, 0.2),
        ([(OWN, b"200")], None, None),
        ([(OWN, b"200"), (OWN, b"100")], OWN, 0.1),
        ([(OWN, b"soon")], OWN, None),
        ([(b"grpc-timeout", b"1S")], OWN, None),
        ([(b"grpc-timeout", b"1S"), GRPC], None, 1.0),
        ([GRPC, (b"grpc-timeout", b"1S"), (OWN, b"200")], OWN, 0.2),
        ([GRPC, (b"grpc-timeout", b"100m"), (OWN, b"200")], OWN, 0.1),
        ([GRPC, (b"grpc-timeout", b"soon"), (OWN, b"200")], OWN, 0.2),
    ],
)
def test_the_shortest_wait_counts(
    fields: list[tuple[bytes, bytes]], own: bytes | None, wait: float | None
) -> None:
    assert asked_for(fields, own) == wait
