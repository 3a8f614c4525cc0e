"""Fields that a route removes, sets and adds, in that order, and the variables in their values.

It is used on a message that is ready to be sent, so that a rule has the last word also on what
Spooky adds by itself. Framing, routing and what belongs to one hop are out of its reach.

A rule: a value is checked once, when the rules are made; a variable's value comes from a request
that was checked, so that no field can end early or begin another one.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Headers = list[tuple[bytes, bytes]]

UNTOUCHABLE = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
        *("te", "trailer", "content-length", "host"),
    )
)
"""What belongs to one hop (RFC 9110 section 7.6.1, RFC 9114 section 4.2), frames a message, or has
a place of its own, as the host has in `rewrite`."""

OF_CONTENT = frozenset(
    (
        *(b"content-type", b"content-encoding", b"content-language", b"content-location"),
        *(b"content-disposition", b"content-range", b"accept-ranges", b"etag", b"last-modified"),
        *(b"cache-control", b"cdn-cache-control", b"expires", b"pragma", b"age"),
    )
)
"""What says of a response's content what it is and how long it may be kept (RFC 9110 section 8,
RFC 9111, RFC 9213): what is right for what a route serves is wrong for an error in its place."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Values:
    """What the variables stand for in one request."""

    client_ip: bytes
    request_id: bytes
    host: bytes
    method: bytes
    path: bytes
    upstream: bytes


VARIABLES: dict[str, Callable[[Values], bytes]] = {
    "client_ip": lambda values: values.client_ip,
    "request_id": lambda values: values.request_id,
    "host": lambda values: values.host,
    "method": lambda values: values.method,
    "path": lambda values: values.path,
    "upstream": lambda values: values.upstream,
}
"""The client's address; the request's id; the host that it asked for, without a port; its method;
its path without the query, as the client wrote it; the upstream that takes it, or nothing."""

Template = bytes | tuple[bytes | Callable[[Values], bytes], ...]
"""A value: the same for all requests, or literals and variables."""


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """What is done to a message's fields; made by `make_header_rules`."""

    removed: frozenset[bytes]
    """Names that are taken out: those to remove, and those to set."""
    written: tuple[tuple[bytes, Template], ...]
    """Fields that are put at the end: those that are set, then those that are added."""

    def apply(self, headers: Headers, values: Values) -> Headers:
        """Return the fields as the rules have them."""
        removed = self.removed
        kept = [field for field in headers if field[0] not in removed] if removed else [*headers]
        for name, template in self.written:
            kept.append((name, render(template, values)))
        return kept

    def without(self, names: frozenset[bytes]) -> "HeaderRules | None":
        """Return the rules that are not for these fields; None where there are no others."""
        removed = self.removed - names
        written = tuple(field for field in self.written if field[0] not in names)
        return HeaderRules(removed, written) if removed or written else None


def make_header_rules(
    add: Iterable[tuple[str, str]] = (),
    replace: Iterable[tuple[str, str]] = (),
    remove: Iterable[str] = (),
) -> HeaderRules | None:
    """Make the rules; None where there are none. Names may be in any case.

    Raises:
        ValueError: a name or a value that cannot be sent, a name out of reach, or a variable that
            there is not; or two rules that contradict each other.
    """
    adds = [(checked_name(name), parse_value(value)) for name, value in add]
    sets = [(checked_name(name), parse_value(value)) for name, value in replace]
    gone = [checked_name(name) for name in remove]
    if len({name for name, _ in sets}) < len(sets):
        raise ValueError("a field is set twice")
    if twice := {name for name, _ in sets}.intersection(gone):
        raise ValueError(f"{min(twice).decode()} is both set and removed")
    written = (*sets, *adds)
    removed = frozenset((*gone, *(name for name, _ in sets)))
    return HeaderRules(removed, written) if removed or written else None


def checked_name(name: str) -> bytes:
    """Return a field's name in lower case. Raises ValueError where rules may not touch it."""
    lower = name.lower()
    if lower.startswith(":"):
        raise ValueError(f"{name} is a pseudo-header field")
    if not name.isascii() or not _NAME.fullmatch(lower):
        raise ValueError(f"{name!r} is no field name")
    if lower in UNTOUCHABLE:
        raise ValueError(f"{name} is not for header rules")
    return lower.encode()


def parse_value(value: str) -> Template:
    """Take a value apart. Raises ValueError where it cannot be sent, or names no variable.

    `${name}` is a variable, `$${` stands for `${` itself.
    """
    if value and not _VALUE.fullmatch(value):
        raise ValueError(f"{value!r} is no field value: visible ASCII, spaces and tabs inside")
    parts: list[bytes | Callable[[Values], bytes]] = []
    for number, piece in enumerate(value.split("$${")):
        if number:
            parts.append(b"${")
        end = 0
        for found in _VARIABLE.finditer(piece):
            if found[1] not in VARIABLES:
                raise ValueError(f"there is no variable {found[0]}")
            parts += [piece[end : found.start()].encode(), VARIABLES[found[1]]]
            end = found.end()
        if "${" in piece[end:]:
            raise ValueError("a ${ that is not closed")
        parts.append(piece[end:].encode())
    literals = [part for part in parts if isinstance(part, bytes)]
    if len(literals) == len(parts):
        return b"".join(literals)
    return tuple(part for part in parts if part != b"")


def render(template: Template, values: Values) -> bytes:
    """Return the value for one request, without whitespace around it."""
    if isinstance(template, bytes):
        return template
    pieces = (part if isinstance(part, bytes) else part(values) for part in template)
    return b"".join(pieces).strip()
