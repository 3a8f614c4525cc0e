"""Which bound a failed request or a closed connection came up against, and what the log says of it.

It counts where others decide. The log has a line a second at most for each bound, with the number
of times, made of the counts alone: who counts has nothing to do with it.
"""

import asyncio
import logging
from typing import Final

from spooky.bounds import Bound
from spooky.errors import Kind
from spooky.protocol.messages import Closed
from spooky.shm.bounds import BoundCounts

log = logging.getLogger("spooky.bounds")

INTERVAL_S: Final = 1.0
STREAM_LIMIT_ERROR: Final = 0x04
"""RFC 9000 section 20.1"""
IDLE: Final = Closed(0, "idle timeout", by_peer=False)

_OF_KIND: Final = {
    Kind.HEADERS_TOO_LARGE: Bound.REQUEST_HEADER_BYTES,
    Kind.TOO_MANY_HEADERS: Bound.REQUEST_HEADER_COUNT,
    Kind.HEADERS_TIMEOUT: Bound.REQUEST_HEADER_TIMEOUT,
    Kind.BODY_TOO_LARGE: Bound.REQUEST_BODY_BYTES,
    Kind.SLOW_REQUEST: Bound.REQUEST_BODY_RATE,
    Kind.CLIENT_TIMEOUT: Bound.IDLE_TIMEOUT,
    Kind.IDLE_TIMEOUT: Bound.IDLE_TIMEOUT,
    Kind.TOTAL_TIMEOUT: Bound.TOTAL_TIMEOUT,
}
_EVERYDAY: Final = frozenset((Bound.CLIENT_IDLE_TIMEOUT,))
"""Bounds that honest clients come up against all the time."""


def note_failure(bounds: BoundCounts, kind: Kind) -> None:
    """Count a request that failed, if that was at a bound."""
    bound = _OF_KIND.get(kind)
    if bound is not None:
        bounds.reached(bound)


def note_close(bounds: BoundCounts, closed: Closed) -> None:
    """Count a client connection that is over, if that was at a bound."""
    if closed == IDLE:
        bounds.reached(Bound.CLIENT_IDLE_TIMEOUT)
    elif closed.code == STREAM_LIMIT_ERROR and not closed.by_peer:
        bounds.reached(Bound.STREAMS_PER_CONNECTION)


class BoundLog:
    """Tells the log of the bounds that one process counts."""

    def __init__(self, counts: BoundCounts, loop: asyncio.AbstractEventLoop) -> None:
        self._counts = counts
        self._loop = loop
        # The row goes on where the process before this one in its slot has left it.
        self._told = counts.all()

    def start(self) -> None:
        """Begin to look."""
        self._loop.call_later(INTERVAL_S, self._run)

    def _run(self) -> None:
        counts = self._counts.all()
        if counts != self._told:
            for bound, count in counts.items():
                times = count - self._told[bound]
                if times and bound not in _EVERYDAY:
                    log.info("bound reached: %s, %d times", bound.name.lower(), times)
            self._told = counts
        self.start()
