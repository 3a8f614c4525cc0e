"""A client and a server engine on a network in memory, under a clock that the test moves.

The client is aioquic's own. The network takes time, and may lose, double and reorder datagrams,
by a seeded generator: a failure repeats. Nothing here sleeps; `run` goes from deadline to
deadline until a condition holds, and fails with what the engine told if it never does.
"""

import datetime as dt
import heapq
import itertools
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from aioquic.h3 import events as h3_events
from aioquic.h3.connection import H3Connection
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import SessionTicket
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from spooky.protocol.aioquic_engine import AioquicEngine
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.messages import DownstreamEngine, DownstreamEvent, Headers, Path
from spooky.protocol.quic import configuration_of

CLIENT = ("192.0.2.1", 40000)
SERVER = ("192.0.2.2", 443)
PATH = Path(CLIENT, b"\xc0\x00\x02\x02")
RESET_KEY = bytes(range(32))
SLOT = 5

EngineFactory: TypeAlias = Callable[[ServerSettings, bytes], DownstreamEngine]
"""Make an engine from its settings and the client's first destination connection ID."""


@dataclass(frozen=True, slots=True)
class Identity:
    chain: Sequence[x509.Certificate]
    key: Any


@cache
def identity(name: str = "localhost", kind: str = "p256") -> Identity:
    """Make a self-signed certificate for `name` with a key of `kind`."""
    key: Any
    match kind:
        case "p256":
            key = ec.generate_private_key(ec.SECP256R1())
        case "rsa":
            key = rsa.generate_private_key(65537, 2048)
        case _:
            key = ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, None if kind == "ed25519" else hashes.SHA256())
    )
    return Identity([certificate], key)


def server_settings(**changes: Any) -> ServerSettings:
    """Make the settings of a listener for `localhost`."""
    values: dict[str, Any] = {
        "select": lambda _name: identity(),
        "slot": SLOT,
        "reset_key": RESET_KEY,
        "random": random.Random(7).randbytes,
    }
    return ServerSettings(**(values | changes))


def client_configuration(**changes: Any) -> QuicConfiguration:
    """Make the configuration of a client that trusts everybody."""
    values: dict[str, Any] = {
        "is_client": True,
        "alpn_protocols": ["h3"],
        "server_name": "localhost",
        "verify_mode": ssl.CERT_NONE,
    }
    return QuicConfiguration(**(values | changes))


@dataclass(slots=True)
class Network:
    """What happens to datagrams on their way; probabilities of 0 to 1."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    seed: int = 1
    delay: float = 0.004
    """One way, in seconds."""
    mtu: int = 1 << 16
    """Octets of a datagram that pass."""
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def delays(self) -> list[float]:
        """Draw the fate of a datagram: the delay of each copy that arrives."""
        chance = self._random.random
        if chance() < self.loss:
            return []
        copies = 2 if chance() < self.duplication else 1
        late = self.delay * 3 if chance() < self.reordering else 0.0
        return [self.delay + late * chance() for _ in range(copies)]


TICK_S = 1e-7


class Pair:
    """A client's QUIC connection and the engine that serves it."""

    def __init__(
        self,
        make: EngineFactory,
        settings: ServerSettings | None = None,
        configuration: QuicConfiguration | None = None,
        network: Network | None = None,
        on_ticket: Callable[[SessionTicket], None] | None = None,
    ) -> None:
        self.now = 100.0
        self.client: QuicConnection = self.make_client(configuration, on_ticket)
        self.client.connect(SERVER, now=self.now)
        self.settings = settings or server_settings()
        self.engine = make(self.settings, self.client.original_destination_connection_id)
        self.network = network or Network()
        self.told: list[DownstreamEvent] = []
        self.heard: list[quic_events.QuicEvent] = []
        self.on_event: Callable[[DownstreamEvent], None] = lambda _event: None
        self.on_client_event: Callable[[quic_events.QuicEvent], None] = lambda _event: None
        self.path = PATH
        self._wire: list[tuple[float, int, bool, bytes, Path]] = []
        self._order = itertools.count()

    def make_client(
        self,
        configuration: QuicConfiguration | None,
        on_ticket: Callable[[SessionTicket], None] | None,
    ) -> Any:
        """Make the client's end: aioquic's connection, or what has its methods."""
        return QuicConnection(
            configuration=configuration or client_configuration(),
            session_ticket_handler=on_ticket,
        )

    # --- time -------------------------------------------------------------------------------

    def run(self, until: Callable[[], object], limit: float = 20.0) -> None:
        """Let time pass until the condition holds; fail after `limit` seconds of it."""
        end = self.now + limit
        self._flush()
        while not until():
            at = self._next()
            assert at is not None, f"nothing can happen any more; told last: {self._last()}"
            assert at <= end, f"not within {limit} s; told last: {self._last()}"
            self._move(at)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self._flush()
        while (at := self._next()) is not None and at <= end:
            self._move(at)
        self.now = end

    def _last(self) -> str:
        return ", ".join(f"{event!r:.80}" for event in self.told[-8:])

    def connect(self) -> "Pair":
        """Complete the handshake."""
        self.run(lambda: any(isinstance(e, quic_events.HandshakeCompleted) for e in self.heard))
        self.advance(0.5)
        return self

    def _next(self) -> float | None:
        times = [self.client.get_timer(), self.engine.deadline()]
        times += [self._wire[0][0]] if self._wire else []
        return min((at for at in times if at is not None), default=None)

    def _move(self, at: float) -> None:
        # No clock stands still: a deadline that is met to the last bit may be rounded to be just
        # ahead, again and again.
        self.now = max(self.now + TICK_S, at)
        while self._wire and self._wire[0][0] <= self.now:
            _, _, to_server, data, path = heapq.heappop(self._wire)
            if to_server:
                self.take(self.engine.receive([(data, path)], self.now))
            else:
                self.client.receive_datagram(data, SERVER, self.now)
        deadline = self.engine.deadline()
        if deadline is not None and deadline <= self.now:
            self.take(self.engine.handle_timer(self.now))
        timer = self.client.get_timer()
        if timer is not None and timer <= self.now:
            self.client.handle_timer(self.now)
        self._flush()

    # --- datagrams and events ---------------------------------------------------------------

    def take(self, events: list[DownstreamEvent]) -> None:
        """Note what the engine told, and act on it."""
        for event in events:
            self.told.append(event)
            self.on_event(event)

    def _flush(self) -> None:
        while (event := self.client.next_event()) is not None:
            self.heard.append(event)
            self.on_client_event(event)
        for data, _address in self.client.datagrams_to_send(self.now):
            self._post(data, self.path, to_server=True)
        self.take(self.engine.events())
        for data, path in self.engine.datagrams_to_send(self.now):
            self._post(data, path, to_server=False)
        self.take(self.engine.events())

    def _post(self, data: bytes, path: Path, *, to_server: bool) -> None:
        if len(data) > self.network.mtu:
            return
        for delay in self.network.delays():
            heapq.heappush(self._wire, (self.now + delay, next(self._order), to_server, data, path))

    def told_of(self, *kinds: type) -> list[Any]:
        """List what the engine told of these kinds."""
        return [event for event in self.told if isinstance(event, kinds)]

    def closed_with(self) -> int | None:
        """Return the error code with which the server closed the connection, None if it did not."""
        closing = self.client._close_event
        return None if closing is None else int(closing.error_code)


