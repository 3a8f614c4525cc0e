"""What happens to a message's fields at a proxy (RFC 9110 section 7.6), both ways.

It drops what belongs to one hop, and says who we are and for whom we ask. It relies on requests
that `check_request` let pass. `alt-svc`, `expect`, `priority`, `early-data`, cookies and all that
it does not know go through untouched.

A rule: `x-forwarded-proto`, `-host` and `host` are what we saw, whatever the client claims;
`x-forwarded-for`, `forwarded` and `via` are continued, for other proxies may stand before us; a
`forwarded` that is not well formed is dropped, for an open quote in it would swallow our element.
So is a name such as `x_forwarded_for`, which many applications cannot tell from ours.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from spooky.protocol.authority import split_authority
from spooky.protocol.messages import Headers, Path, RequestHead, ResponseHead
from spooky.protocol.request_check import (
    CONNECTION_SPECIFIC,
    Fault,
    check_request,
    check_trailers,
)

__all__ = [
    "Fault",
    "accept_of",
    "address_of",
    "authority_of",
    "check_request",
    "check_trailers",
    "forward_interim",
    "forward_request",
    "forward_response",
    "forward_trailers",
    "host_of",
    "request_id",
    "request_ids",
]

_VIA_REQUEST = b"3 spooky"
_VIA_RESPONSE = b"2 spooky"
_VISIBLE = bytes(range(0x21, 0x7F))
_LONGEST_REQUEST_ID = 128
_IDS_AT_A_TIME = 64

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PLAIN = rb"[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]*+"
_QUOTED = rb'"%b(?:\\[\t \x21-\x7e\x80-\xff]%b)*"' % (_PLAIN, _PLAIN)
_PAIR = b"(?:%b=(?:%b|%b))" % (_TOKEN, _TOKEN, _QUOTED)
_ELEMENT = rb"[\t ]*+%b?(?:;%b?)*[\t ]*+" % (_PAIR, _PAIR)
_FORWARDED = re.compile(b"%b(?:,%b)*" % (_ELEMENT, _ELEMENT))
"""The list of RFC 7239 section 4. No octet can be matched in two ways, so that a text that does not
match costs one pass."""

_CONTINUED = frozenset((b"x-forwarded-for", b"forwarded", b"via"))
_REPLACED = CONNECTION_SPECIFIC | {
    b"host",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-request-id",
}


def _lookalikes(name: bytes) -> set[bytes]:
    """List the names that are `name` once a gateway has made the underscores of CGI of hyphens."""
    words = name.split(b"-")
    found = {words[0]}
    for word in words[1:]:
        found = {start + sign + word for start in found for sign in (b"-", b"_")}
    return found - {name}


_FOR_BACKENDS = _CONTINUED.union(_REPLACED, (b"content-length",))
_REPLACED |= frozenset().union(*map(_lookalikes, _FOR_BACKENDS))
_TOUCHED = _CONTINUED | _REPLACED
_DROPPED_IN_RESPONSES = CONNECTION_SPECIFIC | {b"via"}
_TOUCHED_IN_RESPONSES = _DROPPED_IN_RESPONSES | {b"x-request-id"}

_NOT_TRAILERS = CONNECTION_SPECIFIC.union(
    _TOUCHED,
    (b"content-length", b"te", b"trailer", b"expect", b"max-forwards", b"range"),
    (b"content-encoding", b"content-range", b"content-type", b"cache-control", b"pragma"),
    (b"authorization", b"proxy-authorization", b"www-authenticate", b"proxy-authenticate"),
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"),
    (b"cookie", b"set-cookie"),
)
"""Framing, routing, authentication, and what decides how a message is handled: a backend that
merged these into the header section would be told something after it was checked."""


def request_id(head: RequestHead) -> bytes | None:
    """Return the client's x-request-id, 1 to 128 visible ASCII octets; None without such a one."""
    for name, value in head.headers:
        if name == b"x-request-id":
            usable = 0 < len(value) <= _LONGEST_REQUEST_ID and not value.translate(None, _VISIBLE)
            return value if usable else None
    return None


def request_ids(random: Callable[[int], bytes]) -> Iterator[bytes]:
    """Make request ids of 32 hexadecimal digits, for ever.

    `random` returns so many random octets; it is asked for many ids at a time, because a system
    call for each would be felt.
    """
    while True:
        digits = random(16 * _IDS_AT_A_TIME).hex().encode()
        for start in range(0, len(digits), 32):
            yield digits[start : start + 32]


