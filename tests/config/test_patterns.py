import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.config.names import UnfitError
from spooky.config.patterns import LONGEST, groups_of, parse_pattern
from spooky.policy.matchers import LONGEST_MATCHED

FINE = [
    r"/users/([^/]+)/posts/([0-9]+)",
    r"/(?P<lang>en|de|fr)/.*",
    r"v[0-9]+\.[0-9]+\.[0-9]+",
    "(?i)mobile.*",
    "(?:/[^/]++)*",
    "(?>ab|cd)+",
    "(a|b)+",
    "a*a*b",
    "[a-z0-9_-]{1,64}",
    "(?!/admin).*",
    "(?:a?a?a?)b",
    "/([^/]*)/x/([^/]*)/y/(.*)z",
]


@pytest.mark.parametrize("text", FINE)
def test_patterns_that_are_taken_as_they_are(text: str) -> None:
    assert parse_pattern(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(", "the pattern does not compile: .* at position 1"),
        ("a**", "the pattern does not compile: multiple repeat at position 3"),
        ("[z-a]", "the pattern does not compile: bad character range z-a at position 2"),
        ("é", "a pattern is ASCII"),
        (r"(.)\1", "back-references are not supported"),
        ("(a+)+", "inside a repeat; make it possessive"),
        ("(a|a)+b", "inside a repeat"),
        ("(?:ab|c)*", "inside a repeat"),
        ("(?:a?){30}", "inside a repeat"),
        ("((a*)*)*", "inside a repeat"),
        ("(?>(?:a|ab)*x)*", "inside a repeat"),
        ("(?>a*a*x)*", "inside a repeat"),
        (".*/.*/.*x", "in too many ways"),
        (".*-.*-.*", "in too many ways"),
        ("(/[^/]+)*", "inside a repeat"),
        ("/(.*)/x/(.*)/y/(.*)z", "in too many ways"),
        ("a?" * 30 + "a" * 30, "in too many ways"),
        ("(?>a*a*a*)b", "in too many ways"),
        ("(?i)a*A*a*b", "in too many ways"),
    ],
)
def test_patterns_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UnfitError, match=message):
        parse_pattern(text)


def test_the_bound_is_that_of_those_who_match() -> None:
    assert LONGEST == LONGEST_MATCHED


def test_groups() -> None:
    assert groups_of("(a)(?P<b>c)(?:d)") == (2, frozenset({"b"}))


ATOMS = st.sampled_from(["a", "b", "[ab]", ".", "[^a]", "", "(?>a*)", "a|b", "ab|a", "(?!b)"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "*+", "{2}", "{0,9}"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.sampled_from(["a", "b", "ab", "aab", "ba"]), st.sampled_from(["", "c", "a"]))
def test_no_pattern_that_is_taken_runs_away(text: str, piece: str, end: str) -> None:
    try:
        parse_pattern(text)
    except UnfitError:
        return
    compiled = re.compile(text.encode(), re.DOTALL)
    subject = (piece * LONGEST)[: LONGEST - 1] + end
    started = time.process_time()
    compiled.fullmatch(subject.encode())
    assert time.process_time() - started < 0.5
