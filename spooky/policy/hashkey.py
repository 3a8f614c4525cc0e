"""What a request is told from others by: its client, its connection, or something that it says.

A key is read from the configuration once. Where a backend is chosen by it, a request that lacks
what the key names is taken by its client's address, so that those do not all go to one backend.
Nothing is decoded: two spellings of a value are two values.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, Protocol, TypeAlias

from spooky.policy.cookies import cookies_named


class Asked(Protocol):
    """A request's head."""

    @property
    def authority(self) -> bytes:
        """Host and port."""

    @property
    def path(self) -> bytes:
        """Path and query."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The fields, with names in lower case."""


_Find: TypeAlias = Callable[[Asked], bytes | None]

_OF_CLIENT: Final = "client_ip"
_OF_CONNECTION: Final = "cid"
_NAMED: Final = ("header", "cookie", "query")
FORMS: Final = "client_ip, header:NAME, cookie:NAME, query:NAME, path, authority or cid"


class HashKey:
    """A key of the configuration."""

    __slots__ = ("_by_connection", "_find")

    def __init__(self, text: str) -> None:
        """Read a key.

        Raises:
            ValueError: it is none of `FORMS`.
        """
        self._by_connection = text == _OF_CONNECTION
        self._find = _finder(text)

    def hash(self, asked: Asked, client: str, connection: bytes) -> int:
        """Return the 64-bit hash of `value`."""
        return hash_of(self.value(asked, client, connection))

    def value(self, asked: Asked, client: str, connection: bytes) -> bytes:
        """Return what a request has as its key.

        `client` is the client's address, without port; `connection` is what names the connection.
        """
        value = connection if self._by_connection else self._find and self._find(asked)
        return client.encode() if value is None else value

    def find(self, asked: Asked, client: str, connection: bytes) -> bytes | None:
        """Return the same of a request that has what the key names, None of one that lacks it."""
        return self.value(asked, client, connection) if self._find is None else self._find(asked)


def hash_of(value: bytes) -> int:
    """Return 64 bits of a value, the same in every process."""
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "big")


def _finder(text: str) -> _Find | None:
    """Return what finds a key in a request's head; None where it is not there."""
    kind, colon, name = text.partition(":")
    if colon and name and kind in _NAMED:
        match kind:
            case "header":
                return _header(name.lower().encode())
            case "cookie":
                return _cookie(name.encode())
            case _:
                return _query(name.encode())
    match text:
        case "path":
            return lambda asked: asked.path.partition(b"?")[0]
        case "authority":
            return _authority
    if text not in {_OF_CLIENT, _OF_CONNECTION}:
        raise ValueError(f"no key {text!r}; there are {FORMS}")
    return None


def _header(name: bytes) -> _Find:
    def find(asked: Asked) -> bytes | None:
        return next((value for field, value in asked.headers if field == name), None)

    return find


def _authority(asked: Asked) -> bytes | None:
    host = next((value for name, value in asked.headers if name == b"host"), None)
    found = asked.authority or host
    return None if found is None else found.lower()


def _cookie(name: bytes) -> _Find:
    def find(asked: Asked) -> bytes | None:
        fields = (value for field, value in asked.headers if field == b"cookie")
        return next(iter(cookies_named(name, fields)), None)

    return find


def _query(name: bytes) -> _Find:
    def find(asked: Asked) -> bytes | None:
        for pair in asked.path.partition(b"?")[2].split(b"&"):
            own, _, content = pair.partition(b"=")
            if own == name:
                return content
        return None

    return find
