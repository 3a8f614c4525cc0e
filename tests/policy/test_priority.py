"""The class of a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.priority import class_of, parse_class


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"u=0", 0),
        (b"u=5, i", 5),
        (b"i, u=6", 6),
        (b"i,\tu=6;x=1", 6),
        (b"u=2, u=4", 4),
        (b"u=8", None),
        (b"u=-1", None),
        (b"u=33", None),
        (b"u", None),
        (b"u=", None),
        (b"mu=1", None),
        (b"i", None),
        (b"", None),
        (b"7", 7),
        (b" 4 ", 4),
        (b"8", None),
        (b"low", 5),
        (b"High", 1),
        (b"normal", 3),
        (b"lowest", None),
        (b"u=low", None),
        (b"\xff", None),
    ],
)
def test_what_a_field_says(value: bytes, said: int | None) -> None:
    assert parse_class(value) == said


@given(st.binary())
def test_any_octets_are_read(value: bytes) -> None:
    assert parse_class(value) in {None, *range(8)}


@pytest.mark.parametrize(
    ("own", "value", "trusted", "level"),
    [
        (3, None, False, 3),
        (3, b"u=5", False, 5),
        (3, b"u=0", False, 3),
        (3, b"u=0", True, 0),
        (3, b"u=7", True, 7),
        (3, b"nonsense", True, 3),
        (5, b"high", False, 5),
    ],
)
def test_a_client_raises_itself_only_where_it_is_trusted(
    own: int, value: bytes | None, trusted: bool, level: int
) -> None:
    assert class_of(own, value, trusted=trusted) == level
