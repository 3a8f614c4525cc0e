"""An HTTP/3 client on aioquic that can do what no polite client does.

Trailers, resets, STOP_SENDING, reading at a chosen pace, octets of any kind on a stream, QUIC v2,
and what a proxy said on its control stream. Every wait is for a condition and has a deadline. The
only file of the tests that touches private attributes of aioquic.
"""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection, H3Stream
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import SessionTicket
from cryptography import x509

from tests.e2e.goaway import GOAWAY, GoawayReader

Field: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = list[Field]

WAIT_S = 15.0
SEND_BUFFER = 512 * 1024
SOCKET_BUFFER = 4 << 20
PACE_TICK_S = 0.05
RESET_TOKEN_LENGTH = 16
STATELESS_RESET = "stateless reset"
"""The reason with which a client notes that the server knows it no more."""


@dataclass(slots=True)
class Exchange:
    """One request and what has come back for it so far."""

    stream: int
    interim: list[Fields] = field(default_factory=list)
    head: Fields = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    received: int = 0
    hasher: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    kept: bytearray = field(default_factory=bytearray)
    """The beginning of the content."""
    ended: bool = False
    reset: int | None = None
    """The code with which the response was broken off (RESET_STREAM)."""
    stopped: int | None = None
    """The code with which the request's content was refused (STOP_SENDING)."""
    lost: bool = False
    """The connection ended before the response did."""

    @property
    def status(self) -> int:
        """The final status, 0 before it has come."""
        return int(dict(self.head).get(b":status", b"0"))

    @property
    def is_over(self) -> bool:
        """Say whether nothing more will come."""
        return self.ended or self.reset is not None or self.lost

    def header(self, name: bytes) -> bytes | None:
        """Read a field of the response's head."""
        return dict(self.head).get(name)


@dataclass(slots=True)
class Memory:
    """What a client keeps for its next connection."""

    tickets: list[SessionTicket] = field(default_factory=list)
    tokens: list[bytes] = field(default_factory=list)


class _Paced(QuicConnection):
    """Grants flow control on request streams up to what `consumed` says and one window more.

    aioquic's own rule is to double the limit whenever half of it has come.
    """

    window = 256 * 1024
    consumed = 0

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        if stream.stream_id % 4:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)
            return
        limit = self.consumed + self.window
        stream.max_stream_data_local = max(limit, stream.max_stream_data_local)
        highest, stream.receiver.highest_offset = stream.receiver.highest_offset, 0
        super()._write_stream_limits(builder=builder, space=space, stream=stream)
        stream.receiver.highest_offset = highest


class _Http(H3Connection):
    """HTTP/3 that counts the GOAWAY frames of the peer, and knows what HEAD is."""

    def __init__(self, quic: QuicConnection) -> None:
        self.goaways = 0
        self.heads: set[int] = set()
        """Streams whose response has no content, whatever its content-length says."""
        super().__init__(quic)

    def _check_control_frame_type(self, frame_type: int) -> None:
        self.goaways += frame_type == GOAWAY
        super()._check_control_frame_type(frame_type)

    def _check_content_length(self, stream: H3Stream) -> None:
        if stream.stream_id not in self.heads:
            super()._check_content_length(stream)


