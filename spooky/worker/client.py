"""One QUIC client connection: it feeds the engine, gives each request to an exchange, flushes.

It drops clients that do not complete their handshake, answers those that do not complete a head,
and carries out what `farewell.py` decides while it is drained.

Whatever goes wrong in here ends this connection and no other: it is one of the few places with a
broad `except`, for an engine that meets octets which its author did not think of.
"""

import contextlib
import logging
import time
from collections.abc import Sequence

from spooky.bounds import Bound
from spooky.errors import H3Code, Kind
from spooky.protocol.messages import (
    Body,
    BoundReached,
    CidIssued,
    CidRetired,
    Closed,
    DownstreamEngine,
    DownstreamEvent,
    Malformed,
    Path,
    Ready,
    RequestBegun,
    RequestHead,
    Reset,
    Stopped,
    StreamsBlocked,
    Trailers,
    Writable,
)
from spooky.worker.farewell import Farewell
from spooky.worker.home import ClientHome
from spooky.worker.reached import note_close
from spooky.worker.relay import Exchange
from spooky.worker.services import Services
from spooky.worker.udp import UdpSocket

log = logging.getLogger("spooky.client")

HANDSHAKE_TIMEOUT_S = 10.0
"""After which a connection without a complete handshake is dropped, however lively it is."""


