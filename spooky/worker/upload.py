"""The content of one request on its way to a backend, streamed and bounded.

What the backend does not take yet waits here, and is not credited to the client until it has
been passed on: so no more waits than one stream window. A copy of what was sent is kept up to
`replay_limit` octets, so that a request whose backend never looked at it can be sent again.
Small pieces are joined, lest a window of single octets take many times its size in objects.
"""

from collections import deque
from typing import Protocol

from spooky.protocol.messages import Headers

JOINED_BYTES = 4096
"""Neighbouring pieces are joined as long as they make no more than this together."""


class Sink(Protocol):
    """The stream to a backend."""

    def send_body(self, data: bytes, *, end: bool) -> None:
        """Send content."""

    def send_trailers(self, headers: Headers) -> None:
        """Send the trailer section."""

    def writable(self) -> int:
        """Say how many octets may be sent now."""


class Tap(Protocol):
    """Who else gets the content, without a say in how it flows."""

    def offer(self, data: bytes, *, end: bool) -> None:
        """Take content."""

    def offer_trailers(self, headers: Headers) -> None:
        """Take the trailer section, which ends the request."""


class Credit(Protocol):
    """Where flow-control credit is given back."""

    def consume(self, stream: int, count: int) -> None:
        """Give back credit for `count` octets."""


class Upload:
    """The content of a request."""

    __slots__ = (
        "_credit",
        "_empty",
        "_end_sent",
        "_kept",
        "_kept_bytes",
        "_replay_limit",
        "_sink",
        "_stream",
        "_trailers",
        "_waiting",
        "complete",
        "received",
        "replayable",
        "sent",
        "tap",
    )

    def __init__(self, credit: Credit, stream: int, replay_limit: int, *, empty: bool) -> None:
        self._credit = credit
        self._stream = stream
        self._replay_limit = replay_limit
        self._sink: Sink | None = None
        self._waiting: deque[tuple[bytes | bytearray, int]] = deque()
        """Octets to be sent, and how many octets of credit they are worth."""
        self._kept: list[bytes | bytearray] = []
        self._kept_bytes = 0
        self._trailers: Headers | None = None
        self._empty = empty
        self._end_sent = empty
        self.complete = empty
        """The client has sent all of it."""
        self.replayable = True
        """All that was sent so far could be sent again."""
        self.received = 0
        self.sent = 0
        self.tap: Tap | None = None

    @property
    def finished(self) -> bool:
        """Whether the backend has all of it."""
        return self._end_sent

    @property
    def is_waiting(self) -> bool:
        """Whether the backend is what it waits for."""
        return bool(self._waiting)

    def offer(self, data: bytes, credit: int, *, end: bool) -> None:
        """Take content of the client and pass on what can be."""
        self.received += len(data)
        self.complete = self.complete or end
        if self.tap is not None:
            self.tap.offer(data, end=end)
        if data or credit:
            self._wait(data, credit)
        self.pump()

    def _wait(self, data: bytes, credit: int) -> None:
        waiting = self._waiting
        if waiting and credit == len(data):
            last, owed = waiting[-1]
            # What is sent again is worth no credit: joined to it, the rest's would come early.
            if owed == len(last) and owed + credit <= JOINED_BYTES:
                waiting[-1] = (_joined(last, data), owed + credit)
                return
        waiting.append((data, credit))

    def offer_trailers(self, headers: Headers) -> None:
        """Take the trailer section, which ends the request."""
        self._trailers = headers
        self.complete = True
        if self.tap is not None:
            self.tap.offer_trailers(headers)
        self.pump()

    def attach(self, sink: Sink) -> None:
        """Send to `sink` from now on, from the beginning."""
        self._sink = sink
        self.pump()

    def detach(self) -> None:
        """Forget the backend; what it was sent comes first for the next one."""
        self._sink = None
        if self.sent:
            self._waiting.extendleft((data, 0) for data in reversed(self._kept))
            self._kept.clear()
            self._kept_bytes = 0
            self.sent = 0
        self._end_sent = self._empty

    def settle(self) -> None:
        """Drop all that waits or is kept: nobody will ask for it any more."""
        self._sink = None
        self._waiting.clear()
        self.release()

    def release(self) -> None:
        """Keep no copy from now on: the response has begun."""
        self._kept.clear()
        self._kept_bytes = 0
        self.replayable = False

    def pump(self) -> None:
        """Pass on as much as the backend takes."""
        sink = self._sink
        if sink is None or self._end_sent:
            return
        waiting = self._waiting
        while waiting:
            room = sink.writable()
            if room <= 0:
                return
            data, credit = waiting.popleft()
            if len(data) > room:
                waiting.appendleft((data[room:], credit - room if credit else 0))
                data, credit = data[:room], min(credit, room)
            last = self.complete and not waiting and self._trailers is None
            self._send(sink, bytes(data), end=last)
            if credit:
                self._credit.consume(self._stream, credit)
        if self.complete and not self._end_sent:
            self._end_sent = True
            if self._trailers is not None:
                sink.send_trailers(self._trailers)
            else:
                sink.send_body(b"", end=True)

    def _send(self, sink: Sink, data: bytes, *, end: bool) -> None:
        self.sent += len(data)
        self._end_sent = end
        if self.replayable:
            self._kept_bytes += len(data)
            if self._kept_bytes > self._replay_limit:
                self.release()
            else:
                self._keep(data)
        sink.send_body(data, end=end)

    def _keep(self, data: bytes) -> None:
        kept = self._kept
        if kept and len(kept[-1]) + len(data) <= JOINED_BYTES:
            kept[-1] = _joined(kept[-1], data)
        else:
            kept.append(data)


def _joined(first: bytes | bytearray, second: bytes) -> bytearray:
    """Put `second` behind `first`, which is changed where it can be."""
    if isinstance(first, bytes):
        first = bytearray(first)
    first += second
    return first
