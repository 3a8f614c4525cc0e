"""Regular expressions of the file: those that compile and cannot run away.

Python's engine goes back and tries again, so that a pattern such as `(a+)+` can take years over
a short text of a client's choice. What is matched is bounded in length by those who match; here
the patterns are bounded: they are read by Python's own parser, and what could be matched in very
many ways is refused, with the way to write it instead.

A rule: what counts is in how many ways a text can be divided among the parts of a pattern, at
most `MOST_WAYS`. A repeat whose length is open has as many as the text has octets, unless it is
possessive (`*+`), atomic (`(?>...)`), or what follows cannot begin as it does: `[^/]*/` has one.
A repeat inside a repeat would have more than can be counted, unless the inner one has only one.
"""

import re
from collections.abc import Iterable, Sequence
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from spooky.config.names import UnfitError

MOST_WAYS = 4096
"""One open repeat, and some alternatives. Each way costs at most one pass over the text."""

_MOST_WAYS_OF_A_STEP = 64
"""Of an atomic group that is repeated, and so tried at each octet of the text."""

LONGEST = 1024
"""Octets of the longest text that a pattern is tried on."""

_ALL = frozenset(range(256))
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_ASSERTIONS = (_constants.ASSERT, _constants.ASSERT_NOT)
_REFERENCES = (_constants.GROUPREF, _constants.GROUPREF_EXISTS)
_UNKNOWN = (None, None)
"""Whatever follows a part that does not know what does."""
_CATEGORIES = {
    _constants.CATEGORY_DIGIT: rb"\d",
    _constants.CATEGORY_NOT_DIGIT: rb"\D",
    _constants.CATEGORY_SPACE: rb"\s",
    _constants.CATEGORY_NOT_SPACE: rb"\S",
    _constants.CATEGORY_WORD: rb"\w",
    _constants.CATEGORY_NOT_WORD: rb"\W",
}
_HINT = "; make it possessive ([^/]++ in place of [^/]+) or atomic, (?>...)"


def parse_pattern(text: str) -> str:
    """Read a regular expression, which has to match all of what it is tried on.

    Raises `UnfitError` where it does not compile, or could take too long.
    """
    try:
        pattern = text.encode("ascii")
        re.compile(pattern, re.DOTALL)
        parsed = _parser.parse(pattern, re.DOTALL)
    except UnicodeEncodeError:
        raise UnfitError("a pattern is ASCII; other octets are written as \\xHH") from None
    except re.error as error:
        where = "" if error.pos is None else f" at position {error.pos + 1}"
        raise UnfitError(f"the pattern does not compile: {error.msg}{where}") from None
    except (RecursionError, OverflowError):
        raise UnfitError("the pattern is nested too deep, or repeats too often") from None
    if _ways(_flat(parsed), ()) > MOST_WAYS:
        raise UnfitError(
            "a text could be divided among the repeats of the pattern in too many ways"
            f"{_HINT}, or say what ends a part: [^/]*/ in place of .*/"
        )
    return text


def groups_of(pattern: str) -> tuple[int, frozenset[str]]:
    """Count a pattern's groups, and list those that have a name."""
    compiled = re.compile(pattern)
    return compiled.groups, frozenset(compiled.groupindex)


Node = tuple[Any, Any]


def _flat(items: Iterable[Node]) -> list[Node]:
    """Write a sequence without the groups around its parts."""
    flat: list[Node] = []
    for kind, value in items:
        if kind is _constants.SUBPATTERN:
            flat += _flat(value[3])
        else:
            flat.append((kind, value))
    return flat


def _ways(items: Sequence[Node], after: Sequence[Node]) -> int:
    """Count the ways to divide a text among these parts, which `after` follows."""
    ways = 1
    for index, (kind, value) in enumerate(items):
        rest = (*items[index + 1 :], *after)
        if kind in _REPEATS:
            ways *= _ways_of_repeat(value, rest)
        elif kind is _constants.POSSESSIVE_REPEAT:
            _refuse_open(_flat(value[2]))
        elif kind is _constants.BRANCH:
            ways *= sum(_ways(_flat(branch), rest) for branch in value[1])
        elif kind in _ASSERTIONS:
            ways *= _ways(_flat(value[1]), (_UNKNOWN,))
        elif kind is _constants.ATOMIC_GROUP:
            # Never gone back into, but tried anew for each way of what is before it.
            ways *= _ways(_flat(value), (_UNKNOWN,))
        elif kind in _REFERENCES:
            raise UnfitError("back-references are not supported in a pattern")
    return ways


def _ways_of_repeat(value: tuple[int, int, Iterable[Node]], rest: Sequence[Node]) -> int:
    low, high, body = value
    inner = _flat(body)
    if high <= 1:
        return 1 + _ways(inner, rest)
    _refuse_open(inner)
    own, following = _first(inner), _first(rest)
    if low == high or (own is not None and following is not None and not own & following):
        return 1
    return min(int(high) - int(low) + 1, LONGEST)


def _refuse_open(body: Sequence[Node]) -> None:
    """Refuse what can be matched in several ways inside a repeat.

    An atomic group is matched in one way, however it is found, which may cost a little.
    """
    atomic = [_flat(value) for kind, value in body if kind is _constants.ATOMIC_GROUP]
    rest = [_UNKNOWN if node[0] is _constants.ATOMIC_GROUP else node for node in body]
    if _ways(rest, (_UNKNOWN,)) > 1 or any(
        _ways(one, (_UNKNOWN,)) > _MOST_WAYS_OF_A_STEP for one in atomic
    ):
        raise UnfitError(f"the pattern has a repeat or alternatives inside a repeat{_HINT}")


def _first(items: Sequence[Node]) -> frozenset[int] | None:
    """The octets that a part can begin with; none at the end of all, None where it is unknown."""
    return _set_of(items[0]) if items else frozenset()


def _set_of(node: Node) -> frozenset[int] | None:
    kind, value = node
    if kind is _constants.LITERAL:
        return _both_cases(frozenset((value,)))
    if kind is _constants.NOT_LITERAL:
        return _both_cases(_ALL - {value})
    if kind is _constants.ANY:
        return _ALL
    if kind is not _constants.IN:
        return None
    members: frozenset[int] = frozenset().union(*map(_members, value))
    return _both_cases(_ALL - members if value[0][0] is _constants.NEGATE else members)


def _both_cases(octets: frozenset[int]) -> frozenset[int]:
    """Add the other case of letters, for the pattern may be one that takes both."""
    return octets | frozenset(bytes(octets).lower()) | frozenset(bytes(octets).upper())


def _members(node: Node) -> frozenset[int]:
    kind, value = node
    if kind is _constants.LITERAL:
        return frozenset((value,))
    if kind is _constants.RANGE:
        return frozenset(range(value[0], value[1] + 1))
    if kind is _constants.CATEGORY:
        test = re.compile(_CATEGORIES[value])
        return frozenset(octet for octet in _ALL if test.match(bytes((octet,))))
    return frozenset()
