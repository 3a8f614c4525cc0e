"""A downstream engine of about a hundred lines, to prove the seam: no QUIC, no cryptography.

A datagram is the header by which Spooky finds a connection, and one message as a Python literal.
Nothing is lost and everything comes in order, as it does on a loopback interface. `plain_peer.py`
is the client.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from spooky.errors import H3Code
from spooky.protocol import messages as m
from spooky.protocol.cid import CID_LENGTH, mint
from spooky.protocol.downstream import Begin, Retried, ServerSettings
from spooky.protocol.messages import DownstreamEvent, Headers, Path

INITIAL_HEADER = 16
PIECE = 300
"""Octets of content in a datagram; as a literal they are up to four times as many."""

CONFIRMED = ("head", "body", "trailers")
MOST_IN_FLIGHT = 40
"""Datagrams; they have to fit into the buffer of a socket."""


def unpack(data: bytes) -> tuple[Any, ...]:
    """Read the message of a datagram; an empty one where there is none."""
    try:
        start = INITIAL_HEADER if data[0] & 0x80 else 1 + CID_LENGTH
        return tuple(ast.literal_eval(data[start:].decode("ascii")))
    except (ValueError, SyntaxError, TypeError, IndexError):
        return ()


def listen(settings: ServerSettings) -> Begin:
    """Stand in for `aioquic_engine.listen`."""
    return partial(PlainEngine, settings)


@dataclass(slots=True)
class Stream:
    """A request: octets that the client has not confirmed, and what of it is over."""

    unconfirmed: int = 0
    asked: bool = False
    answered: bool = False


class PlainEngine:
    """One client connection (see `messages.DownstreamEngine` for the verbs)."""

    def __init__(self, settings: ServerSettings, dcid: bytes, retried: Retried | None) -> None:
        self._settings = settings
        self._cid = mint(settings.slot, settings.random(CID_LENGTH))
        self._out: list[tuple[Any, ...]] = [("hello", self._cid, settings.stream_window)]
        self._told: list[DownstreamEvent] = []
        self._streams: dict[int, Stream] = {}
        self._full: set[int] = set()
        self._path: Path | None = None
        self._deadline: float | None = 1e9
        self._goaways = self._in_flight = 0
        self._closed = False

    def receive(self, datagrams: Iterable[tuple[bytes, Path]], now: float) -> list[DownstreamEvent]:
        for data, path in datagrams:
            message = unpack(data)
            if message and not self._closed:
                self._path, self._deadline = path, now + self._settings.idle_timeout
                self._take(*message)
        return self.events()

    def _take(self, what: str, *rest: Any) -> None:
        self._in_flight -= what == "ack"
        match what, *rest:
            case "hello", _:
                self._told.append(m.Ready("localhost", "plain", 1))
            case "close", int(code), str(reason):
                self._end(m.Closed(code if code != H3Code.NO_ERROR else 0, reason, by_peer=True))
            case "head", int(number), *_ if self._goaways > 1:
                self._out.append(("reset", number, int(H3Code.REQUEST_REJECTED)))
            case "head", int(number), method, authority, path, headers, end:
                self._streams[number] = Stream(asked=end)
                head = m.RequestHead(number, method, b"https", authority, path, headers, end)
                self._told += [m.RequestBegun(number), head]
            case _, int(number), *_ if number in self._streams:
                self._take_of(self._streams[number], what, *rest)

    def _take_of(self, stream: Stream, what: str, number: int, *rest: Any) -> None:
        match what, *rest:
            case "body", bytes(data), bool(end):
                stream.asked |= end
                self._told.append(m.Body(number, data, end, len(data)))
            case "trailers", list(headers):
                stream.asked = True
                self._told.append(m.Trailers(number, headers))
            case "reset", int(code):
                stream.asked = True
                self._told.append(m.Reset(number, code))
            case "stop", int(code):
                self._told.append(m.Stopped(number, code))
            case "ack", int(count), bool(end):
                stream.unconfirmed -= count
                stream.answered |= end
                if number in self._full and stream.unconfirmed * 2 <= self._settings.send_buffer:
                    self._full.discard(number)
                    self._told.append(m.Writable(number))
        if stream.asked and stream.answered:
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._streams.pop(number, None)
        self._full.discard(number)

    def _end(self, closed: m.Closed) -> None:
        if not self._closed:
            self._closed = True
            self._told.append(closed)

    def handle_timer(self, now: float) -> list[DownstreamEvent]:
        if self._deadline is not None and now >= self._deadline:
            self._end(m.Closed(0, "idle timeout", by_peer=False))
        return self.events()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Path]]:
        if self._path is None:
            return []
        header = b"\x40" + bytes(CID_LENGTH)
        found = []
        while self._out and (self._closed or self._in_flight < MOST_IN_FLIGHT):
            message = self._out.pop(0)
            self._in_flight += message[0] in CONFIRMED
            found.append((header + repr(message).encode(), self._path))
        return found

    def events(self) -> list[DownstreamEvent]:
        told, self._told = self._told, []
        return told

    def deadline(self) -> float | None:
        return None if self._closed and not self._out else self._deadline

    def connection_ids(self) -> list[bytes]:
        return [self._cid]

    def path(self) -> Path | None:
        return self._path

    def _say(self, what: str, stream: int, *rest: Any) -> None:
        if stream in self._streams and not self._closed:
            self._out.append((what, stream, *rest))

    def send_interim(self, stream: int, status: int, headers: Headers) -> None:
        self._say("head", stream, status, headers, False)

    def send_head(self, stream: int, status: int, headers: Headers, *, end: bool) -> None:
        self._say("head", stream, status, headers, end)

    def send_body(self, stream: int, data: bytes, *, end: bool) -> None:
        for start in range(0, max(len(data), 1), PIECE):
            piece = bytes(data[start : start + PIECE])
            self._say("body", stream, piece, end and start + PIECE >= len(data))
        if stream in self._streams:
            self._streams[stream].unconfirmed += len(data)

    def send_trailers(self, stream: int, headers: Headers) -> None:
        self._say("trailers", stream, headers)

    def writable(self, stream: int) -> int:
        room = self._settings.send_buffer - self.unacknowledged(stream)
        if room <= 0:
            self._full.add(stream)
        return max(room, 0)

    def unacknowledged(self, stream: int) -> int:
        return self._streams[stream].unconfirmed if stream in self._streams else 0

    def held_up(self) -> dict[int, int]:
        return {}

    def consume(self, stream: int, count: int) -> None:
        self._say("credit", stream, count)

    def reset(self, stream: int, code: int) -> None:
        self._say("reset", stream, int(code))
        self._say("stop", stream, int(code))
        self._forget(stream)

    def stop(self, stream: int, code: int) -> None:
        if stream in self._streams and not self._streams[stream].asked:
            self._say("stop", stream, int(code))
            self._streams[stream].asked = True

    def goaway(self) -> None:
        self._goaways += 1
        self._out.append(("goaway",))

    def close(self, code: int, reason: str = "") -> None:
        if not self._closed:
            self._out.append(("close", int(code), reason))
            self._end(m.Closed(0 if code == H3Code.NO_ERROR else code, reason, by_peer=False))

    def is_idle(self) -> bool:
        return not self._streams

    def held(self) -> int:
        return sum(stream.unconfirmed for stream in self._streams.values())

    def probe_timeout(self) -> float:
        return 0.01

    def release(self) -> None:
        vars(self).clear()
