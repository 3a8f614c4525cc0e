"""One cookie among those that a client sends: found, and taken out.

Values are octets as they came; nothing in them raises. What is not `name=value` is left where it
is: it is for the backend to judge.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

MOST_COOKIES = 8
"""Of one name that are looked at: a client may send as many as its header section holds."""


def cookie_pairs(fields: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """List names and values of all cookies in the values of `cookie` fields, in their order.

    A client may send each pair in a field of its own (RFC 6265 section 4.2, RFC 9114 section
    4.2.1).
    """
    for field in fields:
        for pair in field.split(b";"):
            name, equals, value = pair.partition(b"=")
            if equals:
                yield name.strip(b" \t"), value.strip(b" \t")


def cookies_named(name: bytes, fields: Iterable[bytes]) -> list[bytes]:
    """List the values of the cookies of a name in the values of `cookie` fields, in their order.

    A client sends several where their paths or domains differ (RFC 6265 section 5.4), of which
    the first is the most specific. At most `MOST_COOKIES` are listed.
    """
    pairs = cookie_pairs(field for field in fields if name in field)
    return list(islice((value for key, value in pairs if key == name), MOST_COOKIES))


def without_cookie(name: bytes, field: bytes) -> bytes:
    """Return the value of a `cookie` field without all cookies of a name; b"" if none is left."""
    if name not in field:
        return field
    pairs = field.split(b";")
    left = [
        pair for pair in pairs if b"=" not in pair or pair.partition(b"=")[0].strip(b" \t") != name
    ]
    return field if len(left) == len(pairs) else b";".join(left).strip(b" \t")
