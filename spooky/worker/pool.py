"""The connections of this worker to one backend, and the requests that wait for one.

Decisions are made at once, in `Pool.request` and the three calls of a connection (`on_ready`,
`on_room`, `on_gone`); only making a connection takes a task. It never repeats a request: that is
the relay's.

Rules: a request waits only while no connection has room, and no longer than the queue's timeout;
while no connection takes requests, a failed attempt to make one is told to all who wait. One that
only finishes what it has does not count: nobody who waits will get a stream of it.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from spooky.config.limits import Limits
from spooky.config.model import Timeouts
from spooky.errors import Kind, describe_failure, is_shortage
from spooky.protocol.engines import engine_named
from spooky.protocol.messages import RequestHead
from spooky.protocol.upstream import H2Limits
from spooky.worker.backend import BackendConnection, StreamHandler
from spooky.worker.backend_bound import BackendBound
from spooky.worker.connect import Endpoint, open_transport
from spooky.worker.reachability import Reachability
from spooky.worker.silence import LOOK_S, SUSPECT_S

__all__ = ["Pool", "PoolStats", "StreamHandler", "Ticket", "connections_to_open"]

log = logging.getLogger(__name__)

_BUSY = 0.8
"""The share of its streams in use from which on another connection is opened ahead of need."""
_GROW_AGAIN_S = 1.0
"""Before growing is tried again, after it failed while there are connections that work."""
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment."""

    connections: int
    connecting: int
    in_flight: int
    queued: int


