"""The fields of requests to backends, and which a response may have (RFC 9113 section 8).

It owns the checks of names and values that must hold before they are written in another version
of HTTP. h2 can do the most of them, octet by octet in Python, but takes a fault in one message
for the end of the whole connection; here it is a fault of its stream (section 8.1.1).

A rule: whatever h2 would refuse is refused here too, which a test compares.
"""

import re
from collections.abc import Iterable

from spooky.protocol.messages import Headers, RequestHead

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]\Z")
_STATUS = re.compile(rb"[1-5][0-9][0-9]")
_LENGTH = re.compile(rb"[0-9]{1,19}")
_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_KNOWN_LENGTH = 128
_MOST_KNOWN = 4096
_known: set[tuple[bytes, bytes]] = set()
"""Fields in order: responses repeat the same few, and to look one up is ten times as fast."""


class FieldError(Exception):
    """A message whose fields break the rules; the text says which, for the log."""


def request_fields(head: RequestHead) -> Headers:
    """Return the pseudo-header fields and the fields of a request (RFC 9113 section 8.3.1)."""
    fields: Headers = [(b":method", head.method)]
    if head.method != b"CONNECT" or head.protocol is not None:
        fields += (b":scheme", head.scheme), (b":path", head.path)
    if head.authority:
        fields.append((b":authority", head.authority))
    if head.protocol is not None:
        fields.append((b":protocol", head.protocol))
    return fields + head.headers


def read_head(
    received: Iterable[tuple[bytes, bytes]], limit: int
) -> tuple[int, Headers, int | None]:
    """Return the status, the fields and the promised length of a response's header section.

    Raises:
        FieldError: the section breaks a rule.
    """
    status, headers = check_response(received, limit)
    return status, headers, content_length(headers)


def check_response(received: Iterable[tuple[bytes, bytes]], limit: int) -> tuple[int, Headers]:
    """Return the status and the fields of a response's header section.

    Args:
        received: the section as it was decoded, `:status` among it.
        limit: the most octets of names and values plus 32 each (section 6.5.2).

    Raises:
        FieldError: the section breaks a rule.
    """
    fields = iter(received)
    name, status = next(fields, (b"", b""))
    if name != b":status" or not _STATUS.fullmatch(status):
        raise FieldError(f"no valid :status at the start: {name[:32]!r}: {status[:32]!r}")
    if status == b"101":
        raise FieldError("status 101 is not part of HTTP/2")
    return int(status), check_fields(fields, limit)


def check_fields(received: Iterable[tuple[bytes, bytes]], limit: int) -> Headers:
    """Return the fields of a section that may have no pseudo-header fields, such as trailers.

    Raises:
        FieldError: the section breaks a rule.
    """
    headers = list(received)
    size = 32 * len(headers)
    for field in headers:
        name, value = field
        size += len(name) + len(value)
        if field not in _known:
            _check(field)
    if size > limit:
        raise FieldError(f"a section of {size} octets, {limit} are allowed")
    return headers


def content_length(headers: Headers) -> int | None:
    """Return what Content-Length says, None without one.

    Raises:
        FieldError: it is not a number, or there are several that differ (RFC 9110 section 8.6).
    """
    found: int | None = None
    for name, value in headers:
        if name == b"content-length":
            if not _LENGTH.fullmatch(value) or found not in (None, int(value)):
                raise FieldError(f"invalid or conflicting content-length: {value[:32]!r}")
            found = int(value)
    return found


def _check(field: tuple[bytes, bytes]) -> None:
    name, value = field
    fault = _find_fault(name, value)
    if fault is not None:
        raise FieldError(fault)
    if len(name) + len(value) <= _KNOWN_LENGTH:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known.add(field)


def _find_fault(name: bytes, value: bytes) -> str | None:
    if not _NAME.fullmatch(name):
        if name.startswith(b":"):
            return f"pseudo-header field {name[:32]!r} where none may be"
        return f"invalid field name {name[:32]!r}"
    if _BAD_VALUE.search(value):
        return f"invalid value of field {name[:32]!r}"
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
        return f"connection-specific field {name!r}"
    return None
