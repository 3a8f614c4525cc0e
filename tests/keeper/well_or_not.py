"""An HTTP/2 server in the test's own process, well or not as it is asked: Hypercorn and an ASGI
application, which speaks the gRPC health protocol as well.

`/status/N` answers with that status, `/text` with a text, `/endless` without an end, `/hang` not at
all. The health of a service is its name.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.e2e.certificates import Identity

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

TEXT = b"one two three: all is well"
SERVING_STATUS = {"": 1, "up": 1, "down": 2, "unknown": 0, "lost": 3}
NOT_FOUND = b"5"

seen: list[Message] = []
"""The scopes of all requests."""


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        raise NotImplementedError
    seen.append(scope)
    match scope["path"].strip("/").split("/"):
        case ["status", number]:
            await _answer(send, int(number), b"")
        case ["text"]:
            await _answer(send, 200, TEXT)
        case ["endless"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 8192, "more_body": True})
                await asyncio.sleep(0)
        case ["hang"]:
            await asyncio.Event().wait()
        case ["grpc.health.v1.Health", "Check"]:
            await _check(receive, send)
        case _:
            await _answer(send, 404, b"")


async def _answer(send: Send, status: int, content: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": content})


async def _check(receive: Receive, send: Send) -> None:
    """grpc.health.v1.Health/Check."""
    question = b""
    while (message := await receive())["type"] == "http.request":
        question += message["body"]
        if not message.get("more_body"):
            break
    assert question[0] == 0
    assert int.from_bytes(question[1:5], "big") == len(question) - 5
    service = question[7:].decode()
    fields = [(b"content-type", b"application/grpc")]
    if service not in SERVING_STATUS:
        fields += [(b"grpc-status", NOT_FOUND), (b"grpc-message", b"unknown%20service")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b""})
        return
    number = SERVING_STATUS[service]
    told = bytes([8, number]) if number else b""
    head = {"type": "http.response.start", "status": 200, "headers": fields, "trailers": True}
    await send(head)
    content = b"\0" + len(told).to_bytes(4, "big") + told
    await send({"type": "http.response.body", "body": content})
    await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})


@asynccontextmanager
async def serving(identity: Identity | None = None) -> AsyncIterator[int]:
    """Serve the application, with TLS where there is an identity; gives the port."""
    config = Config()
    config.errorlog = None
    config.graceful_timeout = 0.05
    if identity is not None:
        config.certfile, config.keyfile = str(identity.cert), str(identity.key)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        # The server closes it.
        config.bind = [f"fd://{os.dup(listener.fileno())}"]
        over = asyncio.Event()
        server = asyncio.create_task(
            serve(application, config, shutdown_trigger=over.wait)  # type: ignore[arg-type]
        )
        yield int(listener.getsockname()[1])
        over.set()
        await server


@asynccontextmanager
async def answering(data: bytes | None) -> AsyncIterator[int]:
    """Take connections and answer with some octets, then nothing; None: close them at once."""
    over = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if data is not None:
            writer.write(data)
            await over.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    over.set()
    server.close()
