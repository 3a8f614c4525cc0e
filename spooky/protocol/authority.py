"""An authority, as in `:authority` and Host: its host in normal form, and its port.

Stricter than RFC 3986, as far as the difference has ever been of use to an attacker: no userinfo,
no percent-encoding, no sub-delimiters such as a comma. Names in other scripts come in their ASCII
form. Host names are not looked up.
"""

import ipaddress
import re
from functools import lru_cache

HTTPS_PORT = 443

_LONGEST = 255 + len(":65535")
_AUTHORITY = re.compile(
    rb"(?:([A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*)\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
)


# A client asks for few authorities over and over; what is refused is not kept.
@lru_cache(maxsize=1024)
def split_authority(authority: bytes) -> tuple[str, int | None]:
    """Return the host, in lower case and IPv6 in brackets, and the port; None without one.

    A dot at the end of a name is left out: it names the same host.

    Raises:
        ValueError: the authority is malformed.
    """
    found = _AUTHORITY.fullmatch(authority) if len(authority) <= _LONGEST else None
    if found is None:
        raise ValueError("malformed authority")
    name, address, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and not 0 < port <= 0xFFFF:
        raise ValueError("malformed authority: no such port")
    if name is not None:
        return name.decode().lower(), port
    return f"[{ipaddress.IPv6Address(address.decode())}]", port


def is_same_authority(one: bytes, other: bytes) -> bool:
    """Say whether two authorities of `https` are the same (RFC 9110 section 4.2.3).

    Raises:
        ValueError: one of them is malformed.
    """
    if one == other:
        return True
    host, port = split_authority(one)
    other_host, other_port = split_authority(other)
    return host == other_host and (port or HTTPS_PORT) == (other_port or HTTPS_PORT)