def make_aioquic(settings: ServerSettings, original_destination_cid: bytes) -> AioquicEngine:
    """Make the engine on aioquic."""
    return AioquicEngine(settings, configuration_of(settings), original_destination_cid)


def connect(network: Network | None = None, **changes: Any) -> Pair:
    """Connect a client to the engine on aioquic."""
    return Pair(make_aioquic, server_settings(**changes), network=network).connect()


def engine_of(pair: Pair) -> AioquicEngine:
    """Return the engine of a pair that `connect` made."""
    assert isinstance(pair.engine, AioquicEngine)
    return pair.engine


def open_requests(pair: Pair) -> int:
    """Count the requests that the engine has not forgotten yet."""
    return len(engine_of(pair)._h3._requests)


@dataclass(slots=True)
class Response:
    """What a client got for a request."""

    heads: list[Headers] = field(default_factory=list)
    """Interim and final header sections, and trailers, in order."""
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None
    stopped: int | None = None
    """The code with which the server asked for no more of the request."""

    @property
    def status(self) -> bytes:
        """The final status, empty while there is none."""
        found = [value for head in self.heads for name, value in head if name == b":status"]
        return found[-1] if found and not found[-1].startswith(b"1") else b""


class H3Client:
    """aioquic's HTTP/3 on the client's end of a pair."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.h3 = H3Connection(pair.client)
        self.responses: dict[int, Response] = {}
        pair.on_client_event = self._on_event
        for event in pair.heard:
            self._on_event(event)

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
        stream = self.pair.client.get_next_available_stream_id()
        self.responses[stream] = Response()
        head = request_fields(*fields, method=method, path=path)
        self.h3.send_headers(stream, head, end_stream=end and body is None and trailers is None)
        if body is not None:
            self.h3.send_data(stream, body, end_stream=end and trailers is None)
        if trailers is not None:
            self.h3.send_headers(stream, trailers, end_stream=True)
        return stream

    def fetch(self, *fields: tuple[bytes, bytes], **options: Any) -> Response:
        """Send a request and wait for the end of its response."""
        response = self.responses[self.request(*fields, **options)]
        self.pair.run(lambda: response.ended or response.reset is not None)
        return response

    def _on_event(self, event: quic_events.QuicEvent) -> None:
        match event:
            case quic_events.StreamReset() if event.stream_id in self.responses:
                self.responses[event.stream_id].reset = event.error_code
            case quic_events.StopSendingReceived() if event.stream_id in self.responses:
                self.responses[event.stream_id].stopped = event.error_code
        for found in self.h3.handle_event(event):
            match found:
                case h3_events.HeadersReceived():
                    response = self.responses[found.stream_id]
                    response.heads.append(found.headers)
                    response.ended |= found.stream_ended
                case h3_events.DataReceived():
                    response = self.responses[found.stream_id]
                    response.body += found.data
                    response.ended |= found.stream_ended


def request_fields(
    *fields: tuple[bytes, bytes], method: bytes = b"GET", path: bytes = b"/"
) -> Headers:
    """Make a request's fields, pseudo-header fields first."""
    return [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", path),
        *fields,
    ]
