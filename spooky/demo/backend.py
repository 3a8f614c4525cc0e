"""A small HTTP/2 server (cleartext, prior knowledge) for the demo to proxy to.

It answers each request with its own name, what it was asked, and the length and SHA-256 of the
content it was sent. It is no part of the proxy and serves nothing else.
"""

import asyncio
import hashlib
import json

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from hpack.struct import Header


class _Request:
    """One request that is being received."""

    def __init__(self, headers: list[Header]) -> None:
        self.headers = {bytes(name): bytes(value) for name, value in headers}
        self.digest = hashlib.sha256()
        self.received = 0


class DemoBackend(asyncio.Protocol):
    """One connection from the proxy."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._requests: dict[int, _Request] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the proxy."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take what the proxy sent."""
        try:
            for event in self._h2.receive_data(data):
                self._handle(event)
        except H2Error:
            pass  # h2 has put a GOAWAY into what is flushed below.
        self._flush()

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._requests[event.stream_id] = _Request(event.headers)
            case DataReceived():
                request = self._requests[event.stream_id]
                request.digest.update(event.data)
                request.received += len(event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self._answer(event.stream_id, self._requests.pop(event.stream_id))
            case StreamReset():
                self._requests.pop(event.stream_id, None)
            case _:
                pass

    def _answer(self, stream: int, request: _Request) -> None:
        answer = {
            "backend": self._name,
            "method": request.headers[b":method"].decode(),
            "path": request.headers[b":path"].decode(),
            "forwarded_for": request.headers.get(b"x-forwarded-for", b"").decode(),
            "received": request.received,
            "sha256": request.digest.hexdigest(),
        }
        body = json.dumps(answer).encode() + b"\n"
        headers = [
            (":status", "200"),
            ("content-type", "application/json"),
            ("x-backend", self._name),
        ]
        is_head = answer["method"] == "HEAD"
        if not is_head:
            # aioquic's client would hold it against the content, which HEAD has none of.
            headers.append(("content-length", str(len(body))))
        self._h2.send_headers(stream, headers, end_stream=is_head)
        if not is_head:
            # Shorter than the smallest flow-control window there is.
            self._h2.send_data(stream, body, end_stream=True)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)


async def start_backend(name: str) -> tuple[asyncio.Server, int]:
    """Start a backend on a free port of the loopback; return it and the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: DemoBackend(name), "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]
