"""How a request's path and host are changed on their way to the backend.

A path is rewritten in the form in which routes compare it (`routing.normal_path`), so that no
detour such as `/x/../api` escapes the rule; the query stays as it is. Nothing here looks at a
request's other fields.

A rule: what comes out is a path again, whatever the request: it begins with a slash and has only
octets that the request had, or that the rule itself was allowed to have.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from spooky.policy.matchers import LONGEST_MATCHED
from spooky.policy.routing import normal_path

PathRewrite: TypeAlias = Callable[[bytes], bytes]
"""Takes a `:path`, with its query, and gives the one to send."""

_ALLOWED = bytes(octet for octet in range(0x21, 0x7F) if octet not in b"#?")
"""What a path may have: visible ASCII without what begins a query or a fragment."""
_REFERENCE = re.compile(rb"\\(?:([1-9][0-9]?)|g<([A-Za-z_][A-Za-z0-9_]*|[1-9][0-9]?)>|(.?))")


def is_path(text: bytes) -> bool:
    """Say whether it is a path that can be sent: a slash first, no query, no control octets."""
    return text[:1] == b"/" and not text.translate(None, _ALLOWED)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a route changes: None leaves as it is."""

    path: PathRewrite | None = None
    authority: bytes | None = None


def replace_prefix(old: str, new: str) -> PathRewrite:
    """Replace the path prefix that a route matched.

    `/api` by `/v2` makes `/v2/x` of `/api/x`, and `/v2` of `/api`; by `/` it makes `/x` and `/`.

    Raises:
        ValueError: `new` is no path.
    """
    ours, theirs = old.rstrip("/").encode(), new.rstrip("/").encode()
    if not is_path(new.encode()):
        raise ValueError(f"{new!r} is no path that begins with a slash")

    def rewrite(path: bytes) -> bytes:
        if path == b"*":
            return path
        plain = normal_path(path)
        if plain != ours and not plain.startswith(ours + b"/"):
            return path
        return _with_query(theirs + plain[len(ours) :] or b"/", path)

    return rewrite


def rewrite_by_pattern(pattern: str, template: str) -> PathRewrite:
    r"""Rewrite paths that match all of a regular expression by a template.

    `\1` or `\g<name>` in the template is what a group matched, empty where it did not take part,
    and `\\` a backslash. A path that does not match, or is longer than `LONGEST_MATCHED`, stays.

    Raises:
        re.error: the pattern does not compile.
        ValueError: the template is no path, or names a group that there is not.
    """
    compiled = re.compile(pattern.encode(), re.DOTALL)
    parts = parse_template(template, compiled)

    def rewrite(path: bytes) -> bytes:
        plain = normal_path(path)
        found = compiled.fullmatch(plain) if len(plain) <= LONGEST_MATCHED else None
        if found is None or path == b"*":
            return path
        pieces = (part if isinstance(part, bytes) else found[part] or b"" for part in parts)
        return _with_query(b"".join(pieces), path)

    return rewrite


def parse_template(template: str, pattern: re.Pattern[bytes]) -> list[bytes | int]:
    """Take a template apart into literal octets and numbers of groups.

    Raises:
        ValueError: it is no path, or names a group that the pattern has not.
    """
    text = template.encode()
    if not is_path(text):
        raise ValueError(f"{template!r} is no path that begins with a slash")
    parts: list[bytes | int] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        parts.append(text[end : found.start()])
        parts.append(_part(found, pattern))
        end = found.end()
    parts.append(text[end:])
    return [part for part in parts if part != b""]


def _part(found: re.Match[bytes], pattern: re.Pattern[bytes]) -> bytes | int:
    number, name, other = found[1], found[2], found[3]
    if other is not None:
        if other == b"\\":
            return other
        raise ValueError(f"{found[0].decode()} is no group; a backslash itself is written \\\\")
    reference = (number or name).decode()
    index = int(reference) if reference.isdigit() else pattern.groupindex.get(reference, 0)
    if not 0 < index <= pattern.groups:
        raise ValueError(f"the pattern has no group {reference}")
    return index


def _with_query(path: bytes, original: bytes) -> bytes:
    _, mark, query = original.partition(b"?")
    return path + mark + query