class H3Client(QuicConnectionProtocol):
    """One connection to a server."""

    def __init__(self, quic: QuicConnection, authority: bytes) -> None:
        super().__init__(quic)
        self.http = _Http(quic)
        self._goaway = GoawayReader()
        self.authority = authority
        self.exchanges: dict[int, Exchange] = {}
        self.terminated: events.ConnectionTerminated | None = None
        self._changed = asyncio.Event()

    # --- what comes -------------------------------------------------------------------------

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Take a datagram. An acknowledgement is no event, but makes room to send."""
        # aioquic knows no stateless reset (RFC 9000 section 10.3.1).
        if data[-RESET_TOKEN_LENGTH:] == self._quic._peer_cid.stateless_reset_token:
            self.quic_event_received(events.ConnectionTerminated(0, None, STATELESS_RESET))
            self.vanish()
            return
        super().datagram_received(data, addr)
        # aioquic tells of the server's close only three probe timeouts later.
        if (end := self._quic._close_event) is not None and self.terminated is None:
            self.quic_event_received(end)
        self._changed.set()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """Take one event of aioquic."""
        match event:
            case events.StreamDataReceived(stream_id=stream, data=data):
                self._goaway.take(stream, data)
            case events.StreamReset(stream_id=stream, error_code=code):
                if stream in self.exchanges:
                    self.exchanges[stream].reset = code
            case events.StopSendingReceived(stream_id=stream, error_code=code):
                if stream in self.exchanges:
                    self.exchanges[stream].stopped = code
            case events.ConnectionTerminated():
                self.terminated = event
                for exchange in self.exchanges.values():
                    # It may be told of twice: by aioquic once more, when all its timers are over.
                    exchange.lost = exchange.lost or not exchange.is_over
            case _:
                pass
        for news in self.http.handle_event(event):
            self._take(news)
        self._changed.set()

    def _take(self, event: H3Event) -> None:
        match event:
            case HeadersReceived(stream_id=stream, headers=fields, stream_ended=ended):
                exchange = self.exchanges[stream]
                if exchange.head:
                    exchange.trailers = fields
                elif dict(fields).get(b":status", b"").startswith(b"1"):
                    exchange.interim.append(fields)
                else:
                    exchange.head = fields
                exchange.ended = exchange.ended or ended
            case DataReceived(stream_id=stream, data=data, stream_ended=ended):
                exchange = self.exchanges[stream]
                exchange.received += len(data)
                exchange.hasher.update(data)
                if len(exchange.kept) < SEND_BUFFER:
                    exchange.kept += data
                exchange.ended = exchange.ended or ended
            case _:
                pass

    async def until(
        self, condition: Callable[[], bool], what: str, seconds: float = WAIT_S
    ) -> None:
        """Wait until `condition` holds; AssertionError naming `what` after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            msg = f"not within {seconds:g} s: {what}"
            raise AssertionError(msg) from None

    async def over(self, exchange: Exchange, seconds: float = WAIT_S) -> Exchange:
        """Wait until the exchange has ended one way or the other."""
        await self.until(lambda: exchange.is_over, f"end of stream {exchange.stream}", seconds)
        return exchange

    async def head(self, exchange: Exchange, seconds: float = WAIT_S) -> Exchange:
        """Wait for the response's head."""
        what = f"head on stream {exchange.stream}"
        await self.until(lambda: bool(exchange.head) or exchange.is_over, what, seconds)
        return exchange

    # --- what goes --------------------------------------------------------------------------

    def open(
        self, method: str, path: str, fields: Iterable[Field] = (), *, end: bool = True
    ) -> Exchange:
        """Begin a request; `end`: it has no content."""
        control = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", self.authority),
            (b":path", path.encode()),
        ]
        return self.open_raw([*control, *fields], end=end)

    def open_raw(self, fields: Fields, *, end: bool = True) -> Exchange:
        """Begin a request with exactly these fields, pseudo-header fields and all."""
        stream = self._quic.get_next_available_stream_id()
        exchange = self.exchanges[stream] = Exchange(stream)
        if (b":method", b"HEAD") in fields:
            self.http.heads.add(stream)
        self.http.send_headers(stream, fields, end_stream=end)
        self.transmit()
        return exchange

    def open_octets(self, data: bytes, *, end: bool) -> Exchange:
        """Begin a request stream with any octets."""
        stream = self._quic.get_next_available_stream_id()
        self.exchanges[stream] = exchange = Exchange(stream)
        self.send_octets(exchange, data, end=end)
        return exchange

    def send_octets(self, exchange: Exchange, data: bytes, *, end: bool) -> None:
        """Go on with any octets."""
        self._quic.send_stream_data(exchange.stream, data, end)
        self.transmit()

    def send(self, exchange: Exchange, data: bytes, *, end: bool = False) -> None:
        """Send content, all of it at once."""
        self.http.send_data(exchange.stream, data, end_stream=end)
        self.transmit()

    async def upload(self, exchange: Exchange, pieces: Iterable[bytes], seconds: float) -> None:
        """Send content as fast as it is taken, and its end; stops when the exchange is over."""
        for piece in pieces:
            await self.until(
                lambda: exchange.is_over or self.unsent(exchange) < SEND_BUFFER, "room", seconds
            )
            if exchange.is_over:
                return
            self.send(exchange, piece)
        self.send(exchange, b"", end=True)

    def unsent(self, exchange: Exchange) -> int:
        """Count the octets of the request that wait to be sent or acknowledged."""
        stream = self._quic._streams.get(exchange.stream)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def send_trailers(self, exchange: Exchange, fields: Fields) -> None:
        """Send a trailer section, which ends the request."""
        self.http.send_headers(exchange.stream, fields, end_stream=True)
        self.transmit()

    def reset(self, exchange: Exchange, code: int) -> None:
        """Give up the request's content (RESET_STREAM)."""
        self._quic.reset_stream(exchange.stream, code)
        self.transmit()

    def stop(self, exchange: Exchange, code: int) -> None:
        """Refuse the response (STOP_SENDING)."""
        self._quic.stop_stream(exchange.stream, code)
        self.transmit()

    def poke(self) -> None:
        """Send something that has to be acknowledged."""
        self._quic.send_ping(id(self))
        self.transmit()

    def transmit(self) -> None:
        """Send what is due, unless the client has vanished."""
        if self._transport is not None and not self._transport.is_closing():
            super().transmit()

    def vanish(self) -> None:
        """Go away without another word."""
        assert self._transport is not None
        self._transport.abort()

    async def move(self, source: str = "") -> None:
        """Go on from another port, with another connection ID (RFC 9000 section 9).

        `source` is the address to go on from, if it is to be another, too.
        """
        old = self._transport
        assert old is not None
        host, port = old.get_extra_info("peername")[:2]
        self._quic.change_connection_id()
        await self._loop.create_datagram_endpoint(lambda: self, sock=_socket(host, port, source))
        old.close()
        self.transmit()

    async def get(self, path: str, fields: Iterable[Field] = ()) -> Exchange:
        """Ask with GET and wait for the end."""
        return await self.over(self.open("GET", path, fields))

    # --- the pace of reading ----------------------------------------------------------------

    async def read_slowly(self, exchange: Exchange, rate: int, seconds: float) -> None:
        """Take the content at `rate` octets a second for so long. Needs `paced=True`."""
        quic = cast("_Paced", self._quic)
        loop = asyncio.get_running_loop()
        start = loop.time()
        while (elapsed := loop.time() - start) < seconds and not exchange.is_over:
            quic.consumed = min(int(rate * elapsed), exchange.received)
            self.transmit()
            await asyncio.sleep(PACE_TICK_S)

    # --- facts of the connection ------------------------------------------------------------

    @property
    def goaways(self) -> int:
        """Count the GOAWAY frames that came."""
        return self.http.goaways

    @property
    def goaway_id(self) -> int | None:
        """The stream ID in the last GOAWAY: it and those above are not processed."""
        return self._goaway.last

    @property
    def server_cid(self) -> bytes:
        """The connection ID that is written to now."""
        return bytes(self._quic._peer_cid.cid)

    @property
    def version(self) -> int:
        """The QUIC version in use."""
        return int(self._quic._version or 0)

    @property
    def resumed(self) -> bool:
        """Say whether the TLS session is that of an earlier connection."""
        return bool(self._quic.tls.session_resumed)

    @property
    def retried(self) -> bool:
        """Say whether the server asked for a proof of the address."""
        return self._quic._retry_source_connection_id is not None

    @property
    def server_names(self) -> list[str]:
        """The DNS names in the certificate that the server showed."""
        certificate = self._quic.tls._peer_certificate
        assert certificate is not None
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return extension.value.get_values_for_type(x509.DNSName)


