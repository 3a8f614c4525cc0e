"""HPACK (RFC 7541) for the requests of one connection: fields to octets.

The hpack library searches its dynamic table from end to end for each field; this encoder looks
fields up, keeps out of the table what never comes again, and does without Huffman coding, which
costs more time on both sides of a local network than it saves.

Rules: it never uses more of the table than `header_table_size`, which the peer sets; what a guess
could find out octet by octet is in no table, here and behind other proxies (section 7.1.3).
"""

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from hpack import Encoder
from hpack.table import HeaderTable

_OWN_SIZE = 4096
_OVERHEAD = 32
_LARGEST_ENTRY = 512
_INDEXED, _WITH_INDEXING, _SIZE_UPDATE, _NEVER_INDEXED, _PLAIN = 0x80, 0x40, 0x20, 0x10, 0x00
_STATIC_LENGTH = HeaderTable.STATIC_TABLE_LENGTH
_STATIC = {field: number for number, field in reversed([*enumerate(HeaderTable.STATIC_TABLE, 1)])}
_NAMES = {name: number for (name, _), number in _STATIC.items()}
_OCTETS = [bytes((octet,)) for octet in range(256)]
_SECRETS = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
"""Of these, cookies only if they are short."""
_GUESSABLE_COOKIE = 20
_CACHED_NAME = 64


class FieldEncoder(Encoder):
    """The encoder of one connection; stands in for `hpack.Encoder` in h2."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0
        self._limit = _OWN_SIZE
        self._announce: list[int] = []
        self._inserted = 0
        self._numbers = {field: -number for field, number in _STATIC.items()}
        """Of a field in the dynamic table, how many were inserted before it; of one in the static
        table, its number there, negated."""
        self._entries: deque[tuple[bytes, bytes]] = deque()

    @property
    def header_table_size(self) -> int:
        """The size of the dynamic table that the peer allows, as far as it is used."""
        return self._limit

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        limit = min(value, _OWN_SIZE)
        if limit != self._limit:
            self._limit = limit
            # Of several changes between two blocks the least and the last count (section 4.2).
            lowest = min([limit, *self._announce])
            self._announce = [limit] if lowest == limit else [lowest, limit]
            self._evict(0)

    def encode(self, headers: Iterable[Any], huffman: bool = False) -> bytes:  # noqa: ARG002
        """Return the header block of fields."""
        block: list[bytes] = []
        if self._announce:
            block += [_integer(size, 5, _SIZE_UPDATE) for size in self._announce]
            self._announce = []
        numbers, newest = self._numbers, self._inserted + _STATIC_LENGTH
        for field in headers:
            number = numbers.get(field)
            if number is None:
                block.append(self._literal(field))
                newest = self._inserted + _STATIC_LENGTH
            else:
                block.append(_INDEXES[newest - number if number >= 0 else -number])
        return b"".join(block)

    def _literal(self, field: tuple[bytes, bytes]) -> bytes:
        name, value = field
        length = len(value)
        head = _PASSING.get(name)
        if head is None or (length < _GUESSABLE_COOKIE and name == b"cookie"):
            encode = _encode_known_name if len(name) <= _CACHED_NAME else _encode_name
            if name in _SECRETS:
                head = encode(name, 4, _NEVER_INDEXED)
            elif self._insert(field):
                head = encode(name, 6, _WITH_INDEXING)
            else:
                head = encode(name, 4, _PLAIN)
        return head + (_OCTETS[length] if length < 0x7F else _integer(length, 7, 0)) + value

    def _insert(self, field: tuple[bytes, bytes]) -> bool:
        size = len(field[0]) + len(field[1]) + _OVERHEAD
        if size > _LARGEST_ENTRY or size > self._limit:
            return False
        self._evict(size)
        self._numbers[field] = self._inserted
        self._entries.append(field)
        self._inserted += 1
        self._size += size
        return True

    def _evict(self, room: int) -> None:
        while self._size + room > self._limit:
            field = self._entries.popleft()
            del self._numbers[field]
            self._size -= len(field[0]) + len(field[1]) + _OVERHEAD


def _integer(value: int, bits: int, pattern: int) -> bytes:
    """Encode an integer behind the `pattern` of its first octet (RFC 7541 section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return _OCTETS[pattern | value]
    octets = bytearray((pattern | most,))
    value -= most
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _encode_name(name: bytes, bits: int, pattern: int) -> bytes:
    """Encode the name of a literal, by its number if it has one (RFC 7541 section 6.2)."""
    number = _NAMES.get(name)
    if number is not None:
        return _integer(number, bits, pattern)
    return _OCTETS[pattern] + _integer(len(name), 7, 0) + name


_PASSING = {
    name: _encode_name(name, 4, _PLAIN)
    for name in (
        b":path",
        b"content-length",
        b"content-range",
        b"range",
        b"date",
        b"etag",
        b"if-none-match",
        b"if-modified-since",
        b"referer",
        b"cookie",
        b"x-request-id",
        b"traceparent",
    )
}
"""Names whose values mostly do not come again on the same connection, as they are written."""
_encode_known_name = lru_cache(maxsize=512)(_encode_name)
_INDEXES = tuple(
    _integer(number, 7, _INDEXED) for number in range(_STATIC_LENGTH + _OWN_SIZE // _OVERHEAD + 1)
)
"""By number: all fields that the two tables can have."""
