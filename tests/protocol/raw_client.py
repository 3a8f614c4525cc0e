"""A client that writes any octets on its streams, and a transport that keeps accounts.

What a well-behaved HTTP/3 library refuses to send is made by hand here: `section` and `frame`
make the octets, `RawClient` puts them on the streams of a real QUIC connection. `Ledger` stands
where QUIC stands below an `H3Session`, for tests that cut a stream into every possible piece.
"""

import itertools
from collections import Counter, defaultdict

import pylsqpack
from aioquic.quic import events as quic_events

from spooky.protocol import varint
from spooky.protocol.h3 import H3Session
from spooky.protocol.messages import Body, DownstreamEvent, Headers
from tests.protocol.quic_pair import Pair, request_fields

CONTROL, PUSH, ENCODER, DECODER = range(4)
HEADER_BYTES = 4096
"""The limit of a `Session` for a header section."""


def section(*fields: tuple[bytes, bytes]) -> bytes:
    """Encode fields without the dynamic table."""
    block: bytes = pylsqpack.Encoder().encode(0, list(fields))[1]
    return block


def literal_headers(*fields: tuple[bytes, bytes]) -> bytes:
    """Make a HEADERS frame of literals (RFC 9204 section 4.5.6); pylsqpack writes no empty name."""
    block = b"\0\0"
    for name, value in fields:
        block += _prefixed(0x20, 0x07, len(name)) + name + _prefixed(0, 0x7F, len(value)) + value
    return varint.frame(varint.FRAME_HEADERS, block)


def _prefixed(flags: int, most: int, number: int) -> bytes:
    """Write an integer (RFC 7541 section 5.1)."""
    if number < most:
        return bytes((flags | number,))
    octets, number = bytearray((flags | most,)), number - most
    while number >= 0x80:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def headers(*fields: tuple[bytes, bytes]) -> bytes:
    """Make a HEADERS frame."""
    return varint.frame(varint.FRAME_HEADERS, section(*fields))


def data(content: bytes) -> bytes:
    """Make a DATA frame."""
    return varint.frame(varint.FRAME_DATA, content)


def request(*fields: tuple[bytes, bytes], method: bytes = b"POST") -> bytes:
    """Make the HEADERS frame of a request with these fields over and above the usual."""
    return headers(*request_fields(*fields, method=method))


def settings(*pairs: tuple[int, int]) -> bytes:
    """Make a SETTINGS frame."""
    payload = b"".join(varint.encode(key) + varint.encode(value) for key, value in pairs)
    return varint.frame(varint.FRAME_SETTINGS, payload)


def split_frames(octets: bytes | bytearray) -> list[tuple[int, bytes]]:
    """Cut a stream into its frames."""
    found, at = [], 0
    while at < len(octets):
        kind, at = varint.decode(octets, at)
        length, at = varint.decode(octets, at)
        found.append((kind, bytes(octets[at : at + length])))
        at += length
    return found


class RawClient:
    """The client's end of a pair, without HTTP/3."""

    def __init__(self, pair: Pair, *, with_settings: bool = True) -> None:
        self.pair = pair
        self.received: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        pair.on_client_event = self._on_event
        for event in pair.heard:
            self._on_event(event)
        if with_settings:
            self.open_uni(CONTROL, settings())

    def send(self, stream: int, octets: bytes, *, end: bool = False) -> None:
        """Write on a stream."""
        self.pair.client.send_stream_data(stream, octets, end)

    def open_uni(self, kind: int, octets: bytes = b"", *, end: bool = False) -> int:
        """Open a unidirectional stream of a kind."""
        stream = self.pair.client.get_next_available_stream_id(is_unidirectional=True)
        self.send(stream, varint.encode(kind) + octets, end=end)
        return stream

    def frames(self, stream: int) -> list[tuple[int, bytes]]:
        """List the frames that came on a stream."""
        return split_frames(self.received[stream])

    def sections(self, stream: int) -> list[Headers]:
        """List the field sections that came on a stream."""
        decoder = pylsqpack.Decoder(0, 0)
        return [
            decoder.feed_header(stream, payload)[1]
            for kind, payload in self.frames(stream)
            if kind == varint.FRAME_HEADERS
        ]

    def uni(self, kind: int) -> bytes:
        """Return what came on the server's unidirectional stream of a kind, but the kind."""
        [octets] = [
            bytes(octets[1:])
            for stream, octets in self.received.items()
            if stream & 3 == 3 and octets[0] == kind
        ]
        return octets

    def _on_event(self, event: quic_events.QuicEvent) -> None:
        match event:
            case quic_events.StreamDataReceived():
                self.received[event.stream_id] += event.data
                if event.end_stream:
                    self.ended.add(event.stream_id)
            case quic_events.StreamReset():
                self.resets[event.stream_id] = event.error_code
            case quic_events.StopSendingReceived():
                self.stopped[event.stream_id] = event.error_code


class Ledger:
    """A `StreamTransport` that sends nothing and counts everything."""

    def __init__(self) -> None:
        self.sent: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.credited: Counter[int] = Counter()
        self._next_uni = 3

    def send(self, stream: int, data: bytes, *, end: bool) -> None:
        assert stream not in self.ended, "written to after its end"
        self.sent[stream] += data
        if end:
            self.ended.add(stream)

    def open_uni(self) -> int:
        self._next_uni += 4
        return self._next_uni - 4

    def reset(self, stream: int, code: int) -> None:
        self.resets.setdefault(stream, code)

    def stop(self, stream: int, code: int) -> None:
        self.stops.setdefault(stream, code)

    def credit(self, stream: int, count: int) -> None:
        assert count >= 0
        self.credited[stream] += count


class Session:
    """A session on a ledger; what it tells is gathered in `told`."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.h3 = H3Session(self.ledger, HEADER_BYTES)
        self.h3.open()
        self.told: list[DownstreamEvent] = []

    def receive(self, octets: bytes, *, end: bool = False, stream: int = 0) -> None:
        self.told += self.h3.receive(stream, octets, end)

    def receive_in_pieces(self, octets: bytes, cuts: list[int], *, fin_apart: bool) -> None:
        at = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
        pieces = [octets[start:stop] for start, stop in itertools.pairwise(at)]
        for number, piece in enumerate(pieces):
            self.receive(piece, end=not fin_apart and number == len(pieces) - 1)
        if fin_apart:
            self.receive(b"", end=True)

    def answer(self) -> None:
        """Consume what came and send a response."""
        for event in self.told:
            if isinstance(event, Body):
                self.h3.consume(event.stream, event.credit)
        self.h3.responses.send_section(0, [(b":status", b"200")], end=False, last=True)
        self.h3.responses.send_data(0, b"done", end=True)
        self.h3.responses.flush()
