"""Header blocks of one backend's responses: decoded, checked, and remembered where that is sound.

It owns the HPACK decoder of a connection. Servers answer alike: within a second most blocks have
the very octets of the one before.

A rule: what a block means hangs on the dynamic table, so a block is remembered only if it did not
change the table, and all are forgotten as soon as another one does.
"""

from typing import NamedTuple

from hpack.exceptions import HPACKError, OversizedHeaderListError

from spooky.errors import H2Code
from spooky.protocol.h2_fields import read_head
from spooky.protocol.h2_response import Section
from spooky.protocol.hpack_decoder import FieldDecoder
from spooky.protocol.lean_frames import Breach
from spooky.protocol.messages import Headers

_MOST_KNOWN = 64
_LONGEST_KNOWN = 512
_FAR_OVER = 4
"""A section that is over the limit is a fault of its stream, unless it is that far over."""


class Head(NamedTuple):
    """A response's head that is in order."""

    status: int
    headers: Headers
    """Shared by all responses that have the same block: to be copied."""
    length: int | None


class SectionReader:
    """The decoder of one connection, and the heads that it knows."""

    def __init__(self, header_bytes: int) -> None:
        self._limit = header_bytes
        self.largest_block = _FAR_OVER * header_bytes
        self._decoder = FieldDecoder()
        self._decoder.max_header_list_size = self.largest_block
        self._changes = 0
        self._known: dict[bytes, Head] = {}

    def head(self, block: bytes) -> Head:
        """Read a response's head.

        Raises:
            Breach: the block cannot be decoded, or is a bomb.
            FieldError: the fields break a rule.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        changes = self._changes
        head = Head(*read_head(self.fields(block), self._limit))
        if changes == self._changes and len(block) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[block] = head
        return head

    def fields(self, block: bytes) -> Section:
        """Decode a block, which is due for each that comes, also where nobody asks for it.

        Raises:
            Breach: it cannot be decoded, or is a bomb.
        """
        decoder = self._decoder
        try:
            fields = decoder.decode(block)
        except OversizedHeaderListError as error:
            raise Breach(
                H2Code.ENHANCE_YOUR_CALM, f"header fields without an end: {error}"
            ) from None
        except HPACKError as error:
            raise Breach(H2Code.COMPRESSION_ERROR, f"a broken header block: {error}") from None
        if decoder.changes != self._changes:
            self._changes = decoder.changes
            self._known.clear()
        return fields
