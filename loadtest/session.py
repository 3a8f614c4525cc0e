"""One client connection of the load generator: QUIC and HTTP/3 by qh3, the socket by ourselves.

It owns a connected UDP socket, reads it until it is empty (GRO) and sends all that the engine has
to say at once, so that a batch of requests costs one flush. It never waits: the loop around it
calls `receive`, `request`, `expire` and `flush`. `deadline` is the engine's timer, in the seconds
of the `now` that every call is given. Datagrams are sent one by one, as a network delivers them:
the pieces of a GSO send would cross the loopback in one, which not every peer can read.
"""

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from qh3.h3.connection import H3Connection
from qh3.h3.events import DataReceived, HeadersReceived, StreamReset
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection, QuicConnectionError
from qh3.quic.events import ConnectionTerminated, HandshakeCompleted

from loadtest.workloads import WORKLOADS, Workload

UDP_GRO = 104
DATAGRAM_BYTES = 1350
SOCKET_BYTES = 4 << 20
NEVER = float("inf")
ENGINE_ERRORS = (QuicConnectionError, ValueError)
"""What qh3 raises of itself, as when a peer loses many datagrams ("reserved stream is missing")."""


@dataclass(slots=True)
class Exchange:
    """A request in flight, or done: what came back for it so far."""

    began: float
    status: int = 0
    octets: int = 0
    reset: bool = False


def _configuration() -> QuicConfiguration:
    # Path MTU discovery is off so that every peer gets datagrams of one size, as from Chromium.
    return QuicConfiguration(
        alpn_protocols=["h3"],
        server_name="localhost",
        verify_mode=ssl.CERT_NONE,
        verify_hostname=False,
        max_datagram_size=DATAGRAM_BYTES,
        probe_datagram_size=False,
    )


def _connected_socket(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    sock.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
    sock.connect(address)
    return sock


class Session:
    """A connection to 127.0.0.1:`port`, that asks for one workload's request again and again."""

    def __init__(self, port: int, workload: Workload, now: float) -> None:
        self.began = now
        self.ready = False
        """The handshake is done and requests can be made."""
        self.closed = ""
        """Why the connection ended, when it has."""
        self.open: dict[int, Exchange] = {}
        self.deadline = NEVER
        self._address = ("127.0.0.1", port)
        self._socket = _connected_socket(self._address)
        self._quic = QuicConnection(configuration=_configuration())
        self._http: H3Connection | None = None
        self._headers = _request_headers(workload, port)
        self._body = bytes(workload.upload_bytes)
        self._quic.connect(self._address, now)
        self.flush(now)

    def fileno(self) -> int:
        """The socket, for epoll."""
        return self._socket.fileno()

    def request(self, now: float) -> None:
        """Queue the workload's request. Not before `ready`."""
        assert self._http is not None
        stream_id = self._quic.get_next_available_stream_id()
        self._http.send_headers(stream_id, self._headers, end_stream=not self._body)
        if self._body:
            self._http.send_data(stream_id, self._body, end_stream=True)
        self.open[stream_id] = Exchange(now)

    def receive(self, now: float) -> list[Exchange]:
        """Read the socket until it is empty; the exchanges that came to their end."""
        try:
            for data, segment in self._datagrams():
                if segment and segment < len(data):
                    self._quic.receive_gro_buffer(data, segment, self._address, now)
                else:
                    self._quic.receive_datagram(data, self._address, now)
        except ENGINE_ERRORS as error:
            self._end(f"qh3: {error}")
        return self._digest()

    def expire(self, now: float) -> list[Exchange]:
        """Let the engine act on its timer."""
        try:
            self._quic.handle_timer(now)
        except ENGINE_ERRORS as error:
            self._end(f"qh3: {error}")
        return self._digest()

    def flush(self, now: float) -> None:
        """Send all that is due, and set `deadline`."""
        try:
            for data, _ in self._quic.datagrams_to_send(now):
                self._socket.send(data)
        except OSError as error:
            self._end(f"socket: {error.strerror}")
        except ENGINE_ERRORS as error:
            self._end(f"qh3: {error}")
        # An ended session is due at once, so that the loop hears of it.
        self.deadline = 0.0 if self.closed else self._quic.get_timer() or NEVER

    def close(self, now: float) -> None:
        """Say goodbye (CONNECTION_CLOSE with H3_NO_ERROR) and free the socket."""
        with contextlib.suppress(*ENGINE_ERRORS):
            self._quic.close(error_code=0x100)
            self.flush(now)
        self._socket.close()

    def _end(self, reason: str) -> None:
        self.closed = self.closed or reason

    def _datagrams(self) -> Iterator[tuple[bytes, int]]:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(65535, 64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(f"socket: {error.strerror}")
                return
            yield data, struct.unpack("=i", ancillary[0][2])[0] if ancillary else 0

    def _digest(self) -> list[Exchange]:
        done: list[Exchange] = []
        while (event := self._quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self._http = H3Connection(self._quic)
                self.ready = True
            elif isinstance(event, ConnectionTerminated):
                self._end(f"closed by the peer: {event.error_code:#x} {event.reason_phrase}")
            if self._http is not None:
                for news in self._http.handle_event(event):
                    self._note(news, done)
        return done

    def _note(self, news: object, done: list[Exchange]) -> None:
        if not isinstance(news, HeadersReceived | DataReceived | StreamReset):
            return
        exchange = self.open.get(news.stream_id)
        if exchange is None:
            return
        match news:
            case HeadersReceived(headers=headers, stream_ended=ended):
                # Trailers come as a second one and have no status.
                exchange.status = exchange.status or int(headers[0][1])
            case DataReceived(data=data, stream_ended=ended):
                exchange.octets += len(data)
            case StreamReset():
                exchange.reset = ended = True
        if ended:
            done.append(self.open.pop(news.stream_id))


def answers(port: int, timeout_s: float) -> bool:
    """Whether a GET at 127.0.0.1:`port` is answered with status 200 within the time."""
    end = time.monotonic() + timeout_s
    session = Session(port, WORKLOADS["get1k"], time.monotonic())
    done: list[Exchange] = []
    while not done and not session.closed and (now := time.monotonic()) < end:
        select.select([session], [], [], max(0.0, min(session.deadline, end) - now))
        now = time.monotonic()
        done = session.receive(now)
        if session.deadline <= now:
            done += session.expire(now)
        if session.ready and not session.open and not done:
            session.request(now)
        session.flush(now)
    session.close(time.monotonic())
    return bool(done) and done[0].status == 200


def _request_headers(workload: Workload, port: int) -> list[tuple[bytes, bytes]]:
    headers = [
        (b":method", workload.method.encode()),
        (b":scheme", b"https"),
        (b":authority", b"localhost:%d" % port),
        (b":path", workload.path.encode()),
        (b"user-agent", b"spooky-loadtest"),
        (b"accept", b"*/*"),
    ]
    if workload.upload_bytes:
        headers.append((b"content-length", b"%d" % workload.upload_bytes))
    return headers
