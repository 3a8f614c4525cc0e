"""Reads the stream IDs of GOAWAY frames off a server's control stream (RFC 9114 section 5.2).

aioquic lets their content go unread. Knows no other frame.
"""

from aioquic._buffer import Buffer, BufferReadError

CONTROL_STREAM = 0x0
GOAWAY = 0x7
SERVER_UNIDIRECTIONAL = 3


class GoawayReader:
    """Takes what comes on the unidirectional streams of a server."""

    def __init__(self) -> None:
        self.last: int | None = None
        """The stream ID of the latest GOAWAY."""
        self._unread: dict[int, bytes] = {}
        self._control: int | None = None

    def take(self, stream: int, data: bytes) -> None:
        """Take octets of a stream, in order."""
        if stream % 4 != SERVER_UNIDIRECTIONAL:
            return
        if self._control is None:
            data = self._unread.pop(stream, b"") + data
            if not data or data[0] != CONTROL_STREAM:
                self._unread[stream] = data[:1]
                return
            self._control, data = stream, data[1:]
        elif stream != self._control:
            return
        else:
            data = self._unread.pop(stream, b"") + data
        self._unread[stream] = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        """Read whole frames; return what is left."""
        buffer = Buffer(data=data)
        while True:
            start = buffer.tell()
            try:
                kind, length = buffer.pull_uint_var(), buffer.pull_uint_var()
                content = buffer.pull_bytes(length)
            except BufferReadError:
                return data[start:]
            if kind == GOAWAY:
                self.last = Buffer(data=content).pull_uint_var()
