"""Which requests are well formed (RFC 9114 sections 4.1.2 to 4.4, RFC 9113 section 8.3).

It decides what may be carried over into HTTP/2: nothing that a backend could read in another way
than we do. It changes nothing; `headers.py` does. Reasons name fields, never their values.

A rule: the common request pays for a few passes over all its names and all its values at once;
only where one of them finds something is the culprit looked for, field by field.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from spooky.errors import Kind
from spooky.protocol.authority import is_same_authority, split_authority
from spooky.protocol.messages import Headers, RequestHead

CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields that HTTP/2 and HTTP/3 have no place for (RFC 9114 section 4.2)."""

_TCHAR = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_METHOD = _TCHAR + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# RFC 9110 section 5.5: tab, space, visible ASCII, obs-text.
_VALUE = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
# What RFC 3986 allows in a path and a query, and the few more that browsers leave as they are.
_PATH = bytes(octet for octet in range(0x21, 0x7F) if octet != ord("#"))
_SPECIAL = CONNECTION_SPECIFIC | {b"content-length", b"host", b"te"}
_LENGTH = re.compile(rb"[0-9]{1,18}")
_FIELD_OVERHEAD = 32
_PSEUDO_SIZE = len(b":method:scheme:authority:path") + 4 * _FIELD_OVERHEAD


class RequestLimits(Protocol):
    """The limits that a request's head can exceed; 0 octets of body: no limit."""

    @property
    def request_header_bytes(self) -> int:
        """Octets of names and values, plus 32 for each field."""

    @property
    def request_header_count(self) -> int:
        """Fields, pseudo-header fields not among them."""

    @property
    def request_body_bytes(self) -> int:
        """Octets of content."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is refused; `reason` is for the log."""

    kind: Kind
    reason: str


def check_request(head: RequestHead, limits: RequestLimits) -> Fault | None:
    """Return what is wrong with a request's head, None if it may be carried on."""
    names = [name for name, _ in head.headers]
    size = _PSEUDO_SIZE + len(head.method) + len(head.scheme) + len(head.authority) + len(head.path)
    return (
        _check_control_data(head)
        or _check_section(head.headers, names, size, limits)
        or _check_special(head, names, limits)
    )


def check_trailers(headers: Headers, limits: RequestLimits) -> Fault | None:
    """Return what is wrong with a request's trailer section, None if it may be carried on."""
    names = [name for name, _ in headers]
    fault = _check_section(headers, names, 0, limits)
    if fault is None and not CONNECTION_SPECIFIC.isdisjoint(names):
        return _bad("a connection-specific field among the trailers")
    return fault


def _bad(reason: str) -> Fault:
    return Fault(Kind.BAD_REQUEST, reason)


def _check_control_data(head: RequestHead) -> Fault | None:
    """Check the pseudo-header fields (RFC 9114 section 4.3.1), save that there is a host."""
    method, path = head.method, head.path
    if not method or method.translate(None, _METHOD):
        return _bad(":method is not a token")
    if method == b"CONNECT":
        return _check_connect(head)
    if head.protocol is not None:
        return _bad(":protocol, and the method is not CONNECT")
    if head.scheme != b"https" and head.scheme.lower() != b"https":
        return _bad(":scheme is not https")
    if head.authority:
        try:
            split_authority(head.authority)
        except ValueError:
            return _bad(":authority is malformed")
    if path[:1] != b"/" and not (path == b"*" and method == b"OPTIONS"):
        return _bad(":path does not begin with a slash")
    if path.translate(None, _PATH):
        return _bad(":path has a fragment, or an octet that must be percent-encoded")
    return None


def _check_connect(head: RequestHead) -> Fault:
    """Part what is malformed (RFC 9114 section 4.4, RFC 9220 section 3) from what we do not do."""
    is_extended = head.protocol is not None
    if not head.authority or not bool(head.scheme) == bool(head.path) == is_extended:
        return _bad("CONNECT with pseudo-header fields that are not those of CONNECT")
    return Fault(Kind.METHOD_NOT_SUPPORTED, "CONNECT is not supported")


def _check_section(
    headers: Headers, names: list[bytes], size: int, limits: RequestLimits
) -> Fault | None:
    """Check names and values for their octets, and all of them for their size."""
    count = len(names)
    if count > limits.request_header_count:
        reason = f"{count} fields, {limits.request_header_count} are allowed"
        return Fault(Kind.TOO_MANY_HEADERS, reason)
    if not count:
        return None
    values = [value for _, value in headers]
    # The separator is an octet that neither a name nor a value may have.
    all_names, all_values = b"\r".join(names), b"\r".join(values)
    separators = b"\r" * (count - 1)
    size += len(all_names) + len(all_values) + count * _FIELD_OVERHEAD - 2 * len(separators)
    if size > limits.request_header_bytes:
        reason = f"{size} octets of fields, {limits.request_header_bytes} are allowed"
        return Fault(Kind.HEADERS_TOO_LARGE, reason)
    if (
        all_names.translate(None, _TCHAR) != separators
        or all_values.translate(None, _VALUE) != separators
        or list(map(bytes.strip, values)) != values
        or b"" in names
    ):
        return _culprit(headers)
    return None


def _culprit(headers: Headers) -> Fault:
    """Return the fault of the first field that has one."""
    found = (_fault_of_field(name, value) for name, value in headers)
    return _bad(next(filter(None, found), "a malformed field"))


def _fault_of_field(name: bytes, value: bytes) -> str | None:
    shown = repr(name[:32])[1:]
    if not name:
        return "an empty field name"
    if name.translate(None, _TCHAR):
        has_upper = not name.lower().translate(None, _TCHAR)
        return f"the field name {shown} {'has upper case' if has_upper else 'is no token'}"
    if value.translate(None, _VALUE):
        return f"the value of {shown} has a control octet"
    if value.strip() != value:
        return f"the value of {shown} has whitespace around it"
    return None


def _check_special(head: RequestHead, names: list[bytes], limits: RequestLimits) -> Fault | None:
    """Check the fields that have a meaning for the message itself."""
    if head.authority and _SPECIAL.isdisjoint(names):
        return None
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    for name, value in head.headers:
        if name in CONNECTION_SPECIFIC:
            return _bad(f"the connection-specific field {name.decode()}")
        if name == b"te" and value.lower() != b"trailers":
            return _bad("te other than trailers")
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            lengths.append(value)
    return _check_host(head.authority, hosts) or _check_length(head, lengths, limits)


def _check_host(authority: bytes, hosts: list[bytes]) -> Fault | None:
    if len(hosts) > 1:
        return _bad("more than one host")
    if not hosts:
        return None if authority else _bad("neither :authority nor host")
    try:
        agree = is_same_authority(authority or hosts[0], hosts[0])
        split_authority(hosts[0])
    except ValueError:
        return _bad("host is malformed")
    return None if agree else _bad(":authority and host differ")


def _check_length(head: RequestHead, lengths: list[bytes], limits: RequestLimits) -> Fault | None:
    """Check content-length (RFC 9110 section 8.6)."""
    if not lengths:
        return None
    if not all(map(_LENGTH.fullmatch, lengths)):
        return _bad("content-length is not a number")
    length = int(lengths[0])
    if any(int(other) != length for other in lengths):
        return _bad("several content-lengths that differ")
    if head.end and length:
        return _bad("a content-length, and no content")
    if limits.request_body_bytes and length > limits.request_body_bytes:
        reason = f"{length} octets of content, {limits.request_body_bytes} are allowed"
        return Fault(Kind.BODY_TOO_LARGE, reason)
    return None
