"""One stream's response as it arrives from a backend: is it a well-formed message?

It owns the order of a message's parts (RFC 9113 section 8.1) and the count of its content, and
turns h2's events of one stream into those of `messages`. It sends nothing.

A rule: after the first fault, told as `Malformed`, nothing more of the message is told.
"""

from dataclasses import dataclass

from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    TrailersReceived,
)

from spooky.protocol.h2_fields import FieldError, check_fields, check_response, content_length
from spooky.protocol.messages import Body, Interim, Malformed, ResponseHead, Trailers

_BODILESS = frozenset({204, 304})
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

    def head(self, event: ResponseReceived) -> ResponseHead | Malformed:
        """Take the final response's head."""
        end = event.stream_ended is not None
        try:
            status, headers = check_response(event.headers, self.header_bytes)
            promised = content_length(headers)
        except FieldError as error:
            return self.malformed(str(error))
        self.got_head = True
        self.remaining = 0 if self.bodiless or status in _BODILESS else promised
        if end and self.remaining:
            return self.malformed(_WRONG_LENGTH)
        self.got_end = end
        return ResponseHead(self.number, status, headers, end)

    def interim(self, event: InformationalResponseReceived) -> Interim | Malformed:
        """Take an interim response."""
        try:
            status, headers = check_response(event.headers, self.header_bytes)
        except FieldError as error:
            return self.malformed(str(error))
        return Interim(self.number, status, headers)

    def content(self, event: DataReceived) -> Body | Malformed:
        """Take content."""
        end = event.stream_ended is not None
        if not self.got_head:
            return self.malformed("content before the head")
        if not self._fits(len(event.data), end):
            return self.malformed(_WRONG_LENGTH)
        self.got_end = end
        return Body(self.number, event.data, end, event.flow_controlled_length)

    def trailers(self, event: TrailersReceived) -> Trailers | Malformed:
        """Take the trailers, or what stands in their place."""
        if event.stream_ended is None:
            return self.malformed("a second head, or trailers that are not the end")
        if not self._fits(0, end=True):
            return self.malformed(_WRONG_LENGTH)
        try:
            headers = check_fields(event.headers, self.header_bytes)
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
        if self.remaining is None:
            return True
        self.remaining -= octets
        return self.remaining == 0 if end else self.remaining >= 0
