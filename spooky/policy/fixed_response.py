"""An answer that is the same for all requests of a route."""

from dataclasses import dataclass

BODILESS = frozenset((204, 205, 304))
"""Statuses whose responses have no content (RFC 9110 sections 15.3.5, 15.3.6, 15.4.5)."""


@dataclass(frozen=True, slots=True)
class FixedResponse:
    """Status, content and its type."""

    status: int
    content: bytes = b""
    content_type: bytes = b"text/plain; charset=utf-8"

    def fields(self) -> list[tuple[bytes, bytes]]:
        """List the fields of the response."""
        fields = [(b"content-type", self.content_type)] if self.content else []
        if self.status not in BODILESS:
            fields.append((b"content-length", b"%d" % len(self.content)))
        return fields
