"""The vocabulary of both seams: what a protocol engine tells, as frozen values.

An engine (QUIC and HTTP/3 towards the client, HTTP/2 towards the backend) speaks to the rest of
Spooky in these events and in the verbs of `DownstreamEngine` and `UpstreamEngine`, and in nothing
else: no type, event or exception of a library is seen outside the engine's own file. Names and
values of fields are `bytes`, names in lower case, as they stand on the wire.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from spooky.bounds import Bound

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Fields in the order of the wire, pseudo-header fields (RFC 9114 section 4.3) not among them."""


@dataclass(frozen=True, slots=True)
class Path:
    """A network path: who wrote, and to which of our addresses (RFC 9000 section 9).

    `peer` is the socket module's address (2 members for IPv4, 4 for IPv6). `local` is the packed
    address that the datagram was written to, with which the answer must leave, and `interface`
    the index of the interface for link-local IPv6 (0: the routing table decides); None where the
    socket is bound to one address and the kernel knows it.
    """

    peer: tuple[str, int] | tuple[str, int, int, int]
    local: bytes | None = None
    interface: int = 0


# --- events of a message, the same in both directions ---------------------------------------


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The request's control data and header section. `end`: no body and no trailers follow."""

    stream: int
    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    headers: Headers
    end: bool
    protocol: bytes | None = None
    """The `:protocol` of an extended CONNECT (RFC 9220), else None."""


@dataclass(frozen=True, slots=True)
class RequestBegun:
    """A request stream is open and its head has not all come.

    `RequestHead`, `Malformed` or `Reset` follows, unless the stream is reset by us before.
    """

    stream: int


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A final response's status and header section. `end`: no body and no trailers follow."""

    stream: int
    status: int
    headers: Headers
    end: bool


@dataclass(frozen=True, slots=True)
class Interim:
    """An interim (1xx) response (RFC 9110 section 15.2); a final one follows."""

    stream: int
    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Body:
    """Octets of content. `end`: these were the last, and no trailers follow.

    `credit` is how many octets of flow control the receiver owes back by `consume` once it is
    done with them; it exceeds `len(data)` where the frame had padding.
    """

    stream: int
    data: bytes
    end: bool
    credit: int


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailer section; it always ends its message."""

    stream: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave up its sending half (RESET_STREAM), or the whole stream (RST_STREAM).

    `code` is the peer's error code, of HTTP/3 downstream and of HTTP/2 upstream.
    `unprocessed`: the peer promises that it never began to act on the request (REFUSED_STREAM,
    or above the last stream of a GOAWAY), so that any request may be sent again.
    """

    stream: int
    code: int
    unprocessed: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The peer will not read more of what we send on the stream (STOP_SENDING)."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that breaks the protocol's rules (RFC 9114 4.1.2, RFC 9113 8.1.1).

    The engine has not reset the stream; `reason` is for the log and for the answer's text, and
    `status` is what a server says to such a request (400, 431). `head` is what could be read of a
    request whose head is at fault, to be named in the log and not to be acted on; None: nothing.
    """

    stream: int
    reason: str
    status: int = 400
    head: RequestHead | None = None


@dataclass(frozen=True, slots=True)
class Writable:
    """`writable` of the stream rose from nothing: there is room to send again."""

    stream: int


# --- events of a connection -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake is complete (downstream: TLS; upstream: the peer's SETTINGS are in)."""

    server_name: str | None = None
    alpn: str | None = None
    version: int = 0
    """The QUIC version in use; 0 upstream."""
    resumed: bool = False
    """The client went on with the TLS session of an earlier connection."""


@dataclass(frozen=True, slots=True)
class CidIssued:
    """The client may from now on write to this connection ID."""

    cid: bytes


@dataclass(frozen=True, slots=True)
class CidRetired:
    """The client will not write to this connection ID any more."""

    cid: bytes


@dataclass(frozen=True, slots=True)
class StreamsBlocked:
    """The client would open more streams than it may (RFC 9000 section 19.14)."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer takes no streams above `last_stream`; those have been told of by `Reset`."""

    last_stream: int
    code: int


@dataclass(frozen=True, slots=True)
class LimitChanged:
    """The peer changed how many streams it lets us have open at once."""

    max_streams: int


@dataclass(frozen=True, slots=True)
class Pong:
    """A ping was answered."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over; no event follows. `code` 0 and an empty `reason`: in good order."""

    code: int
    reason: str
    by_peer: bool


@dataclass(frozen=True, slots=True)
class BoundReached:
    """The client came up against a bound; `Closed` follows."""

    bound: Bound


ALL_STREAMS = -1
"""Stands for all streams of a connection where a stream is named."""

DownstreamEvent: TypeAlias = (
    RequestBegun
    | RequestHead
    | Body
    | Trailers
    | Reset
    | Stopped
    | Malformed
    | Writable
    | Ready
    | CidIssued
    | CidRetired
    | BoundReached
    | StreamsBlocked
    | Closed
)

