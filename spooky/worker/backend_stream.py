"""One request's stream to a backend, and what its owner must be able to hear.

It holds no state of the protocol: each verb goes to the connection, which knows whether the
stream is still there.
"""

from typing import Protocol, TypeAlias

from spooky.errors import H2Code, Kind
from spooky.protocol.messages import (
    Body,
    Headers,
    Interim,
    Malformed,
    Reset,
    ResponseHead,
    Trailers,
    Writable,
)

StreamEvent: TypeAlias = ResponseHead | Interim | Body | Trailers | Reset | Malformed | Writable


class StreamHandler(Protocol):
    """What one request hears from the pool and from its stream."""

    def on_stream(self, stream: "BackendStream") -> None:
        """Go on with the content: the request's head has just been sent on this stream."""

    def on_no_stream(self, kind: Kind, detail: str) -> None:
        """Give up or try elsewhere: no stream could be had. Never after `on_stream`."""

    def on_event(self, event: StreamEvent) -> None:
        """Take what the backend did on the stream; nothing follows a `Reset`.

        After `Malformed` the stream is to be cancelled.
        """

    def on_lost(self, detail: str, unprocessed: bool) -> None:
        """Give up or try elsewhere: the connection died before the stream had ended both ways.

        `unprocessed`: the request never left this process.
        """


class StreamKeeper(Protocol):
    """The connection, as its streams see it; each verb does nothing for a stream that ended."""

    def send_body(self, stream: "BackendStream", data: bytes, *, end: bool) -> None:
        """Send content."""

    def send_trailers(self, stream: "BackendStream", headers: Headers) -> None:
        """Send trailers."""

    def writable(self, stream: "BackendStream") -> int:
        """Say how many octets may be sent."""

    def consume(self, stream: "BackendStream", count: int) -> None:
        """Give back credit."""

    def cancel(self, stream: "BackendStream", code: H2Code) -> None:
        """Abandon it."""


class BackendStream:
    """One request's stream, as its handler sees it."""

    __slots__ = ("_keeper", "got_end", "handler", "number", "sent", "sent_end")

    def __init__(
        self, keeper: StreamKeeper, number: int, handler: StreamHandler, *, end: bool
    ) -> None:
        self._keeper = keeper
        self.number = number
        self.handler = handler
        self.sent = False
        """The head was given to the transport."""
        self.sent_end = end
        self.got_end = False

    def send_body(self, data: bytes, *, end: bool) -> None:
        """Send content, at most `writable()` octets of it."""
        self._keeper.send_body(self, data, end=end)

    def send_trailers(self, headers: Headers) -> None:
        """Send the trailer section, which ends the request."""
        self._keeper.send_trailers(self, headers)

    def writable(self) -> int:
        """Say how many octets may be sent now; after a 0, `Writable` tells when to ask again."""
        return self._keeper.writable(self)

    def consume(self, count: int) -> None:
        """Give back flow-control credit of content that was passed on."""
        self._keeper.consume(self, count)

    def cancel(self, code: H2Code = H2Code.CANCEL) -> None:
        """Abandon the stream; its handler hears no more of it."""
        self._keeper.cancel(self, code)
