"""The demo's HTTP/3 client, on aioquic: one connection, any number of requests at a time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset


@dataclass(slots=True)
class Answer:
    """What came back for one request; `seconds` from sending it to its last octet."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0


class DemoClient(QuicConnectionProtocol):
    """One HTTP/3 connection."""

    def __init__(self, quic: QuicConnection, stream_handler: None = None) -> None:
        super().__init__(quic, stream_handler)
        self._http = H3Connection(self._quic)
        self._answers: dict[int, tuple[Answer, asyncio.Future[Answer], float]] = {}

    async def request(self, method: str, authority: str, path: str, body: bytes = b"") -> Answer:
        """Send a request and wait for the whole answer; ConnectionError if there is none."""
        stream = self._quic.get_next_available_stream_id()
        headers = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            (b"user-agent", b"spooky-demo"),
        ]
        done = asyncio.get_running_loop().create_future()
        self._answers[stream] = (Answer(), done, time.monotonic())
        self._http.send_headers(stream, headers, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        return cast("Answer", await done)

    def quic_event_received(self, event: QuicEvent) -> None:
        """Take what the connection tells."""
        if isinstance(event, ConnectionTerminated):
            for stream in list(self._answers):
                self._fail(stream, event.reason_phrase or "the connection was closed")
        elif isinstance(event, StreamReset):
            self._fail(event.stream_id, f"the stream was reset with code {event.error_code:#x}")
        for http_event in self._http.handle_event(event):
            self._http_event_received(http_event)

    def _fail(self, stream: int, reason: str) -> None:
        if stream in self._answers:
            _, done, _ = self._answers.pop(stream)
            done.set_exception(ConnectionError(reason))

    def _http_event_received(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        if event.stream_id not in self._answers:
            return
        answer, done, started = self._answers[event.stream_id]
        if isinstance(event, HeadersReceived):
            for name, value in event.headers:
                answer.headers[name.decode()] = value.decode("latin-1")
            answer.status = int(answer.headers.get(":status", answer.status))
        else:
            answer.body += event.data
        if event.stream_ended:
            answer.seconds = time.monotonic() - started
            del self._answers[event.stream_id]
            done.set_result(answer)


@asynccontextmanager
async def http3(host: str, port: int, trusted: Path) -> AsyncIterator[DemoClient]:
    """Connect to an HTTP/3 server whose certificate is in `trusted` (PEM)."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], server_name="localhost"
    )
    configuration.load_verify_locations(str(trusted))
    async with connect(
        host, port, configuration=configuration, create_protocol=DemoClient
    ) as client:
        yield cast("DemoClient", client)
