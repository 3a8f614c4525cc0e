"""`make bench`, its table of codecs: what HTTP/2 towards a backend costs by itself, codec by codec.

No socket and no event loop: a request goes in, the frames of an answer are fed, the events are
taken. Codecs take turns within each round, and the median of the rounds counts. Those of Spooky
do what they do in a worker; jh2 is driven by its public interface, without checks of fields and
without events of ours, so that its figure is a floor.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from statistics import median
from typing import Protocol

from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from spooky.protocol.engines import engine_named
from spooky.protocol.messages import Body, Headers, RequestHead
from spooky.protocol.upstream import H2Limits

ROUNDS = 7
REQUESTS = 500
MIB = 1 << 20
DATA_FRAME = 16 * 1024
READ = 64 * 1024
FIELDS: Headers = [
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"cookie", b"session=0123456789abcdef0123456789abcdef"),
    (b"x-forwarded-for", b"192.0.2.7"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"www.example.com"),
    (b"forwarded", b"for=192.0.2.7;host=www.example.com;proto=https"),
    (b"via", b"3 spooky"),
    (b"priority", b"u=1"),
]
"""And x-request-id, which is another one each time."""
ANSWER: Headers = [
    (b":status", b"200"),
    (b"server", b"example"),
    (b"date", b"Sat, 21 Nov 2026 12:00:00 GMT"),
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"1024"),
    (b"cache-control", b"max-age=600"),
    (b"vary", b"accept-encoding"),
]
"""And etag, which is another one for each of 50 paths."""


class Codec(Protocol):
    """A client's HTTP/2 connection; streams are 1, 3, 5... as they are opened."""

    def request(self, head: RequestHead) -> int: ...

    def send(self, stream: int, data: bytes) -> None: ...

    def room(self, stream: int) -> int: ...

    def feed(self, octets: bytes) -> None:
        """Take octets, and give the credit of all content back."""

    def take(self) -> bytes: ...


class EngineCodec:
    """An engine of Spooky."""

    def __init__(self, name: str) -> None:
        self._engine = engine_named(name)(H2Limits())
        self.request = self._engine.send_request
        self.room = self._engine.writable
        self.take = self._engine.data_to_send

    def send(self, stream: int, data: bytes) -> None:
        self._engine.send_body(stream, data, end=False)

    def feed(self, octets: bytes) -> None:
        for event in self._engine.receive(octets):
            if type(event) is Body:
                self._engine.consume(event.stream, event.credit)


class Jh2Codec:
    """The jh2 library, with the windows of an engine."""

    def __init__(self) -> None:
        from jh2.config import H2Configuration  # noqa: PLC0415 - it may not be there
        from jh2.connection import H2Connection  # noqa: PLC0415
        from jh2.events import DataReceived  # noqa: PLC0415

        self._data = DataReceived
        self._connection = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        limits = H2Limits()
        self._connection.initiate_connection()
        self._connection.increment_flow_control_window(limits.connection_window)
        self.room = self._connection.local_flow_control_window
        self.take = self._connection.data_to_send

    def request(self, head: RequestHead) -> int:
        stream: int = self._connection.get_next_available_stream_id()
        fields = [
            (b":method", head.method),
            (b":scheme", head.scheme),
            (b":path", head.path),
            (b":authority", head.authority),
            *head.headers,
        ]
        self._connection.send_headers(stream, fields, end_stream=head.end)
        return stream

    def send(self, stream: int, data: bytes) -> None:
        self._connection.send_data(stream, data)

    def feed(self, octets: bytes) -> None:
        for event in self._connection.receive_data(octets):
            if type(event) is self._data:
                self._connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )


CODECS: dict[str, Callable[[], Codec]] = {
    "lean": lambda: EngineCodec("lean"),
    "h2": lambda: EngineCodec("h2"),
}
if find_spec("jh2") is not None:
    CODECS["jh2"] = Jh2Codec


