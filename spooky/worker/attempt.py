"""One try at one backend: a place in the queue of its pool, then a stream.

It knows the backend and how far the try has come, and hands on to its exchange what happens,
which decides. A try that was cancelled tells nothing more.
"""

import time
from typing import Final, Protocol

from spooky.errors import H2Code, Kind
from spooky.protocol.messages import (
    Body,
    Malformed,
    RequestHead,
    Reset,
    ResponseHead,
    Trailers,
)
from spooky.shm.traffic import TrafficColumn
from spooky.worker.backend import BackendStream
from spooky.worker.backend_stream import StreamEvent
from spooky.worker.load import Load
from spooky.worker.pool import Ticket
from spooky.worker.upstreams import Target

_ANSWERS: Final = int(TrafficColumn.ANSWERS)
_ANSWER_TIME: Final = int(TrafficColumn.ANSWER_TIME_US)


class Trying(Protocol):
    """The exchange that makes the attempt."""

    def on_stream(self, attempt: "Attempt") -> None:
        """Send the content of the request: its head has been sent."""

    def on_no_stream(self, attempt: "Attempt", kind: Kind, detail: str) -> None:
        """Try elsewhere, or give up: the backend has no stream for it."""

    def on_lost(self, attempt: "Attempt", detail: str, unprocessed: bool) -> None:
        """Try elsewhere, or give up: the connection to the backend died."""

    def on_event(self, attempt: "Attempt", event: StreamEvent) -> None:
        """Take what the backend did on the stream."""


class Attempt:
    """A try at `target` (pool.StreamHandler)."""

    __slots__ = (
        "_exchange",
        "_load",
        "_ticket",
        "answered_at",
        "began_at",
        "sent_at",
        "stream",
        "target",
    )

    def __init__(self, exchange: Trying, target: Target, now: float) -> None:
        self._exchange = exchange
        self._ticket: Ticket | None = None
        self._load: Load | None = None
        """Where it counts, as long as it does."""
        self.target = target
        self.began_at = now
        self.stream: BackendStream | None = None
        """None before there is one, and once it is over."""
        self.sent_at = 0.0
        """When the head was sent; 0: it was not."""
        self.answered_at = 0.0
        """When the head of the response came; 0: it did not."""

    def answered(self, now: float) -> None:
        """Note that the head of the response has come, and tell everybody how soon."""
        self.answered_at = now
        cells = self.target.cells
        if cells is not None:
            cells[_ANSWER_TIME] += max(0, round((now - self.sent_at) * 1e6))
            cells[_ANSWERS] += 1

    def start(self, head: RequestHead) -> None:
        """Ask the backend's pool; what comes of it may be told before this returns."""
        if self.target.load is not None:
            self._load = self.target.load
            self._load.took(self.target.index)
        self._ticket = self.target.pool.request(head, self)

    def cancel(self, code: H2Code) -> None:
        """Give up: leave the queue, or abandon the stream."""
        self._uncount()
        if self._ticket is not None:
            self._ticket.cancel()
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.cancel(code)

    # --- the pool and the stream (pool.StreamHandler) ----------------------------------------

    def on_stream(self, stream: BackendStream) -> None:
        """Take the stream."""
        self.stream = stream
        self.sent_at = time.monotonic()
        self._exchange.on_stream(self)

    def on_no_stream(self, kind: Kind, detail: str) -> None:
        """Hand on that there is none."""
        self._uncount()
        self._exchange.on_no_stream(self, kind, detail)

    def on_lost(self, detail: str, unprocessed: bool) -> None:
        """Hand on that it is gone."""
        self._uncount()
        self.stream = None
        self._exchange.on_lost(self, detail, unprocessed)

    def on_event(self, event: StreamEvent) -> None:
        """Hand on what the backend did."""
        if self._load is not None and _is_last(event):
            self._uncount()
        self._exchange.on_event(self, event)

    # --- the load of the backend -------------------------------------------------------------

    def _uncount(self) -> None:
        load, self._load = self._load, None
        if load is not None:
            load.gave(self.target.index)


def _is_last(event: StreamEvent) -> bool:
    match event:
        case ResponseHead() | Body():
            return event.end
        case _:
            return isinstance(event, (Trailers, Reset, Malformed))
