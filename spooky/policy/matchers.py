"""What a route asks of a request beyond its host and path: method, headers, cookies, query.

A `Matcher` is made once and holds if its methods and all of its conditions do. Nothing of a
request is taken apart before a condition asks for it, and then once for all routes that are
tried. It never sees a route's host or path: `routing` has found them by then.

A rule: a header, cookie or parameter that is there several times fits if one of its values does.
A value longer than `LONGEST_MATCHED` fits no regular expression, and none that is negated either:
what cannot be judged opens no route.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from urllib.parse import unquote_to_bytes

from spooky.policy.cookies import cookie_pairs

LONGEST_MATCHED = 1024
"""Octets of a value that a regular expression is tried on."""


class Request(Protocol):
    """What is looked at."""

    @property
    def method(self) -> bytes:
        """The method, as on the wire."""

    @property
    def path(self) -> bytes:
        """The path with its query."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Names in lower case, and values."""


class Source(Enum):
    """Where a condition looks."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"


class How(Enum):
    """What a condition asks of the values there."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must be so; with `negated`, one that must not be.

    `name` is in lower case for a header, as it is for a cookie or a parameter. `value` is nothing
    for PRESENT, and the source of a regular expression on octets, to match all of the value, for
    REGEX.
    """

    source: Source
    name: bytes
    how: How
    value: bytes = b""
    negated: bool = False


class Facts:
    """A request, taken apart as far as somebody asked."""

    __slots__ = ("_found", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._found: dict[Source, dict[bytes, list[bytes]]] = {}

    @property
    def method(self) -> bytes:
        """The method."""
        return self._request.method

    def values(self, source: Source, name: bytes) -> list[bytes]:
        """List the values that the request has there, in its order."""
        known = self._found.get(source)
        if known is None:
            known = self._found[source] = _gather(_READERS[source](self._request))
        return known.get(name, [])


def _gather(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _headers(request: Request) -> Sequence[tuple[bytes, bytes]]:
    return request.headers


def cookies_of(request: Request) -> list[tuple[bytes, bytes]]:
    """List the cookies, of all cookie fields."""
    return list(cookie_pairs(value for name, value in request.headers if name == b"cookie"))


def query_of(request: Request) -> list[tuple[bytes, bytes]]:
    """List the query's parameters, decoded as a form is (`%41` and `+`)."""
    query = request.path.partition(b"?")[2]
    pairs = (pair.partition(b"=") for pair in query.split(b"&") if pair)
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


_READERS: dict[Source, Callable[[Request], Sequence[tuple[bytes, bytes]]]] = {
    Source.HEADER: _headers,
    Source.COOKIE: cookies_of,
    Source.QUERY: query_of,
}


class Matcher:
    """All that a route asks of a request."""

    __slots__ = ("_checks", "conditions", "methods")

    def __init__(
        self, methods: frozenset[bytes] = frozenset(), conditions: Sequence[Condition] = ()
    ) -> None:
        """Take the methods (none: any) and the conditions, of which all have to hold.

        Raises:
            re.error: a regular expression does not compile.
        """
        self.methods = methods
        self.conditions = tuple(conditions)
        self._checks = tuple(_check_of(condition) for condition in conditions)

    @property
    def asks(self) -> tuple[frozenset[bytes], frozenset[Condition]]:
        """What two matchers that ask for the same have in common."""
        return self.methods, frozenset(self.conditions)

    @property
    def weight(self) -> int:
        """How many things it asks for; one that asks for more is tried first."""
        return len(self.conditions) + bool(self.methods)

    def fits(self, facts: Facts) -> bool:
        """Say whether the request is one of those that it asks for."""
        if self.methods and facts.method not in self.methods:
            return False
        return all(check(facts) for check in self._checks)


Check = Callable[[Facts], bool]


def _check_of(condition: Condition) -> Check:
    source, name, wanted = condition.source, condition.name, not condition.negated
    value = condition.value
    match condition.how:
        case How.PRESENT:
            return lambda facts: bool(facts.values(source, name)) is wanted
        case How.EXACT:
            return lambda facts: (value in facts.values(source, name)) is wanted
        case How.PREFIX:
            return lambda facts: (
                any(one.startswith(value) for one in facts.values(source, name)) is (wanted)
            )
    pattern = re.compile(value, re.DOTALL)

    def check(facts: Facts) -> bool:
        values = facts.values(source, name)
        if any(len(one) > LONGEST_MATCHED for one in values):
            return False
        return any(pattern.fullmatch(one) for one in values) is wanted

    return check
