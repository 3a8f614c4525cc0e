"""Both upstream engines, side by side: the same octets and verbs mean the same to both.

Whole conversations are drawn: frames as servers write them, frames as none should, and octets that
were changed on the way, between verbs of a client. After each step events, streams, windows and
what was sent are held together. Where the engines part, one of `DIFFERENCES` has to say why.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpack import Encoder
from hyperframe.frame import SettingsFrame
from hypothesis import event, given, settings
from hypothesis import strategies as st

from spooky.errors import H2Code
from spooky.protocol.engines import engine_named
from spooky.protocol.messages import (
    Closed,
    Headers,
    Malformed,
    RequestHead,
    UpstreamEngine,
    UpstreamEvent,
)
from spooky.protocol.upstream import H2Limits

LIMITS = H2Limits(stream_window=20_000, connection_window=80_000, max_frame=16_384,
                  header_bytes=2048, max_streams=6)  # fmt: skip
FIELDS: Headers = [(b"user-agent", b"test"), (b"cookie", b"a=b"), (b"accept", b"*/*")]
METHODS = (b"GET", b"POST", b"HEAD", b"POST")

SECTIONS: list[Headers] = [
    [(b":status", b"200")],
    [(b":status", b"200"), (b"content-length", b"100"), (b"server", b"s")],
    [(b":status", b"404"), (b"date", b"today"), (b"x-a", b"b" * 50)],
    [(b":status", b"204")],
    [(b":status", b"304"), (b"content-length", b"7")],
    [(b":status", b"103"), (b"link", b"</a>")],
    [(b":status", b"100")],
    [(b":status", b"101")],
    [(b"x-sum", b"6")],
    [(b":status", b"200"), (b"Bad", b"x")],
    [(b":status", b"200"), (b"connection", b"close")],
    [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")],
    [(b":status", b"200"), (b"x-long", b"y" * 2100)],
    [],
]

DIFFERENCES: list[tuple[str, str, str]] = [
    # h2's last event, ours, and why ours is right.
    ("Closed:.*increment must be", "(Malformed|Writable)?", "a fault of a stream, if any (6.9)"),
    ("Reset.*code=3,", "Malformed", "one fault of a stream is told like any other (6.9.1)"),
    ("", "Closed:RST_STREAM on stream", "a fault of the connection (6.4)"),
    ("", "Closed:DATA on a stream that has ended", "as for HEADERS, not answered for ever (5.1)"),
    ("", "Closed:a frame with more padding", "padding and priority together fill it (6.2)"),
    ("Closed:Padding is too long", "(Malformed)?", "an empty section may be padded (6.2)"),
    ("", "Closed:a server pushed", "refused at its first frame (8.4)"),
    ("", "Closed:setting 2 has the value 1", "a fault of the connection (6.5.2)"),
    ("", "Reset.*code=5,", "also after trailers (5.1)"),
    ("Closed:.*may not depend on itself", "", "priority means nothing any more (5.3)"),
    ("Closed:.*(PRIORITY|Invalid Priority)", "(Malformed)?", "a fault of a stream (6.3)"),
    ("", "Closed:more DATA than the window of a stream", "a reset lifts no window (6.9)"),
    ("Closed:StreamIDTooLow", "", "late frames of what GOAWAY gave up are no fault (6.8)"),
    (r"Closed:\d+$", "", "late frames of a message that was given up are no fault (5.1)"),
    ("Closed:Stream ID must be", "", "ours is found when the frame is whole"),
    ("Closed:.*ALTSVC", "", "no frame that we know (5.5)"),
]


def write_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">LBL", len(payload) << 8 | kind, flags, stream) + payload


@dataclass
class Server:
    """Writes what is drawn; it has the table of its header blocks."""

    encoder: Encoder = field(default_factory=Encoder)

    def section(self, stream: int, number: int, flags: int, parts: int) -> bytes:
        block = self.encoder.encode(SECTIONS[number])
        cut = len(block) // parts + 1
        pieces = [block[place : place + cut] for place in range(0, len(block), cut)] or [b""]
        if flags & 0x20:
            pieces[0] = b"\0\0\0\0\7" + pieces[0]
        if flags & 0x8:
            pieces[0] = b"\3" + pieces[0] + b"\0\0\0"
        octets = b""
        for place, piece in enumerate(pieces):
            last = 4 if place == len(pieces) - 1 else 0
            octets += write_frame(9 if place else 1, last if place else flags | last, stream, piece)
        return octets


streams = st.sampled_from([1, 1, 3, 5, 7, 9])
any_streams = st.sampled_from([0, 1, 2, 3, 5, 7, 9, 99])
codes = st.sampled_from([0, 2, 7, 8, 200])
lasts = st.sampled_from([0, 1, 3, 7, 2**31 - 1])
small = st.sampled_from([0, 1, 99, 100, 1000])
Step = tuple[object, ...]

valid_frames: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("headers"), streams, st.integers(0, len(SECTIONS) - 1),
              st.sampled_from([0, 0, 1, 1, 9, 0x20, 0x29]), st.sampled_from([1, 1, 1, 2, 5])),
    st.tuples(st.just("data"), streams, small | st.just(9000), st.booleans(),
              st.sampled_from([None, None, 0, 200])),
    st.tuples(st.just("frame"), st.just(3), st.just(0), streams,
              codes.map(lambda code: struct.pack(">L", code))),
    st.tuples(st.just("frame"), st.just(8), st.just(0), st.just(0) | streams,
              st.sampled_from([1, 1000, 2**31 - 1, 0]).map(lambda size: struct.pack(">L", size))),
    st.tuples(st.just("settings"), st.dictionaries(
        st.sampled_from([1, 2, 3, 4, 5, 6, 8, 77]),
        st.sampled_from([0, 1, 2, 10, 4096, 16_384, 70_000, 2**31]), max_size=3)),
    st.tuples(st.just("frame"), st.just(4), st.just(1), st.just(0), st.just(b"")),
    st.tuples(st.just("frame"), st.just(6), st.integers(0, 1), st.just(0), st.just(b"pingpong")),
    st.tuples(st.just("frame"), st.just(7), st.just(0), st.just(0),
              st.tuples(lasts, codes).map(lambda pair: struct.pack(">LL", *pair))),
    st.tuples(st.just("frame"), st.just(2), st.just(0), any_streams,
              st.sampled_from([b"\0\0\0\0\1", b"\0\0\0\1\1"])),
)  # fmt: skip
odd_frames: st.SearchStrategy[Step] = st.tuples(
    st.just("frame"), st.integers(0, 12), st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]), any_streams,
    st.binary(max_size=20),
)  # fmt: skip
verbs: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("open"), st.integers(0, len(METHODS) - 1)),
    st.tuples(st.just("send"), streams, small | st.just(30_000), st.booleans()),
    st.tuples(st.just("trailers"), streams),
    st.tuples(st.just("consume"), streams, st.sampled_from([100, 10_000])),
    st.tuples(st.just("reset"), streams),
    st.tuples(st.just("ping")),
    st.tuples(st.just("writable"), streams),
)
steps = valid_frames | verbs
changes = st.none() | st.tuples(st.integers(0, 40), st.integers(0, 255))


class Side:
    """One engine, with what a backend connection does about its events."""

    def __init__(self, name: str) -> None:
        self.engine: UpstreamEngine = engine_named(name)(LIMITS)
        self.closed = False
        self.receive(SettingsFrame(0).serialize())
        for method in METHODS:
            self.open(method)
        self.engine.data_to_send()

    def receive(self, octets: bytes) -> list[UpstreamEvent]:
        events = self.engine.receive(octets)
        for told in events:
            if isinstance(told, Malformed):
                self.engine.reset(told.stream, H2Code.PROTOCOL_ERROR)
            self.closed = self.closed or isinstance(told, Closed)
        return events

    def open(self, method: bytes) -> None:
        if self.engine.can_open():
            end = method != b"POST"
            head = RequestHead(0, method, b"http", b"a", b"/", FIELDS, end)
            self.engine.send_request(head)

    def do(self, verb: str, *arguments: object) -> None:
        match verb, *arguments:
            case "open", int(number):
                self.open(METHODS[number])
            case "send", int(stream), int(size), bool(end):
                room = self.engine.writable(stream)
                self.engine.send_body(stream, b"x" * min(room, size), end=end)
            case "trailers", int(stream):
                self.engine.send_trailers(stream, [(b"x-sum", b"1")])
            case "consume", int(stream), int(count):
                self.engine.consume(stream, count)
            case "reset", int(stream):
                self.engine.reset(stream, H2Code.CANCEL)
            case "ping", *_:
                self.engine.ping(b"01234567")
            case "writable", int(stream):
                self.engine.writable(stream)

    def state(self) -> tuple[object, ...]:
        """Return all that can be seen of it, with the frames that it sent."""
        engine = self.engine
        rooms = [engine.writable(stream) for stream in range(1, 20, 2)]
        return engine.open_streams(), engine.can_open(), rooms, list(sent(engine.data_to_send()))


def sent(octets: bytes) -> Iterator[bytes]:
    """List the frames of a message, of flow control and the answers, that were sent.

    Without RST_STREAM and GOAWAY: h2 answers late frames of streams that were reset by more of the
    first, and sends two of the other.
    """
    place = 0
    while place < len(octets):
        end = place + 9 + int.from_bytes(octets[place : place + 3], "big")
        if octets[place + 3] not in (3, 7):
            yield octets[place:end]
        place = end


def told_of(events: list[UpstreamEvent]) -> list[str]:
    """Write events out, of a Closed its reason alone."""
    return [f"Closed:{e.reason}" if isinstance(e, Closed) else repr(e) for e in events]


def same(left: list[UpstreamEvent], right: list[UpstreamEvent]) -> bool:
    """Say whether events are the same; of faults the words may differ."""
    return list(map(_essence, left)) == list(map(_essence, right))


def _essence(told: UpstreamEvent) -> object:
    match told:
        case Malformed():
            return Malformed, told.stream
        case Closed():
            return Closed, told.by_peer
    return told


def justify(left: list[UpstreamEvent], right: list[UpstreamEvent]) -> str | None:
    """Return why the engines may part here."""
    while left and right and _essence(left[0]) == _essence(right[0]):
        left, right = left[1:], right[1:]
    theirs, ours = (" ".join(told_of(events)) for events in (left, right))
    for pattern, own, why in DIFFERENCES:
        if re.match(pattern or "$", theirs) and re.match(own or "$", ours):
            return why
    return None


def converse(script: list[tuple[Step, tuple[int, int] | None]], cut: int) -> None:
    """Run a script on both; fail where they part without a reason."""
    server, sides = Server(), [Side("h2"), Side("lean")]
    for step, change in script:
        octets = write(server, step)
        if octets is None:
            for side in sides:
                side.do(*step)  # type: ignore[arg-type]
        else:
            if change is not None:
                place = change[0] % len(octets)
                octets = octets[:place] + bytes((change[1],)) + octets[place + 1 :]
            for start in range(0, len(octets), cut):
                told = [side.receive(octets[start : start + cut]) for side in sides]
                if not same(*told):
                    why = justify(*told)
                    assert why is not None, (step, *map(told_of, told))
                    event(why)
                    return
        if sides[0].closed:
            event("closed")
            return
        assert sides[0].state() == sides[1].state(), step


def write(server: Server, step: Step) -> bytes | None:
    """Write the frames of a step; None: it is a verb."""
    match step:
        case "headers", int(stream), int(number), int(flags), int(parts):
            return server.section(stream, number, flags, parts)
        case "data", int(stream), int(size), bool(end), padding:
            if padding is None:
                return write_frame(0, int(end), stream, b"d" * size)
            assert isinstance(padding, int)
            payload = bytes((padding,)) + b"d" * size + bytes(padding)
            return write_frame(0, 8 | end, stream, payload)
        case "settings", dict(values):
            pairs = [struct.pack(">HL", *pair) for pair in values.items()]
            return write_frame(4, 0, 0, b"".join(pairs))
        case "frame", int(kind), int(flags), int(stream), bytes(payload):
            return write_frame(kind, flags, stream, payload)
    return None


whole = st.lists(st.tuples(steps, st.none()), max_size=25)
with_odd = st.lists(st.tuples(steps | odd_frames, changes), max_size=12)


@given(script=whole, cut=st.sampled_from([1 << 20, 1 << 20, 7, 1000]))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_the_same_conversation(script: list[tuple[Step, None]], cut: int) -> None:
    converse(list(script), cut)


@given(script=with_odd, cut=st.sampled_from([1 << 20, 1 << 20, 7, 1000]))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_the_same_faults(script: list[tuple[Step, tuple[int, int] | None]], cut: int) -> None:
    converse(script, cut)
