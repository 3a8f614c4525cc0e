"""The client of `plain_engine.py`: octets in, octets out, what came of each request.

It has the names of aioquic's connection where `quic_pair.Pair` calls them, so that it can stand
there.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from spooky.protocol.cid import CID_LENGTH
from spooky.protocol.datagram import SMALLEST_SHORT, VERSION_1
from spooky.protocol.messages import Headers
from tests.protocol.plain_engine import INITIAL_HEADER, PIECE, unpack
from tests.protocol.quic_pair import Response

SMALLEST_INITIAL = 1200


@dataclass(slots=True)
class Upload:
    """What of a request's body waits for the window."""

    left: deque[tuple[Any, ...]] = field(default_factory=deque)
    window: int = 0


@dataclass(slots=True)
class PlainPeer:
    """The client's end of a connection."""

    original_destination_connection_id: bytes
    cid: bytes = b""
    """The server's, once it has said hello."""
    goaways: int = 0
    closed: tuple[int, str] | None = None
    """How the server closed."""
    responses: dict[int, Response] = field(default_factory=dict)
    _window: int = 0
    _uploads: dict[int, Upload] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(0, 4))
    _out: list[tuple[Any, ...]] = field(default_factory=lambda: [("hello", "plain")])

    # --- requests ---------------------------------------------------------------------------

    def request(
        self,
        *fields: tuple[bytes, bytes],
        method: bytes = b"GET",
        path: bytes = b"/",
        body: bytes | None = None,
        trailers: Headers | None = None,
        end: bool = True,
    ) -> int:
        """Send a request; without `end` it stays open. Return its stream."""
        stream = next(self._numbers)
        self.responses[stream] = Response()
        self._uploads[stream] = Upload(window=self._window)
        last = end and body is None and trailers is None
        self._out.append(("head", stream, method, b"localhost", path, list(fields), last))
        if body is not None:
            self.send_data(stream, body, end_stream=end and trailers is None)
        if trailers is not None:
            self._queue(stream, ("trailers", stream, trailers))
        return stream

    def send_data(self, stream: int, data: bytes, *, end_stream: bool) -> None:
        """Send more of a request's content, as the window lets it pass."""
        for start in range(0, max(len(data), 1), PIECE):
            last = end_stream and start + PIECE >= len(data)
            self._queue(stream, ("body", stream, data[start : start + PIECE], last))

    def _queue(self, stream: int, message: tuple[Any, ...]) -> None:
        self._uploads[stream].left.append(message)
        self._advance(stream)

    def _advance(self, stream: int) -> None:
        upload = self._uploads[stream]
        while upload.left:
            message = upload.left[0]
            size = len(message[2]) if message[0] == "body" else 0
            if size > upload.window:
                return
            upload.window -= size
            self._out.append(upload.left.popleft())

    def reset_stream(self, stream: int, code: int) -> None:
        """Give a request up."""
        self._uploads[stream].left.clear()
        self._out.append(("reset", stream, int(code)))

    def stop_stream(self, stream: int, code: int) -> None:
        """Want no response."""
        self._out.append(("stop", stream, int(code)))

    def close(self, error_code: int, reason_phrase: str = "") -> None:
        """Close the connection."""
        self._out.append(("close", int(error_code), reason_phrase))

    # --- octets -----------------------------------------------------------------------------

    def connect(self, _address: object, now: float) -> None:
        """Do nothing: the first datagram says hello."""

    def get_timer(self) -> float | None:
        """There are no deadlines."""
        return None

    def next_event(self) -> None:
        """There are no events; see `responses`."""
        return

    def datagrams_to_send(self, _now: float) -> list[tuple[bytes, object]]:
        """Take what is to be sent; until the server has said hello, that is the first alone."""
        found = []
        while self._out and (self.cid or self._out[0][0] == "hello"):
            message = repr(self._out.pop(0)).encode()
            if self.cid:
                packet = b"\x40" + self.cid + message
                found.append((packet.ljust(SMALLEST_SHORT), None))
            else:
                found.append(((self._initial_header() + message).ljust(SMALLEST_INITIAL), None))
        return found  # type: ignore[return-value]

    def _initial_header(self) -> bytes:
        dcid = self.original_destination_connection_id
        header = b"\xc0" + VERSION_1.to_bytes(4, "big") + bytes((len(dcid),)) + dcid + b"\0\0"
        assert len(header) == INITIAL_HEADER
        return header

    def receive_datagram(self, data: bytes, _address: object, now: float) -> None:
        """Take a datagram."""
        assert len(data) > CID_LENGTH
        match unpack(data):
            case "hello", bytes(cid), int(window):
                self.cid, self._window = cid, window
            case ("goaway",):
                self.goaways += 1
            case "close", int(code), str(reason):
                self.closed = (code, reason)
            case what, int(stream), *rest:
                self._take(what, stream, rest)

    def _take(self, what: str, stream: int, rest: list[Any]) -> None:
        response = self.responses[stream]
        match what, *rest:
            case "head", int(status), list(headers), bool(end):
                response.heads.append([(b":status", str(status).encode()), *headers])
                self._finish(stream, 0, end)
            case "body", bytes(data), bool(end):
                response.body += data
                self._finish(stream, len(data), end)
            case "trailers", list(headers):
                response.heads.append(headers)
                self._finish(stream, 0, end=True)
            case "reset", int(code):
                response.reset = code
            case "stop", int(code):
                response.stopped = code
                self._uploads[stream].left.clear()
            case "credit", int(count):
                self._uploads[stream].window += count
                self._advance(stream)

    def _finish(self, stream: int, count: int, end: bool) -> None:
        self.responses[stream].ended |= end
        self._out.append(("ack", stream, count, end))
