"""One QUIC client connection: it feeds the engine, gives each request to an exchange, flushes.

Whatever goes wrong in here ends this connection and no other: it is one of the few places with a
broad `except`, for an engine that meets octets which its author did not think of.
"""

import asyncio
import contextlib
import logging
import time
from typing import Protocol

from spooky.errors import H3Code, Kind
from spooky.protocol.messages import (
    Body,
    CidIssued,
    CidRetired,
    Closed,
    DownstreamEngine,
    DownstreamEvent,
    Malformed,
    Path,
    Ready,
    RequestHead,
    Reset,
    Stopped,
    Trailers,
    Writable,
)
from spooky.worker.relay import Exchange
from spooky.worker.services import Services
from spooky.worker.udp import UdpSocket

log = logging.getLogger("spooky.client")

SECOND_GOAWAY_S = 1.0
"""Between announcing the end and refusing requests: a round trip, with room for a lost packet and
for a client or a worker that did not get its turn."""
FIRST_REQUEST_S = 2.0
"""The same for a client that has not asked yet, from the end of its handshake on: what it came
for is on its way, and many clients do not repeat a first request that is refused."""
LINGER_S = 0.5
"""Between the end of all requests and the close: a client that read GOAWAY just now, on its way to
the next request, goes to another connection, but fails where this one vanishes beneath it."""


class ClientHome(Protocol):
    """What a client needs of the intake."""

    def touch(self, client: "Client") -> None:
        """Flush the client at the end of this turn."""

    def learn(self, cid: bytes, client: "Client") -> None:
        """Route a connection ID to the client."""

    def forget(self, cid: bytes, client: "Client") -> None:
        """Stop routing a connection ID."""

    def remove(self, client: "Client") -> None:
        """Forget the client."""


