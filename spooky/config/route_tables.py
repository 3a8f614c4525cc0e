"""The keys of routes, declared once; as `tables.py`, of which it is a part."""

import re
from dataclasses import replace
from typing import Any

from spooky.config import names, route_names
from spooky.config.decimals import decimal
from spooky.config.document import Word
from spooky.config.names import UnfitError
from spooky.config.pairs import LongText, NamedSecrets, NamedValues, ShortOr
from spooky.config.patterns import parse_pattern
from spooky.config.rate_tables import RATE_LIMIT
from spooky.config.routes import (
    HeaderChanges,
    Match,
    Mirror,
    Redirect,
    Respond,
    Rewrite,
    Route,
    Rule,
    Split,
)
from spooky.config.scalars import Scalar, boolean, choice, host, integer, path, text
from spooky.config.shapes import Field, ListOf, Section

MOST_CONTENT = 64 << 10
"""Octets of an answer's content that is written in the file itself."""

_REDIRECTS = (301, 302, 303, 307, 308)

_HOST = host("a host such as api.example.com or *.example.com", names.parse_route_host)
_PREFIX = host("a path such as /api", names.parse_path_prefix)
_NEW_PATH = text(
    "a path that begins with /, without query, fragment, space and non-ASCII",
    convert=route_names.parse_new_path,
)
_AUTHORITY = text(
    "a host such as www.example.com or www.example.com:8443", convert=route_names.parse_authority
)
_PATTERN = text("a regular expression", convert=parse_pattern)
_VALUE = text("visible ASCII, spaces inside", convert=route_names.parse_field_value)
_UPSTREAM = text("the name of an upstream", r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_FIELD_NAME = text("the name of a header", convert=route_names.parse_field_name)
_PAIR_NAME = text("a name", convert=route_names.parse_pair_name)
_RULED_NAME = text("the name of a header", convert=route_names.parse_ruled_name)
_RULED_VALUE = text("visible ASCII, spaces inside", convert=route_names.parse_ruled_value)

_ANY_TEXT = text("some text")


def _match_parts(match: Match) -> dict[str, Any]:
    every = {key: getattr(match, key) for key in ("exact", "prefix", "regex", "present", "invert")}
    return {key: value for key, value in every.items() if value is not None}


MATCH = Section(
    Match,
    {
        "exact": Field(_ANY_TEXT),
        "prefix": Field(_ANY_TEXT),
        "regex": Field(_PATTERN),
        "present": Field(boolean()),
        "invert": Field(boolean()),
    },
    parts=_match_parts,
)


def _exact_alone(match: Match) -> str | None:
    return match.exact if match == Match(match.exact) else None


_MATCH = ShortOr(_ANY_TEXT, MATCH, Match, _exact_alone)

REWRITE = Section(
    Rewrite,
    {
        "prefix": Field(_NEW_PATH),
        "regex": Field(_PATTERN),
        "to": Field(_NEW_PATH),
        "host": Field(_AUTHORITY),
    },
)

HEADER_CHANGES = Section(
    HeaderChanges,
    {
        "remove": Field(ListOf(_RULED_NAME)),
        "set": Field(NamedSecrets(_RULED_NAME, _RULED_VALUE)),
        "add": Field(NamedSecrets(_RULED_NAME, _RULED_VALUE)),
    },
)

MIRROR = Section(
    Mirror,
    {
        "upstream": Field(_UPSTREAM, "missing; write the name of an upstream"),
        "percent": Field(decimal(0, 100)),
    },
)

SPLIT = Section(
    Split,
    {
        "upstreams": Field(
            NamedValues(_UPSTREAM, integer(0, 1000), at_least=1),
            "missing; write {NAME: WEIGHT, OTHER: WEIGHT}",
        ),
        "key": Field(
            text(
                "client_ip, header:NAME, cookie:NAME, query:NAME or random",
                convert=route_names.parse_split_key,
            )
        ),
    },
)


def _redirect_status() -> Scalar:
    number = integer(301, 308)
    expected = "301, 302, 303, 307 or 308"

    def parse(given: Word) -> int:
        if not re.fullmatch(r"30[1-8]", given.text) or int(given.text) not in _REDIRECTS:
            raise UnfitError
        return int(number.parse(given))

    return replace(number, expected=expected, parse=parse, json={"enum": list(_REDIRECTS)})


REDIRECT = Section(
    Redirect,
    {
        "status": Field(_redirect_status()),
        "scheme": Field(choice(["https", "http"])),
        "host": Field(_AUTHORITY),
        "path": Field(_NEW_PATH),
        "prefix": Field(_NEW_PATH),
    },
)

RESPOND = Section(
    Respond,
    {
        "status": Field(integer(200, 599)),
        "body": Field(LongText(MOST_CONTENT)),
        "file": Field(path()),
        "content_type": Field(_VALUE),
    },
)

_ROUTE: dict[str, Field] = {
    "host": Field(_HOST),
    "path_prefix": Field(_PREFIX),
    "methods": Field(ListOf(text("a method such as GET", convert=route_names.parse_method))),
    "headers": Field(NamedSecrets(_FIELD_NAME, _MATCH)),
    "cookies": Field(NamedSecrets(_PAIR_NAME, _MATCH)),
    "query": Field(NamedSecrets(_PAIR_NAME, _MATCH)),
    "priority": Field(integer(-1_000_000, 1_000_000)),
    "rewrite": Field(REWRITE),
    "request_headers": Field(HEADER_CHANGES),
    "response_headers": Field(HEADER_CHANGES),
    "mirror": Field(MIRROR),
    "rate_limits": Field(ListOf(RATE_LIMIT)),
}


def _route_parts(route: Route) -> dict[str, Any]:
    optional = {"mirror", "split", "redirect", "respond"}
    keys = (*_ROUTE, "split", "redirect", "respond") if isinstance(route, Rule) else _ROUTE
    parts = {key: getattr(route, key) for key in keys}
    return {key: one for key, one in parts.items() if key not in optional or one is not None}


ROUTE = Section(Route, _ROUTE, parts=_route_parts)

RULE = Section(
    Rule,
    {
        **_ROUTE,
        "split": Field(SPLIT),
        "redirect": Field(REDIRECT),
        "respond": Field(RESPOND),
    },
    parts=_route_parts,
)