def _socket(host: str, port: int, source: str = "") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    if source:
        sock.bind((source, 0))
    # Connected: an answer that comes from another address than was written to is not seen.
    sock.connect((host, port))
    return sock


async def _connected(client: H3Client) -> None:
    """Wait for the handshake; ConnectionError as soon as the server closes instead."""
    connected = asyncio.ensure_future(client.wait_connected())
    refused = asyncio.ensure_future(client.until(lambda: client.terminated is not None, "an end"))
    await asyncio.wait((connected, refused), return_when=asyncio.FIRST_COMPLETED)
    refused.cancel()
    if not connected.done():
        # aioquic would tell of the end there, much later, and nobody would look.
        client._connected_waiter = None
        connected.cancel()
        raise ConnectionError(client.terminated)
    await connected


@contextlib.asynccontextmanager
async def connect(
    port: int,
    *,
    host: str = "127.0.0.1",
    name: str = "localhost",
    versions: Sequence[int] = (QuicProtocolVersion.VERSION_1,),
    paced: bool = False,
    source: str = "",
    memory: Memory | None = None,
) -> AsyncIterator[H3Client]:
    """Open a connection for the server name `name`; ConnectionError when it fails.

    The first of `versions` is tried first. `source` is the address to come from, if it matters.
    With a `memory` it comes back as who it was, if it was there before.
    """
    memory = memory or Memory()
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        server_name=name,
        verify_mode=ssl.CERT_NONE,
        supported_versions=list(versions),
        original_version=versions[0],
        max_stream_data=_Paced.window if paced else 1 << 20,
        max_data=1 << 24,
        session_ticket=memory.tickets[-1] if memory.tickets else None,
        token=memory.tokens[-1] if memory.tokens else b"",
    )
    quic = (_Paced if paced else QuicConnection)(
        configuration=configuration,
        session_ticket_handler=memory.tickets.append,
        token_handler=memory.tokens.append,
    )
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(
        lambda: H3Client(quic, f"{name}:{port}".encode()), sock=_socket(host, port, source)
    )
    try:
        client.connect(cast("socket.socket", transport.get_extra_info("socket")).getpeername())
        await _connected(client)
        yield client
    finally:
        client.close(0x100)
        # Not `close`, which leaves the socket open until it has taken what waits.
        client.vanish()