class Client:
    """A client connection and its exchanges."""

    __slots__ = (
        "_announced",
        "_asked",
        "_draining",
        "_ended",
        "_engine",
        "_exchanges",
        "_farewell",
        "_home",
        "_refusal",
        "_refusing",
        "_removed",
        "_services",
        "cids",
        "path",
        "server_name",
        "timer_at",
        "udp",
    )

    def __init__(
        self,
        home: ClientHome,
        engine: DownstreamEngine,
        udp: UdpSocket,
        services: Services,
        path: Path,
    ) -> None:
        self._home = home
        self._engine = engine
        self._services = services
        self._exchanges: dict[int, Exchange] = {}
        self._ended: set[int] = set()
        """Exchanges that ended since the last events of the engine."""
        self._announced = False
        self._asked = False
        self._draining = False
        self._farewell: asyncio.TimerHandle | None = None
        self._refusal: asyncio.TimerHandle | None = None
        self._refusing = False
        self._removed = False
        self.udp = udp
        self.path = path
        self.cids: set[bytes] = set()
        self.timer_at: float | None = None
        self.server_name: str | None = None

    # --- in ---------------------------------------------------------------------------------

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram of this connection."""
        try:
            events = self._engine.receive(datagram, path, now)
            if path is not self.path:
                # Only a path that the client has proved to be its own is believed.
                self.path = self._engine.path() or self.path
            self._handle(events)
        except Exception as error:
            self._crash(error)
        self._home.touch(self)

    def deadline(self) -> float | None:
        """Say when `expire` is due."""
        return None if self._removed else self._engine.deadline()

    def expire(self, now: float) -> None:
        """Act on the engine's deadline."""
        if self._removed:
            return
        try:
            self._handle(self._engine.handle_timer(now))
        except Exception as error:
            self._crash(error)
        self._home.touch(self)

    def flush(self, now: float) -> None:
        """Send what there is."""
        if self._removed:
            return
        try:
            datagrams = self._engine.datagrams_to_send(now)
            self._handle(self._engine.events())
            over = self._engine.deadline() is None
        except Exception as error:
            self._crash(error)
            return
        if self._refusing:
            self._close_if_idle()
        if datagrams:
            self.udp.send(datagrams)
        if over:
            self._remove()

    def touch(self) -> None:
        """Have what was sent flushed at the end of this turn."""
        self._home.touch(self)

    def _crash(self, error: Exception) -> None:
        """End the connection after a fault of the engine or of ours."""
        log.error(
            "client %s: closed after an internal error: %s: %s",
            self.path.peer[0],
            type(error).__name__,
            error,
            exc_info=log.isEnabledFor(logging.DEBUG),
        )
        self._lost("internal error")
        # The engine may fail at this, too; then the client has to find out by itself.
        with contextlib.suppress(Exception):
            self._engine.close(H3Code.INTERNAL_ERROR, "internal error")
            self.udp.send(self._engine.datagrams_to_send(time.monotonic()))
        self._remove()

    def _remove(self) -> None:
        if not self._removed:
            self._removed = True
            self._lost("connection over")
            self._home.remove(self)

    # --- events -----------------------------------------------------------------------------

    def _handle(self, events: list[DownstreamEvent]) -> None:
        exchanges = self._exchanges
        self._ended.clear()
        for event in events:
            match event:
                case RequestHead():
                    if not self._asked:
                        self._note_first_request()
                    exchange = Exchange(self, self._engine, self._services, event.stream)
                    exchanges[event.stream] = exchange
                    exchange.start(event)
                case Body() | Trailers() | Reset() | Stopped() | Writable():
                    if (known := exchanges.get(event.stream)) is not None:
                        known.on_client_event(event)
                case Malformed():
                    self._refuse(event)
                case _:
                    self._handle_connection_event(event)

    def _handle_connection_event(self, event: DownstreamEvent) -> None:
        match event:
            case CidIssued():
                self._home.learn(event.cid, self)
            case CidRetired():
                self._home.forget(event.cid, self)
            case Ready():
                self.server_name = event.server_name
                if self._draining:
                    self._announce()
                    self._refuse_in(0.0 if self._refusing else FIRST_REQUEST_S)
            case Closed():
                log.debug("client %s: closed: %s", self.path.peer[0], event.reason or "in order")
                self._lost(event.reason or "closed by the client")
            case _:
                pass

    def _refuse(self, event: Malformed) -> None:
        """Answer a malformed request, before or after its head was passed on."""
        if event.stream in self._ended:
            return  # It was answered for another reason in the same turn.
        kind = Kind.HEADERS_TOO_LARGE if event.status == 431 else Kind.BAD_REQUEST
        exchange = self._exchanges.get(event.stream)
        if exchange is None:
            exchange = Exchange(self, self._engine, self._services, event.stream)
            self._exchanges[event.stream] = exchange
        exchange.fail(kind, event.reason)

    def _lost(self, reason: str) -> None:
        """End what is in flight: nobody is there to read it."""
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.abandon(reason)

    def finished(self, stream: int) -> None:
        """Forget an exchange that is over."""
        self._exchanges.pop(stream, None)
        self._ended.add(stream)

    # --- the end ----------------------------------------------------------------------------

    def drain(self) -> None:
        """Say GOAWAY, let open requests finish, then close."""
        self._draining = True
        self._announce()
        self._home.touch(self)
        self._refuse_in(SECOND_GOAWAY_S if self._asked else FIRST_REQUEST_S)

    def _announce(self) -> None:
        """Send the first GOAWAY, once: a second call of the verb refuses requests.

        HTTP/3 may be open before the handshake is complete.
        """
        if not self._announced and self._engine.is_ready():
            self._announced = True
            self._engine.goaway()

    def _note_first_request(self) -> None:
        self._asked = True
        if self._draining and not self._refusing:
            self._refuse_in(SECOND_GOAWAY_S)

    def _refuse_in(self, seconds: float) -> None:
        if self._refusal is not None:
            self._refusal.cancel()
        self._refusal = self._services.loop.call_later(seconds, self._refuse_requests)

    def _refuse_requests(self) -> None:
        if not self._removed:
            self._refusing = True
            self._announce()
            self._engine.goaway()
            self._home.touch(self)

    def _close_if_idle(self) -> None:
        if self._farewell is None and self._is_idle():
            self._farewell = self._services.loop.call_later(LINGER_S, self._say_farewell)

    def _is_idle(self) -> bool:
        return not self._exchanges and self._engine.is_idle()

    def _say_farewell(self) -> None:
        self._farewell = None
        if self._removed:
            return
        if self._is_idle():
            self._refusing = False
            self.close(H3Code.NO_ERROR, "")

    def close(self, code: int, reason: str) -> None:
        """Close the connection now; what is in flight is lost."""
        self._engine.close(code, reason)
        self._home.touch(self)
