"""What the tests of pools and backend connections are made of.

`run` runs a coroutine on one of both event loops and fails if a callback or task failed unseen.
`Exchange` is a handler that notes all that it hears. `serving` is a TCP server of a few lines, for
backends that are wrong in ways that no real one is.
"""

import asyncio
import gc
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
import uvloop
from hyperframe.frame import Frame, SettingsFrame

from spooky.config.limits import Limits
from spooky.config.model import Backend, Timeouts
from spooky.errors import Kind
from spooky.protocol.messages import (
    Body,
    Headers,
    Malformed,
    RequestHead,
    Reset,
    ResponseHead,
    Trailers,
    Writable,
)
from spooky.worker.backend import BackendStream
from spooky.worker.backend_stream import StreamEvent
from spooky.worker.connect import Endpoint
from spooky.worker.pool import Pool, PoolStats, Ticket

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
DEADLINE_S = 20.0
LIMITS = Limits()
TIMEOUTS = Timeouts()
Client: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

both_loops = pytest.mark.parametrize("loop_name", list(LOOPS))


def run(test: Coroutine[Any, Any, None], loop_name: str = "uvloop") -> None:
    """Run a test to its end, and fail for anything that was only logged."""
    unseen: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
        runner.run(asyncio.wait_for(test, 120))
        gc.collect()
    assert unseen == [], unseen


def make_head(method: bytes, path: str, *, end: bool = True) -> RequestHead:
    fields: Headers = [(b"user-agent", b"test")]
    return RequestHead(0, method, b"http", b"localhost", path.encode(), fields, end)


class Exchange:
    """One request; `done` is resolved with what ended it: `ok`, a `Kind`, `reset`, `lost`..."""

    def __init__(
        self,
        head: RequestHead,
        upload: bytes = b"",
        *,
        consume: bool = True,
        resend_on: Pool | None = None,
    ) -> None:
        self.head = head
        self.upload = upload
        self.consume = consume
        self.resend_on = resend_on
        self.resent = 0
        self.sent = 0
        self.stream: BackendStream | None = None
        self.response: ResponseHead | None = None
        self.events: list[StreamEvent] = []
        self.received = 0
        self.hash = hashlib.sha256()
        self.detail = ""
        self.done: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def start(self, pool: Pool) -> Ticket:
        return pool.request(self.head, self)

    async def wait(self) -> object:
        return await asyncio.wait_for(asyncio.shield(self.done), DEADLINE_S)

    def finish(self, how: object, detail: str = "") -> None:
        assert not self.done.done(), f"{how} after {self.done.result()}"
        self.detail = detail
        self.done.set_result(how)

    def finish_if(self, end: bool) -> None:
        if end:
            self.finish("ok")

    def on_stream(self, stream: BackendStream) -> None:
        self.stream = stream
        self.sent = 0
        self.pump()

    def pump(self) -> None:
        assert self.stream is not None
        while self.sent < len(self.upload) and (room := self.stream.writable()):
            part = self.upload[self.sent : self.sent + room]
            self.sent += len(part)
            self.stream.send_body(part, end=self.sent == len(self.upload))

    def on_no_stream(self, kind: Kind, detail: str) -> None:
        assert self.stream is None or self.resent
        self.finish(kind, detail)

    def on_lost(self, detail: str, unprocessed: bool) -> None:
        if not self.again(unprocessed):
            self.finish(("lost", unprocessed), detail)

    def again(self, unprocessed: bool) -> bool:
        if not unprocessed or self.resend_on is None:
            return False
        self.resent += 1
        self.start(self.resend_on)
        return True

    def on_event(self, event: StreamEvent) -> None:
        assert self.stream is not None
        self.events.append(event)
        match event:
            case ResponseHead():
                self.response = event
                self.finish_if(event.end)
            case Body():
                self.received += len(event.data)
                self.hash.update(event.data)
                self.stream.consume(event.credit if self.consume else 0)
                self.finish_if(event.end)
            case Trailers():
                self.finish("ok")
            case Writable():
                self.pump()
            case Malformed():
                self.stream.cancel()
                self.finish("malformed", event.reason)
            case Reset():
                if not self.again(event.unprocessed):
                    self.finish(("reset", event.code))


def stats_of(pool: Pool) -> PoolStats:
    """What a pool has at this moment, those that only finish their streams included."""
    return PoolStats(
        connections=len(pool._connections),
        connecting=len(pool._attempts),
        in_flight=sum(connection.load() for connection in pool._connections),
        queued=len(pool._queue),
    )


def get(path: str = "/") -> Exchange:
    return Exchange(make_head(b"GET", path))


@asynccontextmanager
async def pooled(
    port: int,
    *,
    endpoint: Endpoint | None = None,
    limits: Limits = LIMITS,
    timeouts: Timeouts = TIMEOUTS,
    host: str = "127.0.0.1",
) -> AsyncIterator[Pool]:
    """A pool for a port of this machine; with TLS as the endpoint says."""
    backend = Backend("b", host, port, tls=endpoint is not None)
    tls, name = (endpoint.tls, endpoint.server_name) if endpoint else (None, None)
    there = Endpoint(backend, tls, name, "u")
    pool = Pool(there, limits, timeouts, asyncio.get_running_loop())
    try:
        yield pool
    finally:
        await pool.close()
        stats = stats_of(pool)
        assert (stats.connections, stats.connecting, stats.queued) == (0, 0, 0), stats


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert condition(), what


@asynccontextmanager
async def serving(client: Client, **options: Any) -> AsyncIterator[int]:
    """A TCP server on a free port; yields the port. Its clients end with it."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await client(reader, writer)
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def scripted(*steps: bytes | Frame | int, hold: bool = True) -> Client:
    """A client callback that writes octets and frames; a number: wait for that many octets.

    In the end it reads on until the peer hangs up if `hold`, else it hangs up itself.
    """

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in steps:
            if isinstance(step, int):
                await reader.readexactly(step)
            else:
                writer.write(step if isinstance(step, bytes) else step.serialize())
        await writer.drain()
        while hold and await reader.read(65_536):
            pass

    return client


SETTINGS = SettingsFrame(0)


def within(**timeouts: float) -> Timeouts:
    return replace(TIMEOUTS, **dict[str, Any](timeouts))
