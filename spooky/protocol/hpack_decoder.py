"""HPACK (RFC 7541) for the responses of one connection: octets to fields.

The same as the hpack library's decoder, which makes several objects and log calls for each field,
in one loop; Huffman coding and the static table are the library's. A test holds the two together.

A rule: anything that is not a well-formed header block raises one of hpack's errors, and the
decoder is of no more use then.
"""

from collections import deque
from functools import lru_cache

from hpack import Decoder
from hpack.exceptions import (
    HPACKDecodingError,
    InvalidTableIndexError,
    InvalidTableSizeError,
    OversizedHeaderListError,
)
from hpack.huffman_table import decode_huffman
from hpack.struct import HeaderTuple
from hpack.table import HeaderTable

_OVERHEAD = 32
_STATIC = HeaderTable.STATIC_TABLE
_STATIC_LENGTH = HeaderTable.STATIC_TABLE_LENGTH
_LAST_STATIC = 0x80 + _STATIC_LENGTH
_FIRST_DYNAMIC = _LAST_STATIC + 1
_LONGEST_INTEGER = 5
"""Octets after the first; more are of no use for a length below 2^32."""
_CACHED_LENGTH = 64

_decode_known = lru_cache(maxsize=1024)(decode_huffman)


class FieldDecoder(Decoder):
    """The decoder of one connection; stands in for `hpack.Decoder` in h2."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = HeaderTable.DEFAULT_SIZE
        self._size = 0
        self._entries: deque[tuple[bytes, bytes]] = deque()
        self.changes = 0
        """How often blocks have changed the table: while it stays, a block means what it meant."""

    @property
    def header_table_size(self) -> int:
        """The size of the dynamic table, as the peer set it."""
        return self._limit

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self._limit = value
        self._evict(0)

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:  # noqa: ARG002
        """Return the fields of a header block, as octets.

        Raises:
            HPACKDecodingError: the block is malformed (RFC 7541 throughout).
            OversizedHeaderListError: it has more than `max_header_list_size`.
        """
        fields: list[tuple[bytes, bytes]] = []
        entries, left = self._entries, self.max_header_list_size
        position, end = 0, len(data)
        try:
            while position < end:
                octet = data[position]
                if octet & 0x80:
                    if 0x80 < octet <= _LAST_STATIC:
                        field = _STATIC[octet - 0x81]
                        position += 1
                    elif _LAST_STATIC < octet < 0xFF:
                        field = entries[octet - _FIRST_DYNAMIC]
                        position += 1
                    else:
                        number, position = _integer(data, position, 0x7F)
                        field = self._lookup(number)
                elif octet & 0x60 == 0x20:
                    position = self._resize(data, position, first=not fields)
                    continue
                else:
                    field, position = self._literal(data, position, 0x3F if octet & 0x40 else 0x0F)
                    if octet & 0x40:
                        self._insert(field)
                left -= len(field[0]) + len(field[1]) + _OVERHEAD
                if left < 0:
                    raise OversizedHeaderListError(f"more than {self.max_header_list_size} octets")
                fields.append(field)
        except IndexError as error:
            raise HPACKDecodingError("truncated header block, or a field that is none") from error
        if self._limit > self.max_allowed_table_size:
            raise InvalidTableSizeError("the table was not made smaller")
        return fields  # type: ignore[return-value]

    def _lookup(self, number: int) -> tuple[bytes, bytes]:
        if 0 < number <= _STATIC_LENGTH:
            return _STATIC[number - 1]
        place = number - _STATIC_LENGTH - 1
        if 0 <= place < len(self._entries):
            return self._entries[place]
        raise InvalidTableIndexError(f"no field {number} in the table")

    def _literal(self, data: bytes, position: int, most: int) -> tuple[tuple[bytes, bytes], int]:
        if data[position] & most:
            number, position = _integer(data, position, most)
            name = self._lookup(number)[0]
        else:
            name, position = _string(data, position + 1)
        value, position = _string(data, position)
        return (name, value), position

    def _resize(self, data: bytes, position: int, *, first: bool) -> int:
        """Change the table's size and return what follows it."""
        if not first:
            raise HPACKDecodingError("a table size update after a field")
        size, position = _integer(data, position, 0x1F)
        if size > self.max_allowed_table_size:
            raise InvalidTableSizeError(f"a table of {size} octets")
        self.header_table_size = size
        self.changes += 1
        return position

    def _insert(self, field: tuple[bytes, bytes]) -> None:
        self.changes += 1
        size = len(field[0]) + len(field[1]) + _OVERHEAD
        self._evict(size)
        if size <= self._limit:
            self._entries.appendleft(field)
            self._size += size

    def _evict(self, room: int) -> None:
        entries = self._entries
        while entries and self._size + room > self._limit:
            name, value = entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(data: bytes, position: int, most: int) -> tuple[int, int]:
    """Decode an integer and return what follows it (RFC 7541 section 5.1)."""
    number = data[position] & most
    position += 1
    if number < most:
        return number, position
    for shift in range(0, 7 * _LONGEST_INTEGER, 7):
        octet = data[position]
        position += 1
        number += (octet & 0x7F) << shift
        if octet < 0x80:
            return number, position
    raise HPACKDecodingError("an integer that is too large")


def _string(data: bytes, position: int) -> tuple[bytes, int]:
    length = data[position]
    if length < 0x7F:
        start = position + 1
        end = start + length
        if end > len(data):
            raise HPACKDecodingError("truncated header block")
        return bytes(data[start:end]), end
    length, start = _integer(data, position, 0x7F)
    end = start + length
    if end > len(data):
        raise HPACKDecodingError("truncated header block")
    value = bytes(data[start:end])
    if data[position] & 0x80:
        value = (_decode_known if length <= _CACHED_LENGTH else decode_huffman)(value)
    return value, end
