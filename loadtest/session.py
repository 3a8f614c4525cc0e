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
from qh3.h3.events import DataReceived, GoawayReceived, HeadersReceived, StreamReset
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection, QuicConnectionError
from qh3.quic.events import ConnectionTerminated, HandshakeCompleted

from loadtest.workloads import WORKLOADS, Workload

UDP_GRO = 104
DATAGRAM_BYTES = 1350
SOCKET_BYTES = 4 << 20
NEVER = float("inf")
IDLE_TIMEOUT_S = 300.0
"""The peer's may be shorter; crowds need longer than usual to have all of their connections."""
SLOW_WINDOW = 16 << 10
"""Octets that a slow client lets its peer send ahead, on a stream and on the connection."""
SLOW_PIECE = 2 << 10
"""Octets that a slow client sends of its body at a time."""
REJECTED = 0x10B
"""H3_REQUEST_REJECTED (RFC 9114 section 8.1): nothing was done, it may be asked again."""
ENGINE_ERRORS = (QuicConnectionError, ValueError)
"""What qh3 raises of itself, as when a peer loses many datagrams ("reserved stream is missing")."""


@dataclass(slots=True)
class Exchange:
    """A request in flight, or done: what came back for it so far."""

    began: float
    status: int = 0
    octets: int = 0
    reset: bool = False
    rejected: bool = False
    """Reset before anything was done with it, so that it may be asked again."""
    unsent: int = 0
    """Octets of the body that a slow client still keeps back."""


def _configuration(workload: Workload) -> QuicConfiguration:
    # Path MTU discovery is off so that every peer gets datagrams of one size, as from Chromium.
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        idle_timeout=IDLE_TIMEOUT_S,
        server_name="localhost",
        verify_mode=ssl.CERT_NONE,
        verify_hostname=False,
        max_datagram_size=DATAGRAM_BYTES,
        probe_datagram_size=False,
    )
    if workload.pace_s:
        configuration.max_data = configuration.max_stream_data = SLOW_WINDOW
    return configuration


def _connected_socket(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    sock.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
    sock.connect(address)
    # Not by a flag of each call: gevent's sockets, which Locust brings, would wait all the same.
    sock.setblocking(False)
    return sock


class Session:
    """A connection to 127.0.0.1:`port`, that asks for one workload's request again and again."""

    def __init__(self, port: int, workload: Workload, now: float) -> None:
        self.began = now
        self.ready = False
        """The handshake is done and requests can be made."""
        self.closed = ""
        """Why the connection ended, when it has."""
        self.leaving = False
        """The peer sent GOAWAY (RFC 9114 section 5.2): no new request belongs here."""
        self.open: dict[int, Exchange] = {}
        self.deadline = NEVER
        self._address = ("127.0.0.1", port)
        self._socket = _connected_socket(self._address)
        self._quic = QuicConnection(configuration=_configuration(workload))
        self._http: H3Connection | None = None
        self._headers = _request_headers(workload, port)
        self._body = bytes(workload.upload_bytes)
        self._is_slow = workload.pace_s > 0
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
        exchange = self.open[stream_id] = Exchange(now)
        if self._is_slow:
            exchange.unsent = len(self._body)
        elif self._body:
            self._http.send_data(stream_id, self._body, end_stream=True)

    def dribble(self) -> None:
        """Queue the next piece of each body that a slow client keeps back."""
        for stream_id, exchange in self.open.items():
            if exchange.unsent and self._http is not None:
                piece = min(SLOW_PIECE, exchange.unsent)
                exchange.unsent -= piece
                last = not exchange.unsent
                self._http.send_data(stream_id, bytes(piece), end_stream=last)

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
        except BlockingIOError:
            pass  # the buffer is full, and what does not fit is lost as on any network
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
                data, ancillary, _, _ = self._socket.recvmsg(65535, 64)
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
        if isinstance(news, GoawayReceived):
            self.leaving = True
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
            case StreamReset(error_code=code):
                exchange.reset = ended = True
                exchange.rejected = code == REJECTED
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
    headers += [(b"x-field-%d" % n, b"%032x" % n) for n in range(workload.fields)]
    if workload.upload_bytes:
        headers.append((b"content-length", b"%d" % workload.upload_bytes))
    return headers