UpstreamEvent: TypeAlias = (
    ResponseHead
    | Interim
    | Body
    | Trailers
    | Reset
    | Malformed
    | Writable
    | Ready
    | GoAway
    | LimitChanged
    | Pong
    | Closed
)


class DownstreamEngine(Protocol):
    """One client connection: QUIC, TLS and HTTP/3, without a socket and without a clock.

    No verb raises for what the peer did: a verb on a stream that is gone does nothing.
    """

    def receive(self, datagrams: Iterable[tuple[bytes, Path]], now: float) -> list[DownstreamEvent]:
        """Take a batch of datagrams; return what they meant, in order."""

    def handle_timer(self, now: float) -> list[DownstreamEvent]:
        """Act on a deadline that has passed."""

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Path]]:
        """Take what is to be sent now. Call it once after a batch of `receive` and verbs."""

    def events(self) -> list[DownstreamEvent]:
        """Take what sending brought about: `Writable`, `CidIssued`, `Closed`."""

    def deadline(self) -> float | None:
        """Say when `handle_timer` is due, on the clock of `now`.

        None: the connection is over, and the engine may be forgotten.
        """

    def connection_ids(self) -> list[bytes]:
        """List the connection IDs, made by `cid.mint`, that the client may write to now."""

    def path(self) -> Path | None:
        """Return the path in use that the client has proved to be its own; None: not yet."""

    def send_interim(self, stream: int, status: int, headers: Headers) -> None:
        """Send an interim response."""

    def send_head(self, stream: int, status: int, headers: Headers, *, end: bool) -> None:
        """Send the final response's head."""

    def send_body(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send content. All of it is taken; heed `writable` to keep memory bounded."""

    def send_trailers(self, stream: int, headers: Headers) -> None:
        """Send the trailer section, which ends the response."""

    def writable(self, stream: int) -> int:
        """Say how many octets the stream may still take before the caller should wait."""

    def unacknowledged(self, stream: int) -> int:
        """Count the octets of the response that the client has not confirmed yet."""

    def held_up(self) -> dict[int, int]:
        """Say what the client keeps waiting, and how much of it it has taken so far.

        That is each request's stream that has more than the client has made room for, and
        `ALL_STREAMS`, of all together, where anything waits for which its stream has room.
        """

    def consume(self, stream: int, count: int) -> None:
        """Give back flow-control credit for `count` octets that were passed on."""

    def reset(self, stream: int, code: int) -> None:
        """Abandon both halves of the stream (RESET_STREAM and STOP_SENDING)."""

    def stop(self, stream: int, code: int) -> None:
        """Ask the peer to send no more of the request; our sending half stays open."""

    def goaway(self) -> None:
        """Say that no more requests are welcome; from the second call on, refuse them.

        Open ones go on (RFC 9114 section 5.2); those without a head are not open, and refused too.
        """

    def close(self, code: int, reason: str = "") -> None:
        """Close the connection with an HTTP/3 error code."""

    def is_idle(self) -> bool:
        """Say whether no request is open, and the client has all that it was sent.

        A stream whose head has not come is no request.
        """

    def held(self) -> int:
        """Count the octets that are kept for the client: what came, and what it has not got."""

    def probe_timeout(self) -> float:
        """Return the seconds after which something lost is noticed (RFC 9002 section 6.2.1)."""

    def release(self) -> None:
        """Let go of everything, once the connection is over; no other verb may follow.

        Without it the memory of a connection lives on until the garbage collector finds it.
        """


class UpstreamEngine(Protocol):
    """One connection to a backend, as its client, without a socket and without a clock.

    No verb raises for what the peer did: a verb on a stream that is gone does nothing.
    """

    def receive(self, data: bytes) -> list[UpstreamEvent]:
        """Take octets of the transport; return what they meant, in order. b"" is end of file."""

    def data_to_send(self) -> bytes:
        """Take what is to be written to the transport now."""

    def can_open(self) -> bool:
        """Say whether the peer takes another stream: not closing, limit not reached."""

    def open_streams(self) -> int:
        """Count the streams that are open."""

    def send_request(self, head: RequestHead) -> int:
        """Open a stream with the request's head (its `stream` is ignored); return its number.

        Only to be called when `can_open()`.
        """

    def send_body(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send content, at most `writable(stream)` octets of it."""

    def send_trailers(self, stream: int, headers: Headers) -> None:
        """Send the trailer section, which ends the request."""

    def writable(self, stream: int) -> int:
        """Say how many octets flow control lets the stream send now."""

    def consume(self, stream: int, count: int) -> None:
        """Give back flow-control credit of the stream. The connection's is given at once."""

    def reset(self, stream: int, code: int) -> None:
        """Abandon the stream (RST_STREAM)."""

    def ping(self, payload: bytes) -> None:
        """Send a PING with 8 octets, answered by `Pong`."""

    def close(self, code: int = 0) -> None:
        """Send GOAWAY; the transport may be closed once `data_to_send` is written."""
