"""The admin endpoint: whether this instance lives, and whether it can take traffic.

HTTP/1.1, for load balancers, orchestrators and people with curl. Never changes anything. Each
connection carries one request and is then closed; its time, its head and the number of
connections are bounded, for the port may be reachable by more than its friends.
"""

import asyncio
import email.utils
import json
import logging
from dataclasses import dataclass

import h11

from spooky import __version__
from spooky.shm.instance import Admission
from spooky.shm.processes import Column, ProcessState
from spooky.shm.segment import SharedMemory

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
"""For reading the request and writing the answer together."""
HEAD_BYTES = 8 * 1024
CONNECTIONS = 64
READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with; `allow` only with 405."""

    status: int
    fields: dict[str, str | int]
    allow: str = ""


_CLOSED = {Admission.DRAINED: "drained", Admission.STOPPING: "stopping"}


def answer(memory: SharedMemory, method: str, target: str) -> Answer:
    """Decide what a request gets, from the shared memory."""
    match target.partition("?")[0]:
        case "/health":
            made = Answer(200, {"status": "ok", "version": __version__})
        case "/ready":
            made = _readiness(memory)
        case _:
            return Answer(404, {"error": "there is /health and /ready"})
    if method not in ("GET", "HEAD"):
        return Answer(405, {"error": "only GET and HEAD"}, allow="GET, HEAD")
    return made


def _readiness(memory: SharedMemory) -> Answer:
    serving, admission = memory.instance.serving(), memory.instance.admission
    ready = sum(
        row.state is ProcessState.READY and row.get(Column.GENERATION) == serving.generation
        for row in map(memory.processes.row, range(serving.first, serving.first + serving.workers))
    )
    is_ready = ready == serving.workers and admission is Admission.OPEN
    status = _CLOSED.get(admission) or ("ready" if is_ready else "not ready")
    fields: dict[str, str | int] = {
        "status": status,
        "generation": serving.generation,
        "workers": serving.workers,
        "workers_ready": ready,
    }
    return Answer(200 if is_ready else 503, fields)


def encode(connection: h11.Connection, made: Answer, method: str = "GET") -> bytes:
    """Encode the answer to what `connection` has just read; no other request is read from it."""
    body = json.dumps(made.fields).encode() + b"\n"
    headers = [
        ("date", email.utils.formatdate(usegmt=True)),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
    ]
    if made.allow:
        headers.append(("allow", made.allow))
    data = connection.send(h11.Response(status_code=made.status, headers=headers)) or b""
    if method != "HEAD":
        data += connection.send(h11.Data(data=body)) or b""
    return data + (connection.send(h11.EndOfMessage()) or b"")


def respond(connection: h11.Connection, memory: SharedMemory) -> bytes | None:
    """Encode the answer to what was received; None: the request's head is not whole yet.

    Empty when the client left before it asked for anything.
    """
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        malformed = Answer(error.error_status_hint, {"error": "the request is malformed"})
        return encode(connection, malformed)
    if isinstance(event, h11.Request):
        method = event.method.decode()
        return encode(connection, answer(memory, method, event.target.decode()), method)
    return None if event is h11.NEED_DATA else b""


class AdminEndpoint:
    """The server behind the admin address."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._open: set[asyncio.StreamWriter] = set()
        self.idle = asyncio.Event()
        """Set while no connection is open."""
        self.idle.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection; never raises for what the client does."""
        self._open.add(writer)
        self.idle.clear()
        try:
            if len(self._open) <= CONNECTIONS:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await self._exchange(reader, writer)
        except (TimeoutError, OSError) as error:
            log.debug("admin: a connection failed: %s", error or type(error).__name__)
            writer.transport.abort()
        finally:
            writer.close()
            self._open.discard(writer)
            if not self._open:
                self.idle.set()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        while (data := respond(connection, self._memory)) is None:
            connection.receive_data(await reader.read(READ_BYTES))
        writer.write(data)
        await writer.drain()
