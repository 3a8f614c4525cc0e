"""Hosts, path prefixes and backend addresses: what is well formed, and its one normal form.

Never looks a name up. Each function takes the text of the file, gives the normal form, and
raises `UnfitError` with a sentence for the operator, or with none where the caller's own
"expected ..., got ..." says enough.
"""

import ipaddress
import re

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
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
    # A name that ends in digits would be taken for an IPv4 address (WHATWG URL, host parsing).
    if len(host) > 253 or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
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
        return f"[{parse_ip(text[1:-1])}]"
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
        return parse_ip(inside), rest[1:]
    if authority.count(":") > 1:
        raise UnfitError("an IPv6 address stands in brackets, as in [2001:db8::1]:8080")
    host, _, port = authority.partition(":")
    return parse_host(host), port


def _parse_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise UnfitError(f"expected a port of 1..65535, got {text}")
    return int(text)
