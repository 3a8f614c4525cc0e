"""One stream's response as it arrives from a backend: is it a well-formed message?

It owns the order of a message's parts (RFC 9113 section 8.1) and the count of its content, and
makes events of `messages` of them, for whichever engine has cut the frames. It sends nothing.

A rule: after the first fault, told as `Malformed`, nothing more of the message is told.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from spooky.protocol.h2_fields import FieldError, check_fields, read_head
from spooky.protocol.messages import Body, Headers, Interim, Malformed, ResponseHead, Trailers

Section: TypeAlias = Iterable[tuple[bytes, bytes]]
"""A header section as it was decoded, `:status` among it."""
_BODILESS = frozenset({204, 304})
_INTERIM = 64
"""What an interim response counts for over and above its fields, in octets."""
_WRONG_LENGTH = "the length of the content is not content-length"


@dataclass(slots=True)
class ResponseStream:
    """An open stream: what was sent and received of it."""

    number: int
    header_bytes: int
    bodiless: bool
    """No content may follow the head, whatever Content-Length says (RFC 9110 section 6.4.1)."""
    sent_end: bool
    got_head: bool = False
    got_end: bool = False
    broken: bool = False
    owed: int = 0
    """Octets of flow control that the receiver gave back and the backend was not told of."""
    remaining: int | None = None
    """Octets of content that Content-Length still promises."""
    interims: int = 0
    """The size of all interim responses; together they have the room of one head."""

    def head(self, section: Section, *, end: bool) -> ResponseHead | Malformed:
        """Take the final response's head."""
        try:
            status, headers, promised = read_head(section, self.header_bytes)
        except FieldError as error:
            return self.malformed(str(error))
        return self.final(status, headers, promised, end=end)

    def final(
        self, status: int, headers: Headers, promised: int | None, *, end: bool
    ) -> ResponseHead | Malformed:
        """Take the final response's head, the fields of which are in order."""
        self.got_head = True
        self.remaining = 0 if self.bodiless or status in _BODILESS else promised
        if end and self.remaining:
            return self.malformed(_WRONG_LENGTH)
        self.got_end = end
        return ResponseHead(self.number, status, headers, end)

    def interim(self, section: Section) -> Interim | Malformed:
        """Take an interim response."""
        try:
            status, headers, _ = read_head(section, self.header_bytes)
        except FieldError as error:
            return self.malformed(str(error))
        return self.not_yet(status, headers)

    def not_yet(self, status: int, headers: Headers) -> Interim | Malformed:
        """Take an interim response, the fields of which are in order."""
        self.interims += _INTERIM + sum(len(name) + len(value) + 32 for name, value in headers)
        if self.interims > self.header_bytes:
            return self.malformed("interim responses without an end")
        return Interim(self.number, status, headers)

    def content(self, data: bytes, credit: int, *, end: bool) -> Body | Malformed:
        """Take content."""
        if not self.got_head:
            return self.malformed("content before the head")
        if self.remaining is not None and not self._fits(len(data), end):
            return self.malformed(_WRONG_LENGTH)
        self.got_end = end
        return Body(self.number, data, end, credit)

    def trailers(self, section: Section, *, end: bool) -> Trailers | Malformed:
        """Take the trailers, or what stands in their place."""
        if not end:
            return self.malformed("a second head, or trailers that are not the end")
        if self.remaining:
            return self.malformed(_WRONG_LENGTH)
        try:
            headers = check_fields(section, self.header_bytes)
        except FieldError as error:
            return self.malformed(str(error))
        self.got_end = True
        return Trailers(self.number, headers)

    def malformed(self, reason: str) -> Malformed:
        """Give the message up."""
        self.broken = True
        return Malformed(self.number, reason, 502)

    def _fits(self, octets: int, end: bool) -> bool:
        """Hold content against Content-Length (RFC 9113 section 8.1.1)."""
        assert self.remaining is not None
        self.remaining -= octets
        return self.remaining == 0 if end else self.remaining >= 0