def connections_to_open(stats: PoolStats, capacity: int, limits: Limits) -> int:
    """Say how many connections more a pool wants.

    Args:
        stats: what there is.
        capacity: how many streams its connections allow together.
        limits: how many connections there may be, and streams on each of them.
    """
    allowed = limits.backend_connections - stats.connections - stats.connecting
    waiting = stats.queued - stats.connecting * limits.backend_streams
    if waiting > 0:
        return max(0, min(allowed, math.ceil(waiting / limits.backend_streams)))
    busy = stats.connections > 0 and stats.in_flight >= _BUSY * capacity
    return 1 if busy and stats.connecting == 0 and allowed > 0 else 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request without a stream, and until when (on the loop's clock) it may be so."""

    head: RequestHead
    handler: StreamHandler
    deadline: float


class Ticket:
    """A request's place in the queue, if it has one."""

    __slots__ = ("_left", "_queue")

    def __init__(
        self, queue: "OrderedDict[Ticket, _Waiting]", left: Callable[[], None] | None = None
    ) -> None:
        """Take whom to tell if it is left before its turn."""
        self._queue = queue
        self._left = left

    def cancel(self) -> None:
        """Leave the queue; the handler hears nothing more. Does nothing once it has left."""
        if self._queue.pop(self, None) is not None and self._left is not None:
            self._left()


_NOT_WAITING = Ticket(OrderedDict())


class Pool:
    """All connections to one backend."""

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        timeouts: Timeouts,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._endpoint = endpoint
        self._reachability = Reachability(str(endpoint))
        self._limits = limits
        self._timeouts = timeouts
        self._loop = loop
        self._make_engine = engine_named(endpoint.engine)
        self._h2 = H2Limits(
            stream_window=limits.backend_stream_window,
            header_bytes=limits.response_header_bytes,
            max_streams=limits.backend_streams,
        )
        self._addresses: tuple[str, ...] = ()
        """What the host's name stands for; empty: the system knows."""
        self._queue: OrderedDict[Ticket, _Waiting] = OrderedDict()
        self._connections: list[BackendConnection] = []
        self._attempts: dict[BackendConnection, asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: list[BackendConnection] = []
        self._grow_at = 0.0
        self._in_doubt = False
        """The last attempt to connect failed or takes long, or a connection ended in silence."""
        self._was_silent = False
        """At the last look: all connections were."""
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._interval = _check_interval(limits, timeouts)
        self.bound: BackendBound | None = None
        """What the backend gets at most, if that is limited."""

    # --- what the relay asks ----------------------------------------------------------------

    def request(self, head: RequestHead, handler: StreamHandler) -> Ticket:
        """Send a request on a connection with room, or queue it and see to connections.

        The handler may hear of its stream, or that there is none, before this returns.
        """
        if self._closed:
            handler.on_no_stream(Kind.DRAINING, "the server is shutting down")
            return _NOT_WAITING
        if not self.has_room():
            handler.on_no_stream(Kind.OVERLOADED, "the backend has as many requests as it may have")
            return _NOT_WAITING
        ticket = self._request(head, handler)
        self._publish()
        return ticket

    def has_room(self) -> bool:
        """Say whether the backend may get one more."""
        if self.bound is None:
            return True
        queued = len(self._queue)
        has_stream = not queued and self._pick() is not None
        return self.bound.has_room(self._in_flight(), queued, has_stream=has_stream)

    def cap_connections(self, most: int) -> None:
        """Open no more connections than that from now on."""
        allowed = min(self._limits.backend_connections, most)
        self._limits = replace(self._limits, backend_connections=allowed)

    def _request(self, head: RequestHead, handler: StreamHandler) -> Ticket:
        connection = self._pick()
        if connection is not None and not self._queue:
            connection.open(head, handler)
            if connection.load() >= _BUSY * connection.capacity or not connection.has_future():
                self._grow()
            return _NOT_WAITING
        if len(self._queue) >= self._limits.backend_queue:
            handler.on_no_stream(Kind.OVERLOADED, f"{len(self._queue)} requests wait already")
            return _NOT_WAITING
        ticket = Ticket(self._queue, self._publish if self.bound is not None else None)
        deadline = self._loop.time() + self._timeouts.queue
        self._queue[ticket] = _Waiting(head, handler, deadline)
        self._grow()
        self._watch()
        return ticket

    def follow(self, addresses: tuple[str, ...]) -> None:
        """Connect to these addresses from now on, and retire connections to others."""
        self._addresses = addresses
        for connection in list(self._connections):
            if connection.address not in addresses:
                connection.retire()

    @property
    def is_doubtful(self) -> bool:
        """Whether it tries to connect in vain, or all is silent: who can go elsewhere should."""
        if self._was_silent and self._connections:
            return all(connection.is_silent for connection in self._connections)
        return self._in_doubt and bool(self._attempts) and not self._connections

    def stats(self) -> PoolStats:
        """Count what there is, connections that only finish what they have among it."""
        return PoolStats(
            connections=len(self._connections),
            connecting=len(self._attempts),
            in_flight=sum(connection.load() for connection in self._connections),
            queued=len(self._queue),
        )

    async def close(self, why: str = "the server is shutting down") -> None:
        """End everything at once."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._refuse_all(Kind.DRAINING, why)
        # An attempt that has not begun is cancelled without a chance to clean up.
        attempts, self._attempts = list(self._attempts), {}
        for connection in (*self._connections, *attempts):
            connection.close(why)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # uvloop tells no protocol of the end of a transport that was cancelled while it was made.
        told = [one for one in self._closing if one not in attempts]
        waits = [asyncio.ensure_future(one.closed.wait()) for one in told]
        if waits:
            await asyncio.wait(waits, timeout=_CLOSE_S)

    # --- what a connection tells (backend.Owner) --------------------------------------------

    def on_ready(self, connection: BackendConnection) -> None:
        """Use a connection from now on."""
        ready = self._attempts.pop(connection, None)
        if ready is None:
            return
        if ready.done():
            # The attempt's time was up in this very moment: nobody else knows of it any more.
            connection.close("it was ready too late")
            return
        ready.set_result("")
        self._in_doubt = False
        if news := self._reachability.connected():
            log.info("%s", news)
        self._connections.append(connection)
        self._watch()
        self._serve_queue()

    def on_room(self, _connection: BackendConnection) -> None:
        """Give the room to those who wait."""
        if self._queue:
            self._serve_queue()
        self._publish()

    def on_gone(self, connection: BackendConnection, detail: str) -> None:
        """Forget a connection, and replace it if somebody waits."""
        self._closing = [one for one in self._closing if not one.closed.is_set()]
        self._closing.append(connection)
        ready = self._attempts.get(connection)
        if ready is not None:
            if not ready.done():
                ready.set_result(detail)
            return
        if connection in self._connections:
            self._connections.remove(connection)
            self._in_doubt = self._in_doubt or connection.is_silent
            now = self._loop.time()
            if connection.has_breached and (news := self._reachability.breached(detail, now)):
                log.warning("%s", news)
            if self._queue:
                self._grow()
            self._publish()

    # --- decisions --------------------------------------------------------------------------

    def _in_flight(self) -> int:
        return len(self._queue) + sum(connection.load() for connection in self._connections)

    def _publish(self) -> None:
        if self.bound is not None:
            self.bound.publish(self._in_flight(), len(self._queue))

    def _pick(self) -> BackendConnection | None:
        """Return the connection with the fewest streams of those with room."""
        best: BackendConnection | None = None
        fewest = 0
        for connection in self._connections:
            load = connection.load()
            if (best is None or load < fewest) and connection.can_take():
                best, fewest = connection, load
        return best

    def _serve_queue(self) -> None:
        while self._queue and (connection := self._pick()) is not None:
            _, waiting = self._queue.popitem(last=False)
            connection.open(waiting.head, waiting.handler)
        if self._queue:
            self._grow()

    def _in_service(self) -> bool:
        """Say whether those who wait may hope for a connection that there is."""
        return any(connection.in_service() for connection in self._connections)

    def _grow(self) -> None:
        if self._loop.time() < self._grow_at and self._in_service():
            return
        # One that only finishes what it has takes no other's place.
        lasting = [connection for connection in self._connections if connection.has_future()]
        successor = 1 if self._connections and not lasting else 0
        stats = PoolStats(
            connections=len(lasting),
            connecting=len(self._attempts),
            in_flight=sum(connection.load() for connection in lasting),
            queued=max(len(self._queue), successor),
        )
        capacity = sum(connection.capacity for connection in lasting)
        for _ in range(connections_to_open(stats, capacity, self._limits)):
            engine = self._make_engine(self._h2)
            connection = BackendConnection(engine, self, self._limits, self._loop)
            ready = self._attempts[connection] = self._loop.create_future()
            task = self._loop.create_task(self._connect(connection, ready))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # --- making a connection ----------------------------------------------------------------

    async def _connect(self, connection: BackendConnection, ready: asyncio.Future[str]) -> None:
        """Make a connection: TCP, TLS and the peer's SETTINGS, all within the timeout."""
        limit = self._timeouts.connect
        kind = Kind.CONNECT_FAILED
        try:
            async with asyncio.timeout(limit or None) as clock:
                await open_transport(self._loop, self._endpoint, connection, self._turn())
                detail = await ready
        except (OSError, ValueError) as error:
            detail = describe_failure(error)
            if is_shortage(error):
                kind = Kind.OVERLOADED
            elif clock.expired():
                kind, detail = Kind.CONNECT_TIMEOUT, f"not connected within {limit:g} s"
        finally:
            if self._attempts.pop(connection, None) is not None:
                connection.close("it was not ready")
        if detail:
            self._in_doubt = True
            self._grow_at = self._loop.time() + _GROW_AGAIN_S
            if not self._attempts and not self._in_service():
                if news := self._reachability.failed(detail, self._loop.time()):
                    log.warning("%s", news)
                self._refuse_all(kind, detail)

    def _turn(self) -> tuple[str, ...]:
        """List the addresses, with another one first each time, so that all are connected to."""
        addresses = self._addresses
        self._addresses = (*addresses[1:], *addresses[:1])
        return addresses

    def _refuse_all(self, kind: Kind, detail: str) -> None:
        waiting = list(self._queue.values())
        self._queue.clear()
        self._publish()
        for one in waiting:
            one.handler.on_no_stream(kind, detail)

    # --- time -------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._check)

    def _check(self) -> None:
        """Look after connections and the queue: one timer for all of them."""
        self._timer = None
        now = self._loop.time()
        for connection in list(self._connections):
            connection.check(now)
        self._was_silent = all(connection.is_silent for connection in self._connections)
        while self._queue:
            ticket, waiting = next(iter(self._queue.items()))
            if waiting.deadline > now:
                break
            del self._queue[ticket]
            waiting.handler.on_no_stream(
                Kind.OVERLOADED, f"no stream within {self._timeouts.queue:g} s"
            )
        if self._queue and not self._connections:
            began = next(iter(self._queue.values())).deadline - self._timeouts.queue
            self._in_doubt = self._in_doubt or now - began >= SUSPECT_S
        self._publish()
        if self._queue:
            self._grow()
        if self._connections or self._queue:
            self._watch()


def _check_interval(limits: Limits, timeouts: Timeouts) -> float:
    """Say how often to look at the clock: often enough for the shortest limit, in seconds."""
    spans = (
        limits.backend_idle_timeout,
        limits.backend_ping_interval,
        limits.backend_ping_timeout,
        timeouts.queue,
    )
    return max(0.02, min(LOOK_S, *(span / 4 for span in spans if span)))