def accept_of(head: RequestHead) -> bytes | None:
    """Return what the client says it accepts, None if it says nothing."""
    found = [value for name, value in head.headers if name == b"accept"]
    return b", ".join(found) if found else None


def authority_of(head: RequestHead) -> bytes:
    """Return the authority, from Host where there is no `:authority` (RFC 9114 4.3.1)."""
    if head.authority:
        return head.authority
    return next(value for name, value in head.headers if name == b"host")


def host_of(head: RequestHead) -> str:
    """Return the host that is asked for: lower case, no port, IPv6 in brackets."""
    return split_authority(authority_of(head))[0]


def forward_request(
    head: RequestHead, client: Path, request_id: bytes, scheme: bytes = b"https"
) -> RequestHead:
    """Return the head for the backend. `client` is where the request came from.

    `scheme` is that of the backend's connection: servers refuse one that is not their transport's
    (RFC 9113 section 8.3.1). What the client used is in the forwarded fields.
    """
    authority = authority_of(head)
    kept, known = head.headers, _NOTHING
    names = [name for name, _ in kept]
    if not _TOUCHED.isdisjoint(names) or names.count(b"content-length") > 1:
        kept, known = _set_aside(kept)
    address, node = _nodes(client.peer[0])
    forwarded = b"for=%b;host=%b;proto=https" % (node, _token_or_quoted(authority))
    return RequestHead(
        head.stream,
        head.method,
        scheme,
        authority,
        head.path,
        [
            *kept,
            (b"x-forwarded-for", _continued(known, b"x-forwarded-for", address)),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", authority),
            (b"forwarded", _continued(known, b"forwarded", forwarded)),
            (b"via", _continued(known, b"via", _VIA_REQUEST)),
            (b"x-request-id", request_id),
        ],
        head.end,
        head.protocol,
    )


_NOTHING: dict[bytes, bytes] = {}


def _set_aside(headers: Headers) -> tuple[Headers, dict[bytes, bytes]]:
    """Part the fields that stay from the values that can be continued."""
    kept: Headers = []
    known: dict[bytes, bytes] = {}
    has_length = False
    for name, value in headers:
        if name in _CONTINUED:
            if value:
                known[name] = _continued(known, name, value)
        elif name == b"content-length":
            # Repeated with the same value it is one (RFC 9110 section 8.6).
            if not has_length:
                kept.append((name, value))
            has_length = True
        elif name not in _REPLACED:
            kept.append((name, value))
    if not _FORWARDED.fullmatch(known.get(b"forwarded", b"")):
        del known[b"forwarded"]
    return kept, known


def _continued(known: dict[bytes, bytes], name: bytes, value: bytes) -> bytes:
    before = known.get(name)
    return value if before is None else b"%b, %b" % (before, value)


def address_of(client: Path) -> bytes:
    """Return the client's address as `x-forwarded-for` has it."""
    return _nodes(client.peer[0])[0]


@lru_cache(maxsize=4096)
def _nodes(peer: str) -> tuple[bytes, bytes]:
    """Write an address for x-forwarded-for, and as a node of RFC 7239 section 6."""
    address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        text = str(address).encode()
        return text, b'"[%b]"' % text
    text = str(getattr(address, "ipv4_mapped", None) or address).encode()
    return text, text


def _token_or_quoted(authority: bytes) -> bytes:
    """Write a value of RFC 7239: a port's colon and IPv6's brackets need quotes."""
    return b'"%b"' % authority if b":" in authority else authority


def forward_response(head: ResponseHead, request_id: bytes) -> Headers:
    """Return the fields for the client; the backend's own x-request-id is left as it is."""
    headers = head.headers
    names = [name for name, _ in headers]
    if _TOUCHED_IN_RESPONSES.isdisjoint(names):
        return [*headers, (b"via", _VIA_RESPONSE), (b"x-request-id", request_id)]
    passed = [value for name, value in headers if name == b"via" and value]
    kept = [field for field in headers if field[0] not in _DROPPED_IN_RESPONSES]
    kept.append((b"via", b", ".join((*passed, _VIA_RESPONSE))))
    if b"x-request-id" not in names:
        kept.append((b"x-request-id", request_id))
    return kept


def forward_interim(headers: Headers) -> Headers:
    """Return the fields of an interim response for the client."""
    return [field for field in headers if field[0] not in CONNECTION_SPECIFIC]


def forward_trailers(headers: Headers) -> Headers:
    """Return those of a message's trailers that may be trailers (RFC 9110 section 6.5.1)."""
    return [field for field in headers if field[0] not in _NOT_TRAILERS and field[0][:1] != b":"]
