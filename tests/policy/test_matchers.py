from dataclasses import dataclass
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.policy.matchers import (
    LONGEST_MATCHED,
    Condition,
    Facts,
    How,
    Matcher,
    Source,
    cookies_of,
    query_of,
)


@dataclass(frozen=True)
class Asked:
    method: bytes = b"GET"
    path: bytes = b"/"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def fits(condition: Condition, request: Asked) -> bool:
    return Matcher(conditions=(condition,)).fits(Facts(request))


def header(how: How, value: bytes = b"", *, negated: bool = False) -> Condition:
    return Condition(Source.HEADER, b"x", how, value, negated)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        # What fits each of: no header, "", "abc", "b" and "abc" in two fields.
        (header(How.PRESENT), "0111"),
        (header(How.PRESENT, negated=True), "1000"),
        (header(How.EXACT, b"abc"), "0011"),
        (header(How.EXACT, b"abc", negated=True), "1100"),
        (header(How.EXACT, b"ABC"), "0000"),
        (header(How.EXACT), "0100"),
        (header(How.PREFIX, b"ab"), "0011"),
        (header(How.PREFIX, b"abcd"), "0000"),
        (header(How.PREFIX, b"ab", negated=True), "1100"),
        (header(How.REGEX, b"a.c"), "0011"),
        (header(How.REGEX, b"a"), "0000"),
        (header(How.REGEX, b"b"), "0001"),
        (header(How.REGEX, b".*"), "0111"),
        (header(How.REGEX, b"a.*", negated=True), "1100"),
    ],
)
def test_a_condition_on_a_header(condition: Condition, expected: str) -> None:
    requests = [
        Asked(),
        Asked(headers=((b"x", b""),)),
        Asked(headers=((b"y", b"b"), (b"x", b"abc"))),
        Asked(headers=((b"x", b"b"), (b"x", b"abc"))),
    ]
    assert "".join(str(int(fits(condition, request))) for request in requests) == expected


@pytest.mark.parametrize("negated", [False, True])
def test_what_is_too_long_for_a_pattern_opens_no_route(negated: bool) -> None:
    condition = header(How.REGEX, b"a*", negated=negated)
    longest, longer = b"a" * LONGEST_MATCHED, b"a" * (LONGEST_MATCHED + 1)
    assert fits(condition, Asked(headers=((b"x", longest),))) is not negated
    assert not fits(condition, Asked(headers=((b"x", longer),)))
    assert not fits(condition, Asked(headers=((b"x", b"a"), (b"x", longer))))
    assert fits(header(How.PREFIX, b"aa"), Asked(headers=((b"x", longer),)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], []),
        ([b"a=1; b=2"], [(b"a", b"1"), (b"b", b"2")]),
        ([b"a=1", b"a=2;c=x=y"], [(b"a", b"1"), (b"a", b"2"), (b"c", b"x=y")]),
        ([b" a = 1 ;;b;=v"], [(b"a", b"1"), (b"", b"v")]),
        ([b'a="1"'], [(b"a", b'"1"')]),
    ],
)
def test_cookies(fields: list[bytes], expected: list[tuple[bytes, bytes]]) -> None:
    assert cookies_of(Asked(headers=tuple((b"cookie", one) for one in fields))) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", []),
        (b"/?", []),
        (b"/?a", [(b"a", b"")]),
        (b"/?a=1&a=2&&b=c=d", [(b"a", b"1"), (b"a", b"2"), (b"b", b"c=d")]),
        (b"/?%61+b=%2B+%zz", [(b"a b", b"+ %zz")]),
        (b"/a=1?b=?c=2", [(b"b", b"?c=2")]),
        (b"*", []),
    ],
)
def test_query(path: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert query_of(Asked(path=path)) == expected


def test_methods_and_all_conditions_have_to_fit() -> None:
    matcher = Matcher(
        frozenset({b"GET", b"HEAD"}),
        (
            Condition(Source.COOKIE, b"beta", How.EXACT, b"yes"),
            Condition(Source.QUERY, b"v", How.PREFIX, b"2"),
        ),
    )
    fields = ((b"cookie", b"x=1; beta=yes"),)
    assert matcher.fits(Facts(Asked(b"GET", b"/?v=2.1", fields)))
    assert matcher.fits(Facts(Asked(b"HEAD", b"/?v=2.1", fields)))
    assert not matcher.fits(Facts(Asked(b"POST", b"/?v=2.1", fields)))
    assert not matcher.fits(Facts(Asked(b"get", b"/?v=2.1", fields)))
    assert not matcher.fits(Facts(Asked(b"GET", b"/?v=1", fields)))
    assert not matcher.fits(Facts(Asked(b"GET", b"/?v=2")))
    assert matcher.weight == 3


def test_who_asks_for_nothing_gets_everything() -> None:
    assert Matcher().fits(Facts(Asked()))
    assert Matcher().weight == 0


class Counted:
    """A request that counts how often its fields are looked at."""

    method, path = b"GET", b"/"

    def __init__(self) -> None:
        self.reads = 0

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        self.reads += 1
        return [(b"cookie", b"a=1")]


def test_a_request_is_taken_apart_once() -> None:
    request = Counted()
    facts = Facts(request)
    for _ in range(5):
        assert facts.values(Source.COOKIE, b"a") == [b"1"]
    assert request.reads == 1


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_query_is_read_as_it_is_written(values: dict[str, str]) -> None:
    request = Asked(path=b"/?" + urlencode(values).encode())
    expected = [(name.encode(), value.encode()) for name, value in values.items()]
    assert query_of(request) == expected