def cost_of_gets(make: Callable[[], Codec], count: int = REQUESTS) -> float:
    """Return the CPU us of a GET and its answer of 1 KiB."""
    codec = _connected(make)
    heads = [_head(b"GET", number, end=True) for number in range(count)]
    answers = _answers(count)
    began = time.process_time()
    for head, answer in zip(heads, answers, strict=True):
        codec.request(head)
        codec.take()
        codec.feed(answer)
    return (time.process_time() - began) / count * 1e6


def cost_of_download(make: Callable[[], Codec], size: int = 8 * MIB) -> float:
    """Return the CPU us of a MiB of an answer, in frames of 16 KiB and reads of 64 KiB."""
    codec = _connected(make)
    stream = codec.request(_head(b"GET", 0, end=True))
    head = HeadersFrame(stream, Encoder().encode(ANSWER[:4]), flags=["END_HEADERS"])
    codec.feed(head.serialize())
    octets = DataFrame(stream, bytes(DATA_FRAME)).serialize() * (size // DATA_FRAME)
    reads = [octets[place : place + READ] for place in range(0, len(octets), READ)]
    began = time.process_time()
    for read in reads:
        codec.feed(read)
        codec.take()
    return (time.process_time() - began) / (size / MIB) * 1e6


def cost_of_upload(make: Callable[[], Codec], size: int = 8 * MIB) -> float:
    """Return the CPU us of a MiB of a request, in pieces of 16 KiB, with the windows they need."""
    codec = _connected(make)
    stream = codec.request(_head(b"POST", 0, end=False))
    piece = bytes(DATA_FRAME)
    more = b"".join(WindowUpdateFrame(number, DATA_FRAME).serialize() for number in (0, stream))
    began = time.process_time()
    for _ in range(size // DATA_FRAME):
        if codec.room(stream) < DATA_FRAME:
            raise RuntimeError("no room")
        codec.send(stream, piece)
        codec.take()
        codec.feed(more)
    return (time.process_time() - began) / (size / MIB) * 1e6


COSTS: dict[str, Callable[[Callable[[], Codec]], float]] = {
    "GET of 1 KiB": cost_of_gets,
    "MiB down": cost_of_download,
    "MiB up": cost_of_upload,
}


def _connected(make: Callable[[], Codec]) -> Codec:
    codec = make()
    codec.feed(SettingsFrame(0).serialize())
    codec.take()
    return codec


def _head(method: bytes, number: int, *, end: bool) -> RequestHead:
    fields = [*FIELDS, (b"x-request-id", b"%032x" % number)]
    path = b"/articles/%d" % (number % 50)
    return RequestHead(0, method, b"http", b"www.example.com", path, fields, end)


def _answers(count: int) -> list[bytes]:
    encoder, content = Encoder(), bytes(1024)
    answers = []
    for number in range(count):
        stream = 2 * number + 1
        etag = (b"etag", b'"%08x"' % (number % 50))
        head = HeadersFrame(stream, encoder.encode([*ANSWER, etag]), flags=["END_HEADERS"])
        data = DataFrame(stream, content, flags=["END_STREAM"])
        answers.append(head.serialize() + data.serialize())
    return answers


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 0 whatever it says."""
    parser = argparse.ArgumentParser(prog="loadtest.codecs", description="Compare HTTP/2 codecs.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args(arguments).rounds
    measured: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for what, cost in COSTS.items():
            for name, make in CODECS.items():
                measured.setdefault((name, what), []).append(cost(make))
    print(f"HTTP/2 to a backend, protocol alone: CPU us, medians of {rounds} rounds (and of h2's)")
    print(f"{'':8}" + "".join(f"{what:>22}" for what in COSTS))
    for name in CODECS:
        cells = ""
        for what in COSTS:
            own, reference = (median(measured[codec, what]) for codec in (name, "h2"))
            cells += f"{own:>14.1f} ({own / reference:>4.2f})"
        print(f"{name:8}{cells}")
    if "jh2" not in CODECS:
        print("NOT MEASURED: jh2: not installed (pip install jh2)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
