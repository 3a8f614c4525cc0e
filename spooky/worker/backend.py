"""One HTTP/2 connection to a backend: its transport, its streams, its signs of life.

It owns the socket, the buffer in front of it, and which handler hears of which stream; the
protocol is the engine's. It decides nothing about which connection takes a request (the pool
does) nor about what a failure means (the relay does).

Rules: all that one turn of the event loop wants to send goes out in one write; a stream leaves
the table before its handler hears that it ended, so that the room may be used at once.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast

from spooky.config.limits import Limits
from spooky.errors import H2Code
from spooky.protocol.messages import (
    Body,
    Closed,
    GoAway,
    Headers,
    LimitChanged,
    Pong,
    Ready,
    RequestHead,
    Reset,
    ResponseHead,
    Trailers,
    UpstreamEngine,
    UpstreamEvent,
    Writable,
)
from spooky.protocol.upstream import MANY_EVENTS, join_content
from spooky.worker.backend_stream import BackendStream, StreamEvent, StreamHandler
from spooky.worker.silence import Silence, Step

__all__ = ["BackendConnection", "BackendStream", "StreamHandler"]

_HIGH_WATER = 256 * 1024
"""Octets that may wait for the socket before streams are told to wait."""
_MOST_REQUESTS = 1000
"""Requests of one connection, which is the usual number that servers take, too. Some of them,
Hypercorn for one, drop what is open when they end a connection; so we end it before they do."""
_WORN = 0.9
"""The share of these from which on a connection should have a successor."""
_LINGER_S = 1.0
_PING = b"spooky\0\0"


class Owner(Protocol):
    """Who keeps the connection: the pool."""

    def on_ready(self, connection: "BackendConnection") -> None:
        """Take note that requests may be sent."""

    def on_room(self, connection: "BackendConnection") -> None:
        """Take note that a stream has ended, or that more are allowed."""

    def on_gone(self, connection: "BackendConnection", detail: str) -> None:
        """Take note that it is over; called once, also for one that was never ready."""


class BackendConnection(asyncio.Protocol):
    """One connection, from the transport's being made to its end."""

    def __init__(
        self, engine: UpstreamEngine, owner: Owner, limits: Limits, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._limits = limits
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, BackendStream] = {}
        self._unsent: list[BackendStream] = []
        self._held: dict[int, BackendStream] = {}
        self._pending = 0
        self._flush_due = False
        self._freed = False
        self._paused = False
        self._over = False
        self._retired = False
        self._opened = 0
        self._used_at = now = loop.time()
        self._silence = Silence(limits.backend_ping_interval, limits.backend_ping_timeout, now)
        self.capacity = limits.backend_streams
        """Streams that may be open at once."""
        self.has_breached = False
        """It ended because the backend broke the rules of HTTP/2, or went beyond a bound."""
        self.closed = asyncio.Event()
        """There is no transport, or no more."""
        self.closed.set()
        self._actions: dict[type, Callable[[Any], None]] = {
            Ready: self._on_ready,
            GoAway: self._on_goaway,
            LimitChanged: self._on_limit,
            Pong: self._on_pong,
            Closed: self._on_closed,
        }

    # --- what the pool asks -----------------------------------------------------------------

    def can_take(self) -> bool:
        """Say whether another request may be sent now."""
        return self.in_service() and self._engine.can_open()

    def in_service(self) -> bool:
        """Say whether it takes requests, now or once a stream has ended."""
        return not (self._over or self._retired)

    def has_future(self) -> bool:
        """Say whether it will still take requests after the next hundred or so."""
        return self.in_service() and self._opened < _WORN * _MOST_REQUESTS

    def load(self) -> int:
        """Count the streams that are open."""
        return len(self._streams)

    def open(self, head: RequestHead, handler: StreamHandler) -> None:
        """Send a request; only to be called when `can_take()`."""
        number = self._engine.send_request(head)
        stream = BackendStream(self, number, handler, end=head.end)
        self._streams[number] = stream
        self._unsent.append(stream)
        self._opened += 1
        self._silence.asked()
        self._retired = self._retired or self._opened >= _MOST_REQUESTS
        self._schedule_flush()
        handler.on_stream(stream)

    def check(self, now: float) -> None:
        """Close if unused for long, probe if silent, give up if a probe was not answered."""
        limits = self._limits
        if not self._streams and now - self._used_at >= limits.backend_idle_timeout:
            self.close("it was not used")
            return
        match self._silence.look(now, is_awaited=bool(self._streams)):
            case Step.PING:
                self._engine.ping(_PING)
                self._schedule_flush()
            case Step.GIVE_UP:
                self._end(f"it did not answer a PING within {limits.backend_ping_timeout:g} s")
                self._abort()

    @property
    def is_silent(self) -> bool:
        """Whether it answers nothing, which a backend that is well would have done by now."""
        return self._silence.is_suspect

    def retire(self) -> None:
        """Take no more requests, and end when those that are open have."""
        self._retired = True
        if not self._streams:
            self.close("it takes no more requests")

    @property
    def address(self) -> str:
        """The address that it goes to; empty while there is no transport."""
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return str(peer[0]) if peer else ""

    def close(self, detail: str) -> None:
        """End the connection; streams that are open are lost."""
        self._engine.close()
        self._shut(detail)

    # --- what streams ask -------------------------------------------------------------------

    def send_body(self, stream: BackendStream, data: bytes, *, end: bool) -> None:
        """Send content of a stream."""
        if self._streams.get(stream.number) is not stream:
            return
        self._engine.send_body(stream.number, data, end=end)
        self._pending += len(data)
        self._schedule_flush()
        if end:
            self._sent_end(stream)

    def send_trailers(self, stream: BackendStream, headers: Headers) -> None:
        """Send a stream's trailers."""
        if self._streams.get(stream.number) is stream:
            self._engine.send_trailers(stream.number, headers)
            self._schedule_flush()
            self._sent_end(stream)

    def writable(self, stream: BackendStream) -> int:
        """Say how many octets of a stream may be sent now."""
        if self._streams.get(stream.number) is not stream:
            return 0
        room = self._engine.writable(stream.number)
        if not room:
            return 0
        if self._paused or self._pending >= _HIGH_WATER:
            self._held[stream.number] = stream
            return 0
        return min(room, _HIGH_WATER - self._pending)

    def consume(self, stream: BackendStream, count: int) -> None:
        """Give back credit of a stream."""
        if self._streams.get(stream.number) is stream:
            self._engine.consume(stream.number, count)
            self._schedule_flush()

    def cancel(self, stream: BackendStream, code: H2Code) -> None:
        """Abandon a stream."""
        if self._streams.get(stream.number) is stream:
            self._engine.reset(stream.number, code)
            self._drop(stream)
            self._schedule_flush()

    # --- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface, unless TLS agreed on something else."""
        # uvloop's transports are none of asyncio's classes, but have their methods.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self.closed.clear()
        if self._over:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        channel = transport.get_extra_info("socket")
        if channel is not None and channel.family in (socket.AF_INET, socket.AF_INET6):
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._end("it does not offer HTTP/2 in TLS (ALPN h2)")
            transport.close()
            return
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Pass on what the backend sent."""
        self._silence.heard(self._loop.time())
        events = self._engine.receive(data)
        self._dispatch(events if len(events) < MANY_EVENTS else join_content(events))
        self._schedule_flush()

    def eof_received(self) -> bool:
        """Take the end of what the backend sends as the end of all."""
        self._dispatch(self._engine.receive(b""))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who still wait."""
        if exc is not None:
            self._end(f"the connection broke: {getattr(exc, 'strerror', None) or exc}")
        self._end("the connection was closed")
        self.closed.set()

    def pause_writing(self) -> None:
        """Let streams wait: the socket does not take what there is."""
        self._paused = True

    def resume_writing(self) -> None:
        """Let those who had to wait go on."""
        self._paused = False
        self._schedule_flush()

    # --- events -----------------------------------------------------------------------------

    def _dispatch(self, events: list[UpstreamEvent]) -> None:
        actions, streams = self._actions, self._streams
        for event in events:
            action = actions.get(type(event))
            if action is not None:
                action(event)
                continue
            stream = streams.get(event.stream)  # type: ignore[union-attr]
            if stream is not None:
                self._deliver(stream, event)  # type: ignore[arg-type]
        if self._freed:
            self._settle()

    def _deliver(self, stream: BackendStream, event: StreamEvent) -> None:
        match event:
            case Body() | ResponseHead():
                stream.got_end = event.end
            case Trailers():
                stream.got_end = True
            case Reset():
                stream.got_end = stream.sent_end = True
        if stream.got_end and stream.sent_end:
            self._drop(stream)
        stream.handler.on_event(event)

    def _on_ready(self, _event: Ready) -> None:
        self._owner.on_ready(self)

    def _on_goaway(self, _event: GoAway) -> None:
        self._retired = True
        self._freed = True

    def _on_limit(self, event: LimitChanged) -> None:
        self.capacity = event.max_streams
        self._freed = True

    def _on_pong(self, _event: Pong) -> None:
        self._silence.heard_pong()

    def _on_closed(self, event: Closed) -> None:
        self.has_breached = not event.by_peer
        self._shut(event.reason)

    # --- the end of streams and of the connection -------------------------------------------

    def _sent_end(self, stream: BackendStream) -> None:
        stream.sent_end = True
        if stream.got_end:
            self._drop(stream)

    def _drop(self, stream: BackendStream) -> None:
        self._streams.pop(stream.number, None)
        self._held.pop(stream.number, None)
        self._freed = True

    def _settle(self) -> None:
        """Draw the conclusions from streams that ended."""
        self._freed = False
        if not self._streams:
            self._used_at = self._loop.time()
            if self._retired:
                self.close("it takes no more requests")
        if not self._over:
            self._owner.on_room(self)

    def _shut(self, detail: str) -> None:
        """End, with what is to be sent still sent."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._write(transport)
            transport.close()
            if not self._over:
                # A peer that reads nothing must not keep the socket for ever.
                self._loop.call_later(_LINGER_S, self._abort)
        self._end(detail)

    def _abort(self) -> None:
        if self._transport is not None and not self.closed.is_set():
            self._transport.abort()

    def _end(self, detail: str) -> None:
        if self._over:
            return
        self._over = True
        lost = list(self._streams.values())
        self._streams.clear()
        self._held.clear()
        self._owner.on_gone(self, detail)
        for stream in lost:
            stream.handler.on_lost(detail, not stream.sent)

    # --- sending ----------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._paused:
            # What the backend does not take waits in the engine, which bounds what it has caused.
            self._write(transport)
            self._release()
        if self._freed:
            self._settle()

    def _write(self, transport: asyncio.Transport) -> None:
        data = self._engine.data_to_send()
        if data:
            for stream in self._unsent:
                stream.sent = True
            self._unsent.clear()
            self._pending = 0
            transport.write(data)

    def _release(self) -> None:
        if self._held and not self._paused:
            held = list(self._held.values())
            self._held.clear()
            for stream in held:
                stream.handler.on_event(Writable(stream.number))
