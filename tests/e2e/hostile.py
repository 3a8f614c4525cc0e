"""A backend that answers each request with the octets of an attack, named by the path's end.

HTTP/2 frames by hand, in a thread of the test's own process. It takes no notice of resets or
GOAWAY, nor of flow control save where its content shall never end.
"""

import asyncio
import contextlib
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, cast

from hpack import Decoder, Encoder

PREFACE: Final = 24
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = (
    *(0, 1, 3, 4, 5, 6),
    *(7, 8, 9),
)
OK: Final = b"\x88"
FLOOD: Final = 60_000
"""Frames of a flood: several times what any may have."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame."""
    return struct.pack(">LBL", len(payload) << 8 | kind, flags, stream) + payload


def head(stream: int, *fields: tuple[bytes, bytes], flags: int = END_HEADERS) -> bytes:
    """Write a HEADERS frame that changes no table."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return frame(HEADERS, flags, stream, encoder.encode(fields)[1:])


def _word(number: int) -> bytes:
    return struct.pack(">L", number)


def _after_head(octets: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda stream: frame(HEADERS, END_HEADERS, stream, OK) + octets(stream)


def _promised(stream: int, *bodies: bytes) -> bytes:
    """Write a response that promises five octets, and what comes instead."""
    said = head(stream, (b":status", b"200"), (b"content-length", b"5"))
    last = len(bodies) - 1
    return said + b"".join(
        frame(DATA, END_STREAM if number == last else 0, stream, body)
        for number, body in enumerate(bodies)
    )


_TRAILER = (b"x-sum", b"y" * 1000)
_TABLE = b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000
"""A literal of 4,000 octets that goes into the table."""

BEFORE_THE_HEAD: Final[dict[str, Callable[[int], bytes]]] = {
    "header-flood": lambda s: (
        head(s, (b":status", b"200"), *[(b"x", b"y" * 900)] * 75) + frame(DATA, END_STREAM, s, b"x")
    ),
    "many-fields": lambda s: frame(HEADERS, END_HEADERS, s, OK + b"\x90" * 9000),
    "hpack-bomb": lambda s: frame(HEADERS, END_HEADERS, s, OK + _TABLE + b"\xbe" * 9000),
    "hpack-nonsense": lambda s: frame(HEADERS, END_HEADERS, s, b"\xff\xff\xff\xff\xff"),
    "continuations": lambda s: frame(HEADERS, 0, s, OK) + frame(CONTINUATION, 0, s) * FLOOD,
    "large-continuations": lambda s: (
        frame(HEADERS, 0, s, OK) + frame(CONTINUATION, 0, s, b"\x90" * 16_000) * 60
    ),
    "endless-interim": lambda s: head(s, (b":status", b"103"), (b"link", b"</a>")) * FLOOD,
    "interim-at-the-end": lambda s: head(s, (b":status", b"103"), flags=END_HEADERS | END_STREAM),
    "too-little": lambda s: head(
        s, (b":status", b"200"), (b"content-length", b"5"), flags=END_HEADERS | END_STREAM
    ),
    "reset-storm": lambda s: frame(RST_STREAM, 0, s, _word(2)) * FLOOD,
    "goaway-loop": lambda _: frame(GOAWAY, 0, 0, _word(0) + _word(0)),
    "goaway-storm": lambda _: frame(GOAWAY, 0, 0, _word(2**31 - 1) + _word(0)) * FLOOD,
    "settings-to-and-fro": lambda _: (
        (frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0") + frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"))
        * FLOOD
    ),
    "long-settings": lambda _: frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0\0\1\0\0\0\0" * 1300) * 200,
    "pings": lambda _: frame(PING, 0, 0, b"12345678") * FLOOD,
    "window-overflow": lambda _: frame(WINDOW, 0, 0, _word(2**31 - 1)),
    "stream-window-overflow": lambda s: frame(WINDOW, 0, s, _word(2**31 - 1)),
    "window-of-nothing": lambda _: frame(WINDOW, 0, 0, _word(0)),
    "push": lambda s: frame(PUSH, END_HEADERS, s, _word(2) + OK),
    "idle-stream": lambda _: frame(DATA, 0, 99, b"x"),
    "content-first": lambda s: frame(DATA, END_STREAM, s, b"x"),
    "unknown-frames": lambda s: frame(0xBE, 0, s, b"x" * 16_000) * 500,
}
"""Attacks with which no response begins."""

AFTER_THE_HEAD: Final[dict[str, Callable[[int], bytes]]] = {
    "too-much": lambda s: _promised(s, b"hello", b"!"),
    "too-short": lambda s: _promised(s, b"hell"),
    "empty-content": _after_head(lambda s: frame(DATA, 0, s) * FLOOD),
    "padding": _after_head(lambda s: frame(DATA, PADDED, s, b"\xff" + bytes(255)) * FLOOD),
    "beyond-the-window": _after_head(lambda s: frame(DATA, 0, s, b"x" * 16_000) * 2000),
    "endless-trailers": _after_head(lambda s: head(s, _TRAILER) * 1000),
    "large-trailers": _after_head(
        lambda s: head(s, *[_TRAILER] * 100, flags=END_HEADERS | END_STREAM)
    ),
    "trailers-of-pseudo-headers": _after_head(
        lambda s: frame(HEADERS, END_HEADERS | END_STREAM, s, OK)
    ),
    "second-head": _after_head(lambda s: frame(HEADERS, END_HEADERS, s, OK)),
}
"""Attacks that the client hears of as a response that breaks off."""

AFTER_THE_END: Final[dict[str, Callable[[int], bytes]]] = {
    "late-content": lambda s: (
        frame(HEADERS, END_HEADERS | END_STREAM, s, OK) + frame(DATA, 0, s, b"x" * 100) * FLOOD
    ),
    "late-heads": lambda s: (
        frame(HEADERS, END_HEADERS | END_STREAM, s, OK) + frame(HEADERS, END_HEADERS, s, OK) * FLOOD
    ),
}
"""Attacks behind a response that is whole."""
ATTACKS: Final = {**BEFORE_THE_HEAD, **AFTER_THE_HEAD, **AFTER_THE_END}


class _Connection(asyncio.Protocol):
    def __init__(self, hostile: "Hostile") -> None:
        self._hostile = hostile
        self._unread = bytearray()
        self._decoder = Decoder()
        self._task: asyncio.Task[None] | None = None
        self._credit = 250_000

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(frame(SETTINGS, 0, 0))
        self._hostile.connections += 1
        self._skip = PREFACE

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if self._skip and len(self._unread) >= self._skip:
            del self._unread[: self._skip]
            self._skip = 0
        while not self._skip and len(self._unread) >= 9:
            end = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                break
            kind, stream = self._unread[3], int.from_bytes(self._unread[5:9], "big")
            payload = bytes(self._unread[9:end])
            del self._unread[:end]
            self._hostile.frames[kind] += 1
            if kind == WINDOW and stream:
                self._credit += int.from_bytes(payload, "big")
            elif kind == HEADERS:
                self._answer(stream, payload)

    def _answer(self, stream: int, block: bytes) -> None:
        fields = dict(self._decoder.decode(block, raw=True))
        name = fields[b":path"].decode().rpartition("/")[2]
        if name == "tiny":
            self._task = asyncio.ensure_future(self._send_tiny(stream))
            return
        fine = frame(HEADERS, END_HEADERS | END_STREAM, stream, OK)
        self._transport.write(ATTACKS[name](stream) if name in ATTACKS else fine)

    async def _send_tiny(self, stream: int) -> None:
        """Send content of an octet a frame, for ever."""
        self._transport.write(frame(HEADERS, END_HEADERS, stream, OK))
        while not self._transport.is_closing():
            count = min(10_000, self._credit)
            if self._transport.get_write_buffer_size() < 1 << 20:
                self._transport.write(frame(DATA, 0, stream, b"x") * count)
                self._credit -= count
            await asyncio.sleep(0.001)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()


class Hostile:
    """The backend."""

    def __init__(self) -> None:
        self.address = ""
        self.connections = 0
        """How many there have been."""
        self.frames: Counter[int] = Counter()
        """Frames of the proxy, by type."""


@contextlib.contextmanager
def hostile_backend() -> Iterator[Hostile]:
    """Run it until the block ends."""
    hostile = Hostile()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: _Connection(hostile), "127.0.0.1", 0)
    )
    hostile.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield hostile
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
