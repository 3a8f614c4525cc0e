"""Copies of requests to another upstream, whose answers nobody waits for.

A copy is sent once the whole request is here and may be forwarded, so that it costs the shadow
no more than it cost the client, and in another turn of the event loop than the request's own.
Whatever becomes of it, nothing is told, retried or logged beyond the level `debug`.

A rule: copies are bounded, in number and in content. Where there is no room for another one, or
the content is larger than what is kept for retries, there is none.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spooky.errors import H2Code, Kind
from spooky.policy.split import is_sampled
from spooky.protocol.messages import (
    Body,
    Headers,
    Malformed,
    Reset,
    ResponseHead,
    Trailers,
    Writable,
)
from spooky.worker.attempt import Attempt
from spooky.worker.backend_stream import StreamEvent
from spooky.worker.call import Call, forward
from spooky.worker.contain import contained
from spooky.worker.upload import Upload

if TYPE_CHECKING:
    from spooky.worker.upstreams import UpstreamGroup

log = logging.getLogger("spooky.mirror")

MOST_AT_ONCE = 128
"""Copies of one worker that wait for their content or for an answer."""
LONGEST_S = 30.0
"""How long an answer is waited for, where the upstream's own timeout is not shorter, and how long
it may take from then on."""
MARK = b"-shadow"
"""What follows the request's id in that of its copy."""


@dataclass(slots=True)
class Places:
    """Room for the copies of a worker."""

    loop: asyncio.AbstractEventLoop
    most_content: int
    """Octets of the content of one."""
    rand: Callable[[], float]
    free: int = MOST_AT_ONCE


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where the copies of a route go, and which share of its requests is copied."""

    group: "UpstreamGroup"
    percent: float
    places: Places

    def copy(self, call: Call, request_id: bytes, upload: Upload) -> "Shadow | None":
        """Begin a copy, if this request is to have one and there is room."""
        if not self.places.free or not is_sampled(self.places.rand(), self.percent):
            return None
        shadow = Shadow(call, self.group, request_id + MARK, self.places)
        if not call.head.end:
            upload.tap = shadow
        return shadow


class _NoCredit:
    """What a copy's content is worth: the request's own gives the credit back."""

    def consume(self, stream: int, count: int) -> None:
        """Do nothing."""


class Shadow:
    """A copy of one request (upload.Tap, attempt.Trying)."""

    __slots__ = (
        "_attempt",
        "_call",
        "_content",
        "_group",
        "_is_over",
        "_is_released",
        "_places",
        "_request_id",
        "_timer",
        "_upload",
    )

    def __init__(
        self, call: Call, group: "UpstreamGroup", request_id: bytes, places: Places
    ) -> None:
        self._call = call
        self._group = group
        self._request_id = request_id
        self._places = places
        self._content = bytearray()
        """In one piece: a client chooses how small those are that it comes in."""
        self._upload = Upload(_NoCredit(), 0, 0, empty=call.head.end)
        self._attempt: Attempt | None = None
        self._timer: asyncio.Handle | None = None
        self._is_released = False
        self._is_over = False
        places.free -= 1

    # --- the request ------------------------------------------------------------------------

    @contained
    def offer(self, data: bytes, *, end: bool) -> None:
        """Take content of the request."""
        if self._is_over:
            return
        self._content += data
        if len(self._content) > self._places.most_content:
            self._end("its content is too large to be copied")
        elif end:
            self._upload.offer(bytes(self._content), 0, end=True)
            self._send_when_whole()

    @contained
    def offer_trailers(self, trailers: Headers) -> None:
        """Take the trailer section, which ends the request."""
        if not self._is_over:
            self._upload.offer(bytes(self._content), 0, end=False)
            self._upload.offer_trailers(trailers)
            self._send_when_whole()

    @contained
    def release(self) -> None:
        """Let it go as soon as it is whole: the request itself may pass."""
        if not self._is_released:
            self._is_released = True
            self._send_when_whole()

    @contained
    def close(self) -> None:
        """Give it up, unless it was on its way already: the exchange is over."""
        if self._timer is None:
            self._end("its request ended before it was whole")

    def _send_when_whole(self) -> None:
        if self._is_released and self._upload.complete and not self._is_over:
            self._timer = self._places.loop.call_soon(self._send)

    @contained
    def _send(self) -> None:
        limit = self._group.timeouts.response_header
        self._wait(min(limit or LONGEST_S, LONGEST_S), "no answer in time")
        # As it is by now: gates may have changed it.
        call = replace(
            self._call, group=self._group, session=None, response_fields=[], passed=[], shadow=None
        )
        # Nobody counts how a copy went, so that it would be lost as a trial.
        target = self._group.pick(call, self._group.on_trial())
        if target is None:
            self._end("every backend is out of service")
            return
        self._attempt = Attempt(self, target, time.monotonic())
        self._attempt.start(forward(call, target.scheme, self._request_id))

    def _wait(self, seconds: float, otherwise: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._places.loop.call_later(seconds, self._end, otherwise)

    # --- the backend (attempt.Trying) -------------------------------------------------------

    @contained
    def on_stream(self, attempt: Attempt) -> None:
        """Send the content."""
        if attempt.stream is not None:
            self._upload.attach(attempt.stream)

    @contained
    def on_no_stream(self, _attempt: Attempt, _kind: Kind, detail: str) -> None:
        """Give up."""
        self._end(detail)

    @contained
    def on_lost(self, _attempt: Attempt, detail: str, _unprocessed: bool) -> None:
        """Give up."""
        self._end(detail)

    @contained
    def on_event(self, attempt: Attempt, event: StreamEvent) -> None:
        """Drop what is answered, to its end."""
        match event:
            case Body():
                if attempt.stream is not None:
                    attempt.stream.consume(event.credit)
                if event.end:
                    self._end("")
            case ResponseHead():
                if event.end:
                    self._end("")
                else:
                    self._wait(LONGEST_S, "its answer did not end in time")
            case Writable():
                self._upload.pump()
            case Trailers() | Reset() | Malformed():
                self._end("")

    # --- the end ----------------------------------------------------------------------------

    def fault(self, error: Exception) -> None:
        """End because of a fault of ours, which is the copy's alone."""
        log.error("internal error in a copy of a request: %s: %s", type(error).__name__, error)
        self._end("")

    def _end(self, detail: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._places.free += 1
        if detail:
            log.debug("no copy for %s: %s", self._group.name, detail)
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel(H2Code.CANCEL)
        self._upload.settle()
        self._content.clear()