class Client:
    """A client connection and its exchanges."""

    __slots__ = (
        "_asked",
        "_begun",
        "_closing",
        "_ended",
        "_engine",
        "_exchanges",
        "_farewell",
        "_held",
        "_home",
        "_quiet_since",
        "_ready_by",
        "_removed",
        "_services",
        "cids",
        "name",
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
        self._held = -1
        """Octets that are kept for the client; -1: not counted since it was last flushed."""
        self._asked = False
        """A request has begun to come."""
        self._begun: dict[int, float] = {}
        """Streams whose head has not all come, and since when; the oldest is the first."""
        self._quiet_since = time.monotonic()
        """When the last request ended or the last stream began."""
        self._ready_by: float | None = self._quiet_since + HANDSHAKE_TIMEOUT_S
        """When the handshake has to be complete; None: it is."""
        self._farewell: Farewell | None = None
        self._closing = False
        self._removed = False
        self.udp = udp
        self.path = path
        self.cids: set[bytes] = set()
        self.name = b""
        self.timer_at: float | None = None
        self.server_name: str | None = None

    # --- in ---------------------------------------------------------------------------------

    def receive(self, datagrams: Sequence[tuple[bytes, Path]], now: float) -> None:
        """Take datagrams of this connection, at least one, each with the path that it came by."""
        try:
            events = self._engine.receive(datagrams, now)
            if any(path is not self.path for _, path in datagrams):
                # Only a path that the client has proved to be its own is believed.
                self.path = self._engine.path() or self.path
            if self._farewell is not None and self._ready_by is not None:
                self._farewell.stir(now)
            self._handle(events)
        except Exception as error:
            self._crash(error)
        self._home.touch(self)

    def deadline(self) -> float | None:
        """Say when `expire` is due."""
        if self._removed:
            return None
        deadline = self._engine.deadline()
        if deadline is None:
            return None
        if self._ready_by is not None and not self._closing:
            deadline = min(deadline, self._ready_by)
        if self._begun:
            deadline = min(deadline, self._head_due())
        if self._farewell is not None:
            due = self._farewell.due(self._engine.probe_timeout())
            deadline = deadline if due is None else min(deadline, due)
        return deadline

    def expire(self, now: float) -> None:
        """Act on a deadline, of the engine's or of ours."""
        if self._removed:
            return
        try:
            if self._closing and self._farewell is not None and self._farewell.is_gone(now):
                self._remove()
                return
            if self._ready_by is not None and now >= self._ready_by and not self._closing:
                self._drop(f"no handshake within {HANDSHAKE_TIMEOUT_S:g} s")
                return
            self._handle(self._engine.handle_timer(now))
            while self._begun and now >= self._head_due():
                self._answer_late(next(iter(self._begun)))
        except Exception as error:
            self._crash(error)
        self._home.touch(self)

    def flush(self, now: float) -> None:
        """Send what there is."""
        if self._removed:
            return
        self._held = -1
        try:
            datagrams = self._engine.datagrams_to_send(now)
            self._handle(self._engine.events())
            over = self._engine.deadline() is None
        except Exception as error:
            self._crash(error)
            return
        if datagrams:
            self.udp.send(datagrams)
        if over:
            self._remove()
        elif self._farewell is not None and not self._closing:
            self._take_leave(self._farewell, now)

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
        self._end(H3Code.INTERNAL_ERROR, "internal error")

    def _drop(self, reason: str) -> None:
        """End a connection that did not come about."""
        log.debug("client %s: dropped: %s", self.path.peer[0], reason)
        self._end(H3Code.NO_ERROR, reason)

    def _end(self, code: int, reason: str) -> None:
        """Say why, once, and forget the connection."""
        # The engine may fail at this, too; then the client has to find out by itself.
        with contextlib.suppress(Exception):
            self._engine.close(code, reason)
            self.udp.send(self._engine.datagrams_to_send(time.monotonic()))
        self._remove()

    def _remove(self) -> None:
        if not self._removed:
            self._removed = True
            self._lost("connection over")
            self._home.remove(self)
            self._engine.release()

    # --- events -----------------------------------------------------------------------------

    def _handle(self, events: list[DownstreamEvent]) -> None:
        exchanges = self._exchanges
        self._ended.clear()
        for event in events:
            match event:
                case RequestHead():
                    self._asked = True
                    self._begun.pop(event.stream, None)
                    exchange = Exchange(self, self._engine, self._services, event.stream)
                    exchanges[event.stream] = exchange
                    exchange.start(event)
                case Body() | Trailers() | Reset() | Stopped() | Writable():
                    if (known := exchanges.get(event.stream)) is not None:
                        known.on_client_event(event)
                    elif self._begun:
                        self._begun.pop(event.stream, None)
                case RequestBegun():
                    self._begin(event.stream)
                case Malformed():
                    self._refuse(event)
                case _:
                    self._handle_connection_event(event)

    def _handle_connection_event(self, event: DownstreamEvent) -> None:
        match event:
            case CidIssued():
                self._home.learn(event.cid, self)
            case StreamsBlocked():
                self._services.bounds.reached(Bound.STREAMS_PER_CONNECTION)
            case CidRetired():
                self._home.forget(event.cid, self)
            case Ready():
                self.server_name = event.server_name
                self._ready_by = None
                self._home.ready(self, resumed=event.resumed)
                self._stir(time.monotonic())
                if self._farewell is not None:
                    self._farewell.await_first_request()
            case BoundReached():
                self._services.bounds.reached(event.bound)
            case Closed():
                log.debug("client %s: closed: %s", self.path.peer[0], event.reason or "in order")
                note_close(self._services.bounds, event)
                self._begin_to_close()
                self._lost(event.reason or "closed by the client")
            case _:
                pass

    def _refuse(self, event: Malformed) -> None:
        """Answer a malformed request, before or after its head was passed on."""
        if event.stream in self._ended:
            return  # It was answered for another reason in the same turn.
        self._begun.pop(event.stream, None)
        kind = Kind.HEADERS_TOO_LARGE if event.status == 431 else Kind.BAD_REQUEST
        exchange = self._exchanges.get(event.stream)
        if exchange is None:
            self._answer_headless(event.stream, kind, event.reason, event.head)
        else:
            exchange.fail(kind, event.reason)

    def _answer_headless(
        self, stream: int, kind: Kind, detail: str, head: RequestHead | None
    ) -> None:
        """Answer what never became a request."""
        exchange = Exchange(self, self._engine, self._services, stream)
        self._exchanges[stream] = exchange
        exchange.refuse(kind, detail, head)

    def held(self) -> int:
        """Count the octets that are kept for the client; 0 where it is closed already."""
        if self._closing or self._removed:
            return 0
        if self._held < 0:
            self._held = self._engine.held()
        return self._held

    # --- heads that are late ----------------------------------------------------------------

    def _begin(self, stream: int) -> None:
        self._asked = True
        now = time.monotonic()
        self._stir(now)
        if self._services.limits.request_header_timeout:
            self._begun[stream] = now

    def _stir(self, now: float) -> None:
        self._quiet_since = now
        if self._farewell is not None:
            self._farewell.stir(now)

    def _head_due(self) -> float:
        """Say when the oldest head that has not come is due."""
        return next(iter(self._begun.values())) + self._services.limits.request_header_timeout

    def _answer_late(self, stream: int) -> None:
        del self._begun[stream]
        limit = self._services.limits.request_header_timeout
        detail = f"the header section was not complete within {limit:g} s"
        self._answer_headless(stream, Kind.HEADERS_TIMEOUT, detail, None)

    def _lost(self, reason: str) -> None:
        """End what is in flight: nobody is there to read it."""
        self._begun.clear()
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.abandon(reason)

    def finished(self, stream: int) -> None:
        """Forget an exchange that is over."""
        self._exchanges.pop(stream, None)
        self._ended.add(stream)
        self._quiet_since = time.monotonic()

    # --- clients that read slowly -----------------------------------------------------------

    def is_quiet_since(self, moment: float) -> bool:
        """Say whether no request has been open since then."""
        return not self._exchanges and self._quiet_since < moment

    def held_up(self) -> dict[int, int]:
        """Say what the client has taken of what it keeps waiting, as `DownstreamEngine` does."""
        return {} if self._closing or self._removed else self._engine.held_up()

    def give_up(self, stream: int) -> None:
        """Break a response off that the client takes too slowly."""
        if (exchange := self._exchanges.get(stream)) is not None:
            exchange.fail(Kind.SLOW_READER, "the response is taken too slowly")
        else:
            self._engine.reset(stream, H3Code.REQUEST_CANCELLED)
            self._home.touch(self)

    # --- the end ----------------------------------------------------------------------------

    def drain(self, quiet: float, announce_after: float) -> None:
        """Say GOAWAY, serve what still comes, close after `quiet` seconds without a request."""
        if self._farewell is None:
            now = time.monotonic()
            since = now if self._ready_by else self._quiet_since
            self._farewell = Farewell(quiet, since, now + announce_after)
            if not self._asked:
                self._farewell.await_first_request()
            if self._closing:
                self._farewell.closes(now)
            self._home.touch(self)

    def _announce(self, farewell: Farewell) -> None:
        if not farewell.announced and self._ready_by is None:
            farewell.announced = True
            self._engine.goaway()
            self._home.touch(self)

    def refuse(self) -> None:
        """Say the final GOAWAY: what comes from now on is rejected, and nobody acts on it."""
        if self._farewell is not None and not self._farewell.refusing and not self._closing:
            self._announce(self._farewell)
            self._farewell.refusing = True
            self._begun.clear()
            if self._farewell.announced:
                self._engine.goaway()
            self._home.touch(self)

    def _take_leave(self, farewell: Farewell, now: float) -> None:
        """Say what is due, and close once it is time to."""
        busy = bool(self._exchanges) or not self._engine.is_idle()
        busy = busy or (self._ready_by is not None and farewell.is_patient)
        if not farewell.is_over(now, self._engine.probe_timeout(), busy=busy):
            if farewell.announces(now):
                self._announce(farewell)
        elif self._ready_by is not None:
            self._drop("no handshake before the end of the drain")
        elif farewell.refusing:
            self.close(H3Code.NO_ERROR, "")
        else:
            # The flush that follows sends it, and comes back here to close.
            self.refuse()

    def close(self, code: int, reason: str) -> None:
        """Close the connection now; what is in flight is lost."""
        self._begin_to_close()
        self._engine.close(code, reason)
        self._home.touch(self)

    def _begin_to_close(self) -> None:
        self._closing = True
        if self._farewell is not None:
            self._farewell.closes(time.monotonic())
