"""A backend that takes whatever it is sent, answers 200 to what is whole, and keeps a record.

HTTP/2 without TLS, in a thread of the test's own process, so that a test reads the record as it
is. It checks nothing: what a proxy lets through is for the test to judge.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

Fields = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Seen:
    """One request as the backend saw it."""

    fields: Fields
    content: bytes = b""
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def values(self, name: bytes) -> list[bytes]:
        """List the values of a field of the head."""
        return [value for key, value in self.fields if key == name]


class _Connection(asyncio.Protocol):
    def __init__(self, seen: list[Seen]) -> None:
        self._seen = seen
        self._requests: dict[int, Seen] = {}
        self._http = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._http.initiate_connection()
        self._transport.write(self._http.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._http.receive_data(data):
            self._take(event)
        self._transport.write(self._http.data_to_send())

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                seen = self._requests[event.stream_id] = Seen(event.headers)
                self._seen.append(seen)
            case DataReceived():
                self._requests[event.stream_id].content += event.data or b""
            case TrailersReceived():
                self._requests[event.stream_id].trailers = event.headers
            case StreamEnded():
                self._requests[event.stream_id].ended = True
                self._http.send_headers(event.stream_id, [(b":status", b"200")], end_stream=True)
            case StreamReset():
                self._requests[event.stream_id].reset = int(event.error_code or 0)
            case _:
                pass


@dataclass(slots=True)
class Recorder:
    """The backend and its record."""

    address: str
    seen: list[Seen]
    """All requests, in the order in which they came."""


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Run the backend until the block ends."""
    seen: list[Seen] = []
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: _Connection(seen), "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Recorder(f"127.0.0.1:{port}", seen)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
