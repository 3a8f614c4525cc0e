"""Where a redirected request is sent to.

The target is always an absolute URL with a scheme and an authority: a path that begins with two
slashes would otherwise name a host of the client's choice. The query is kept as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

STATUSES = (301, 302, 303, 307, 308)
"""RFC 9110 section 15.4, those that tell of another place."""

_DEFAULT_PORTS = {b"https": b":443", b"http": b":80"}


@dataclass(frozen=True, slots=True)
class Redirect:
    """The answer to a request that belongs elsewhere; None keeps what the request has.

    `authority` is a host, with a port where it is not the scheme's own. `path` makes the new path,
    with its query, of the request's.
    """

    status: int
    scheme: bytes = b"https"
    authority: bytes | None = None
    path: Callable[[bytes], bytes] | None = None

    def location(self, authority: bytes, path: bytes) -> bytes:
        """Return the URL for a request with that `:authority` and `:path`."""
        where = authority if self.authority is None else self.authority
        if path == b"*":
            path = b"/"
        elif self.path is not None:
            path = self.path(path)
        if self.scheme != b"https" and self.authority is None:
            # Another scheme is served at another port.
            where = without_port(where)
        where = where.removesuffix(_DEFAULT_PORTS[self.scheme])
        return b"%b://%b%b" % (self.scheme, where, path)


def without_port(authority: bytes) -> bytes:
    """Return the host of an authority; IPv6 keeps its brackets."""
    host, colon, port = authority.rpartition(b":")
    return host if colon and b"]" not in port else authority


def replace_path(new: str) -> Callable[[bytes], bytes]:
    """Make the function that replaces a whole path and keeps the query."""
    fixed = new.encode()

    def replaced(path: bytes) -> bytes:
        _, mark, query = path.partition(b"?")
        return fixed + mark + query

    return replaced
