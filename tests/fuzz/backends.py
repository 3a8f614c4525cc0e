"""Harnesses of what backends say, to each of the engines of HTTP/2.

A script is a list of steps: a verb of ours with its stream, or a piece of the backend's octets,
cut as the script has it.
"""

from spooky.errors import H2Code
from spooky.protocol.engines import engine_named
from spooky.protocol.messages import (
    Body,
    Closed,
    Malformed,
    RequestHead,
    UpstreamEngine,
    UpstreamEvent,
)
from spooky.protocol.upstream import H2Limits
from tests.fuzz.octets import Octets

LIMITS = H2Limits(stream_window=20_000, connection_window=80_000, max_frame=16_384,
                  header_bytes=2048, max_streams=6)  # fmt: skip
SETTINGS = bytes.fromhex("000000040000000000")
METHODS = (b"GET", b"POST", b"HEAD")


def lean(data: bytes) -> None:
    """See `converse`."""
    converse("lean", data)


def h2(data: bytes) -> None:
    """See `converse`."""
    converse("h2", data)


def converse(name: str, data: bytes) -> None:
    """No verb and no octets raise, and nothing is told after the end, but once."""
    octets, engine = Octets(data), engine_named(name)(LIMITS)
    told = list(engine.receive(SETTINGS))
    for method in METHODS:
        ask(engine, method)
    while octets:
        what = octets.number()
        if what & 7:
            told += hear(engine, octets.piece())
        else:
            say(engine, what >> 3, 1 + 2 * (octets.number() % 8))
        engine.data_to_send()
        ends = [event for event in told if isinstance(event, Closed)]
        assert len(ends) <= 1
        assert not ends or told[-1] is ends[0]
        if ends:
            assert not engine.can_open()
    engine.receive(b"")
    assert not engine.can_open()


def hear(engine: UpstreamEngine, piece: bytes) -> list[UpstreamEvent]:
    """Receive octets, and do what a connection does about what they mean."""
    events = engine.receive(piece)
    for event in events:
        match event:
            case Malformed():
                engine.reset(event.stream, H2Code.PROTOCOL_ERROR)
            case Body():
                assert event.credit >= len(event.data)
                engine.consume(event.stream, event.credit)
            case _:
                pass
    return events


def ask(engine: UpstreamEngine, method: bytes) -> None:
    """Open a stream, where there is room for one."""
    if engine.can_open():
        fields = [(b"user-agent", b"test"), (b"cookie", b"a=b")]
        end = method != b"POST"
        engine.send_request(RequestHead(0, method, b"http", b"a", b"/", fields, end))


def say(engine: UpstreamEngine, verb: int, stream: int) -> None:
    """Use a verb, whatever has become of the stream."""
    match verb:
        case 0 | 1 | 2:
            ask(engine, METHODS[verb])
        case 3 | 4:
            engine.send_body(stream, bytes(min(engine.writable(stream), 9000)), end=verb == 4)
        case 5:
            engine.send_trailers(stream, [(b"x-sum", b"1")])
        case 6:
            engine.reset(stream, H2Code.CANCEL)
        case 7:
            engine.ping(b"01234567")
        case 8:
            engine.close()
        case _:
            engine.consume(stream, 100)
