"""Hosts, path prefixes and backend addresses: what is well formed, and its one normal form.

Never looks a name up. Each function takes the text of the file, gives the normal form, and
raises `UnfitError` with a sentence for the operator, or with none where the caller's own
"expected ..., got ..." says enough.
"""

import ipaddress
import re

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ZONE = re.compile(r"(?!25)[A-Za-z0-9_.-]{1,15}")
"""An interface; `%25` is how a URI has the `%`, which is no URI here (RFC 6874)."""
_BROADCAST = "255.255.255.255"
_MALFORMED_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
_ENCODED_UNRESERVED = re.compile(
    r"%(?:2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])"
)
"""Letters, digits and `-._~`, percent-encoded (RFC 3986 section 2.3)."""
_DEFAULT_PORTS = {"http": 80, "https": 443}

BackendAddress = tuple[str, int, bool]
"""Host (lower case, IPv6 without brackets), port, and whether it is reached by TLS."""


class UnfitError(Exception):
    """A value that a key does not take; the text is a full sentence, or empty."""


def parse_ip(text: str) -> str:
    """Read an IP address, without brackets, in its normal form."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UnfitError from None


def parse_own_ip(text: str) -> str:
    """Read an IP address of this machine that can be bound."""
    address = _read_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise UnfitError("an address with a zone (%...) cannot be bound; write :: or another one")
    if address.is_multicast or str(address) == _BROADCAST:
        raise UnfitError(f"{address} is the address of no single machine; it cannot be bound")
    return str(address)


def _parse_backend_ip(text: str) -> str:
    address = _read_address(text)
    if address.is_unspecified:
        raise UnfitError(f"{address} is an address to listen on; write the backend's own")
    if address.is_multicast or str(address) == _BROADCAST:
        raise UnfitError(f"{address} is the address of no single machine; write the backend's own")
    if isinstance(address, ipaddress.IPv6Address):
        zone = address.scope_id
        if zone is None and address.is_link_local:
            raise UnfitError(f"a link-local address needs its zone, as in [{address}%eth0]:8080")
        if zone is not None and not _ZONE.fullmatch(zone):
            raise UnfitError(f"expected the name of an interface after %, got {zone}")
    return str(address)


def _read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address; an IPv4 one that is written as IPv6 (::ffff:10.0.0.1) is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UnfitError from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_ip(text: str) -> bool:
    """Say whether the text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_host(text: str) -> str:
    """Read a DNS name or an IP address (IPv6 without brackets), in lower case."""
    host = text.lower().removesuffix(".")
    if is_ip(host):
        return parse_ip(host)
    if not host.isascii():
        raise UnfitError("write the name in its ASCII form (xn--...)")
    labels = host.split(".")
    # A name that ends in a number would be taken for an IPv4 address (WHATWG URL, host parsing).
    if len(host) > 253 or _NUMBER.fullmatch(labels[-1]) or not all(map(_LABEL.fullmatch, labels)):
        raise UnfitError
    return host


def parse_route_host(text: str) -> str:
    """Read what a route matches: an exact host, `*.` and a DNS name, or `[IPv6]`."""
    if text == "*":
        raise UnfitError("leave host out to match every host")
    if text.startswith("*."):
        name = parse_host(text[2:])
        if is_ip(name) or "*" in name:
            raise UnfitError
        return f"*.{name}"
    if text.startswith("[") and text.endswith("]"):
        address = parse_ip(text[1:-1])
        if ":" not in address or "%" in address:
            raise UnfitError("brackets are for an IPv6 address without zone, as in [2001:db8::1]")
        return f"[{address}]"
    if ":" in text:
        raise UnfitError(f"expected a host alone, without scheme or port, got {text}")
    return parse_host(text)


def parse_server_name(text: str) -> str:
    """Read what a client may ask for by SNI: a DNS name, or `*.` and a DNS name."""
    name = parse_host(text.removeprefix("*."))
    if is_ip(name):
        raise UnfitError("a server name is a DNS name, never an address (RFC 6066 section 3)")
    return f"*.{name}" if text.startswith("*.") else name


def parse_path_prefix(text: str) -> str:
    """Read a path prefix; a slash at its end says nothing, for whole segments are matched."""
    if not text.startswith("/"):
        raise UnfitError(f"a path prefix begins with a slash: write /{text}")
    if any(c in text for c in "?#\\ ") or not text.isascii():
        raise UnfitError("a path prefix is a path alone: no query, fragment, space or non-ASCII")
    if malformed := _MALFORMED_PERCENT.search(text):
        raise UnfitError(
            f"{malformed[0]} is no percent-encoding: two hexadecimal digits follow a %; "
            "the % itself is written %25"
        )
    if text.endswith("/*"):
        raise UnfitError(
            f"a prefix is no pattern and serves all paths below it: write {text[:-2] or '/'}"
        )
    decoded = _ENCODED_UNRESERVED.sub(lambda found: chr(int(found[0][1:], 16)), text)
    segments = decoded.rstrip("/").split("/")[1:]
    if any(segment in {"", ".", ".."} for segment in segments):
        raise UnfitError("a path prefix has no empty, . or .. segments")
    # Requests are compared in this form, in which prefixes that look different would be the same.
    if decoded != text:
        raise UnfitError(
            "letters, digits and -._~ are not percent-encoded in a path prefix; "
            f"write it decoded: {decoded}"
        )
    return "/" + "/".join(segments)


def parse_backend(text: str) -> BackendAddress:
    """Read `host:port`, `http://host[:port]` (both cleartext) or `https://host[:port]` (TLS)."""
    scheme, authority = None, text
    if text.startswith("unix:"):
        raise UnfitError("backends on Unix sockets are not supported: write host:port")
    if found := _SCHEME.fullmatch(text):
        scheme, authority = found[1].lower(), found[2]
        if scheme not in _DEFAULT_PORTS:
            raise UnfitError(
                f"{found[1]}:// is not supported: write host:port or http:// for cleartext "
                "HTTP/2, https:// for HTTP/2 over TLS"
            )
    host, port = _split_authority(authority)
    if not port and scheme is None:
        raise UnfitError(f"the port is missing: write {text}:PORT, or https://{text} for port 443")
    number = _parse_port(port) if port else _DEFAULT_PORTS[scheme or "http"]
    return host, number, scheme == "https"


def _split_authority(authority: str) -> tuple[str, str]:
    if any(c in authority for c in "/?#"):
        raise UnfitError(
            "a backend address has no path or query: requests keep the path that the client asked "
            "for; write host:port alone"
        )
    if "@" in authority:
        raise UnfitError("a backend address has no user name or password; write host:port alone")
    if authority.startswith("["):
        inside, closed, rest = authority[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise UnfitError
        if ":" not in inside:
            raise UnfitError("brackets are for IPv6 addresses: write host:port without them")
        return _parse_backend_ip(inside), rest[1:]
    if authority.count(":") > 1:
        raise UnfitError("an IPv6 address stands in brackets, as in [2001:db8::1]:8080")
    name, _, port = authority.partition(":")
    host = parse_host(name)
    return (_parse_backend_ip(host) if is_ip(host) else host), port


def _parse_port(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise UnfitError(f"expected a port of 1..65535, got {text}")
    return int(text)
