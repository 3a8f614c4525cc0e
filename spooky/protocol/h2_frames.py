"""From octets of a backend's connection to frames (RFC 9113 section 4), checked as they come.

h2's own buffer waits for the whole of a frame before it looks at its length, which lets a backend
that does not speak HTTP/2 at all make us wait for up to 16 MiB. This one refuses at the header of
the frame, says what the other side seems to speak instead, and bounds what a header block or
frames that carry nothing may cost.

A rule: it parses and bounds, and knows nothing of streams; what a frame means is h2's to say.
"""

from h2.errors import ErrorCodes
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, ProtocolError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PushPromiseFrame,
)

from spooky.protocol.upstream import (
    EMPTY_FRAME_OCTETS,
    FRAME_HEADER,
    MOST_CONTINUATIONS,
    MOST_EMPTY_FRAMES,
    describe_stranger,
    is_preface,
)

_BLOCK_STARTS = (HeadersFrame, PushPromiseFrame)


class FrameReader:
    """Cuts one connection's octets into frames."""

    def __init__(self, max_frame: int, max_block: int) -> None:
        self._max_frame = max_frame
        self._max_block = max_block
        self._octets: bytes = b""
        self._view = memoryview(b"")
        self._start = 0
        self._started = False
        self._block: list[HeadersFrame | ContinuationFrame | PushPromiseFrame] = []
        self._block_size = 0
        self._empty = 0

    def feed(self, data: bytes) -> None:
        """Take octets; call `next_frame` until it returns None after each call."""
        rest = self._octets[self._start :]
        self._octets = rest + data if rest else data
        self._view = memoryview(self._octets)
        self._start = 0

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, a header block in one; None: more octets are needed.

        Raises:
            ProtocolError: what arrived is no frame that may be here.
            HyperframeError: the frame's content is broken.
        """
        while True:
            frame = self._cut()
            if frame is None:
                return None
            if self._block or isinstance(frame, _BLOCK_STARTS):
                frame = self._join(frame)
                if frame is None:
                    continue
            self._count(frame)
            return frame

    def note_progress(self) -> None:
        """Begin to count anew: a message went on, whichever way."""
        self._empty = 0

    def unparsed(self) -> bytes:
        """Return the octets that are not yet a whole frame."""
        return self._octets[self._start :]

    def _cut(self) -> Frame | None:
        start = self._start
        available = len(self._octets) - start
        if available < FRAME_HEADER:
            return None
        body = start + FRAME_HEADER
        if not self._started:
            self._check_preface(self._octets[start:body])
        frame, length = Frame.parse_frame_header(self._view[start:body])
        if length > self._max_frame:
            raise FrameTooLargeError(f"a frame of {length} octets, {self._max_frame} are allowed")
        if available < FRAME_HEADER + length:
            return None
        frame.parse_body(self._view[body : body + length])
        self._start = body + length
        return frame

    def _check_preface(self, header: bytes) -> None:
        """Insist on SETTINGS as the server's first frame (RFC 9113 section 3.4)."""
        if not is_preface(header):
            raise ProtocolError(describe_stranger(header))
        self._started = True

    def _join(self, frame: Frame) -> Frame | None:
        """Collect a header block that is spread over CONTINUATION frames (section 6.10)."""
        block = self._block
        if block and not (
            isinstance(frame, ContinuationFrame) and frame.stream_id == block[0].stream_id
        ):
            raise ProtocolError("a header block was interrupted by another frame")
        assert isinstance(frame, (*_BLOCK_STARTS, ContinuationFrame))
        self._block_size += len(frame.data)
        if self._block_size > self._max_block or len(block) > MOST_CONTINUATIONS:
            raise DenialOfServiceError("a header block that is too large")
        if "END_HEADERS" not in frame.flags:
            block.append(frame)
            return None
        self._block_size = 0
        if not block:
            return frame
        block.append(frame)
        whole = block[0]
        whole.data = b"".join(part.data for part in block)
        whole.flags.add("END_HEADERS")
        self._block = []
        return whole

    def _count(self, frame: Frame) -> None:
        self._empty += 1
        if not (isinstance(frame, DataFrame) and frame.data):
            octets = len(frame.data) if isinstance(frame, HeadersFrame) else frame.body_len
            self._empty += octets // EMPTY_FRAME_OCTETS
        if self._empty > MOST_EMPTY_FRAMES:
            error = DenialOfServiceError("a flood of frames that carry nothing")
            error.error_code = ErrorCodes.ENHANCE_YOUR_CALM
            raise error
