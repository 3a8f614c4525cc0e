"""From octets of a backend's connection to frames (RFC 9113 section 4), each given to its taker.

Frames are not made into objects: a taker gets the octets that arrived and where its payload is in
them. A frame is refused at its header, before it is waited for; a header block that is spread over
CONTINUATION frames is given as one HEADERS frame.

A rule: it cuts and bounds, and knows nothing of streams; what breaks it is a `Breach`.
"""

from collections.abc import Callable
from typing import TypeAlias

from spooky.errors import H2Code
from spooky.protocol.lean_frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    Breach,
    read_header,
    trim,
)
from spooky.protocol.upstream import (
    FRAME_HEADER,
    MOST_CONTINUATIONS,
    describe_stranger,
    is_preface,
)

Taker: TypeAlias = Callable[[int, int, bytes, int, int], None]
"""Is called with a frame's flags and stream, octets, and where its payload begins and ends."""


class Cutter:
    """Cuts one connection's octets into frames."""

    def __init__(self, takers: tuple[Taker, ...], max_frame: int, largest_block: int) -> None:
        """Say who takes what: `takers` by the type of a frame, the last one all types beyond."""
        self._takers = takers
        self._other = takers[-1]
        self._max_frame = max_frame
        self._largest_block = largest_block
        self._rest: list[bytes] = []
        """The beginning of a frame, as it arrived."""
        self._held = 0
        self._needed = 0
        """How many octets `rest` has, and must have before there is something to be done."""
        self._started = False
        self._block: list[bytes] = []
        self._block_size = 0
        self._block_stream = self._block_flags = 0

    def feed(self, data: bytes) -> None:
        """Take octets, and give away the frames that are whole.

        Raises:
            Breach: what arrived is no frame that may be here.
        """
        rest = self._rest
        if rest:
            rest.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return
            data = b"".join(rest)
            rest.clear()
        if not self._started and len(data) >= FRAME_HEADER:
            self._start(data[:FRAME_HEADER])
        position = self._cut(data)
        if position < len(data):
            rest.append(data[position:])
            self._held = len(data) - position

    def unparsed(self) -> bytes:
        """Return the octets that are not yet a whole frame."""
        return b"".join(self._rest)

    def _start(self, header: bytes) -> None:
        if not is_preface(header):
            raise Breach(H2Code.PROTOCOL_ERROR, describe_stranger(header))
        self._started = True

    def _cut(self, data: bytes) -> int:
        """Give away whole frames; return where the first begins that is not."""
        takers, most, size = self._takers, len(self._takers), len(data)
        position = 0
        while True:
            start = position + FRAME_HEADER
            if start > size:
                self._needed = FRAME_HEADER
                return position
            high, low, kind, flags, stream = read_header(data, position)
            length = high << 8 | low
            if length > self._max_frame:
                reason = f"a frame of {length} octets, {self._max_frame} are allowed"
                raise Breach(H2Code.FRAME_SIZE_ERROR, reason)
            end = start + length
            if end > size:
                self._needed = FRAME_HEADER + length
                return position
            stream &= 0x7FFFFFFF
            if self._block or (kind == HEADERS and not flags & END_HEADERS):
                self._join(kind, flags, stream, data[start:end])
            else:
                taker = takers[kind] if kind < most else self._other
                taker(flags, stream, data, start, end)
            position = end

    def _join(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Collect a header block of several frames (RFC 9113 section 6.10)."""
        block = self._block
        if not block:
            if not stream:
                raise Breach(H2Code.PROTOCOL_ERROR, "HEADERS on stream 0")
            self._block_stream, self._block_flags = stream, flags & END_STREAM
            start, end = trim(flags, payload, 0, len(payload))
            payload = payload[start:end]
        elif kind != CONTINUATION or stream != self._block_stream:
            reason = "a header block was interrupted by another frame"
            raise Breach(H2Code.PROTOCOL_ERROR, reason)
        self._block_size += len(payload)
        if self._block_size > self._largest_block or len(block) > MOST_CONTINUATIONS:
            raise Breach(H2Code.ENHANCE_YOUR_CALM, "a header block that is too large")
        block.append(payload)
        if flags & END_HEADERS:
            whole = b"".join(block)
            self._block, self._block_size = [], 0
            self._takers[HEADERS](self._block_flags | END_HEADERS, stream, whole, 0, len(whole))
