"""One connection of the scripted backend: cleartext HTTP/2 with the h2 package.

Gives flow-control credit per stream, so that one slow upload does not hold up another request,
and remembers what became of each request that names a `token`. What a path makes it do is an
`Action`; those are in `scripted`.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast
from urllib.parse import parse_qs

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from tests.e2e.content import chunks

Field: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = list[Field]

SEEN: dict[str, dict[str, object]] = {}
"""By token: `state` (begun, ended, cancelled), `attempts`, `received`, the `fields` of the head,
and `code` of a cancel."""


@dataclass(slots=True)
class Request:
    """One request as far as it has arrived."""

    stream: int
    fields: Fields
    headers: dict[bytes, bytes]
    """The same without order; the last of equal names."""
    action: str
    query: dict[str, str]
    trailers: Fields = field(default_factory=list)
    received: int = 0
    hasher: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    owed: int = 0
    """Octets whose flow-control credit has not been given back."""

    def number(self, name: str, default: int = 0) -> int:
        """Read a number of the query."""
        return int(self.query.get(name, default))

    def note(self, **facts: object) -> None:
        """Remember facts about the request, if it has a token."""
        if "mark" in self.query:
            SEEN.setdefault(self.query["mark"], {"attempts": 0}).update(facts)

    def attempts(self) -> int:
        """Count how often a request with this token was begun, this time included."""
        return cast("int", SEEN[self.query["mark"]]["attempts"])


def nothing(_connection: "Connection", _request: Request) -> None:
    """Do nothing."""


def credit_at_once(connection: "Connection", request: Request) -> None:
    """Let the proxy send on as soon as content has arrived."""
    connection.credit(request, request.owed)


@dataclass(frozen=True, slots=True)
class Action:
    """What to do when a request's head, a piece of its content and its end have arrived."""

    begin: Callable[["Connection", Request], None] = nothing
    read: Callable[["Connection", Request], None] = credit_at_once
    end: Callable[["Connection", Request], None] = nothing


NOT_FOUND = Action(end=lambda connection, request: connection.answer(request, 404, b"no action"))


def _request(event: RequestReceived) -> Request:
    fields = event.headers
    headers = dict(fields)
    path, _, query = headers[b":path"].decode().partition("?")
    request = Request(
        stream=event.stream_id,
        fields=fields,
        headers=headers,
        action=path.rsplit("/", 1)[-1],
        query={name: values[0] for name, values in parse_qs(query).items()},
    )
    seen = SEEN.get(request.query.get("mark", ""), {"attempts": 0})
    request.note(state="begun", attempts=cast("int", seen["attempts"]) + 1, received=0)
    known = {name.decode(): value.decode("latin1") for name, value in headers.items()}
    request.note(fields=known)
    return request


class Connection(asyncio.Protocol):
    """One connection of the proxy."""

    transport: asyncio.Transport

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = actions
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.http = H2Connection(config)
        self.requests: dict[int, Request] = {}
        self.unsent: dict[int, bytearray] = {}
        self._trailers: dict[int, Fields] = {}
        self.broken = False
        """The connection's octets are no longer HTTP/2: nothing of `http` is sent any more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self.transport = cast("asyncio.Transport", transport)
        self.http.initiate_connection()
        self.http.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 100})
        self.http.increment_flow_control_window(1 << 24)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Act on what the proxy sent."""
        try:
            events = self.http.receive_data(data)
        except ProtocolError:
            self.flush()
            self.transport.close()
            return
        for event in events:
            self._handle(event)
        self.flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Remember that all requests that were open are cancelled."""
        for request in self.requests.values():
            request.note(state="cancelled", code=None)
        self.requests.clear()

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                request = _request(event)
                self.requests[request.stream] = request
                self._action(request).begin(self, request)
            case DataReceived(stream_id=stream, data=data):
                self._take(self.requests.get(stream), event, data or b"")
            case TrailersReceived(stream_id=stream):
                if stream in self.requests:
                    self.requests[stream].trailers = event.headers
            case StreamEnded(stream_id=stream):
                if stream in self.requests:
                    self._ended(self.requests[stream])
            case StreamReset(stream_id=stream):
                self._cancelled(stream, int(event.error_code or 0))
            case WindowUpdated():
                self._pump()
            case _:
                pass

    def _ended(self, request: Request) -> None:
        request.note(state="ended", received=request.received)
        self._action(request).end(self, request)

    def _cancelled(self, stream: int, code: int) -> None:
        self.unsent.pop(stream, None)
        request = self.requests.pop(stream, None)
        if request is not None:
            request.note(state="cancelled", code=code)

    def _action(self, request: Request) -> Action:
        return self._actions.get(request.action, NOT_FOUND)

    def _take(self, request: Request | None, event: DataReceived, data: bytes) -> None:
        length = event.flow_controlled_length or 0
        if request is None:
            # The connection's window must not leak through streams that are gone.
            self.http.increment_flow_control_window(max(length, 1))
            return
        request.received += len(data)
        request.hasher.update(data)
        request.note(received=request.received)
        request.owed += length
        self._action(request).read(self, request)

    def credit(self, request: Request, count: int) -> None:
        """Let the proxy send `count` more octets of the request's content."""
        count = min(count, request.owed)
        if count and request.stream in self.requests:
            request.owed -= count
            try:
                self.http.acknowledge_received_data(count, request.stream)
            except ProtocolError:
                return
            self.flush()

    def head(
        self, request: Request, status: int, fields: Iterable[Field] = (), *, end: bool = False
    ) -> None:
        """Send a response's head."""
        self.http.send_headers(request.stream, [(b":status", b"%d" % status), *fields], end)

    def interim(self, request: Request, status: int, fields: Iterable[Field] = ()) -> None:
        """Send an interim response."""
        self.http.send_headers(request.stream, [(b":status", b"%d" % status), *fields])
        self.flush()

    def answer(
        self, request: Request, status: int, data: bytes, fields: Iterable[Field] = ()
    ) -> None:
        """Send a whole response."""
        self.head(request, status, [*fields, (b"content-length", b"%d" % len(data))])
        self.send(request, data, end=True)

    def json(self, request: Request, value: object) -> None:
        """Answer with a JSON document."""
        self.answer(request, 200, json.dumps(value).encode())

    def json_with_trailers(self, request: Request, value: object, trailers: Fields) -> None:
        """Answer with a JSON document and a trailer section."""
        self.head(request, 200, [(b"content-type", b"application/json")])
        self._trailers[request.stream] = trailers
        self.send(request, json.dumps(value).encode(), end=True)

    def is_open(self, request: Request) -> bool:
        """Say whether the request is neither answered nor cancelled."""
        return request.stream in self.requests

    def reset(self, request: Request, code: int) -> None:
        """Send RST_STREAM."""
        self.requests.pop(request.stream, None)
        self.unsent.pop(request.stream, None)
        self.http.reset_stream(request.stream, code)
        self.flush()

    def send(self, request: Request, data: bytes, *, end: bool) -> None:
        """Send content as fast as the proxy takes it."""
        self.unsent.setdefault(request.stream, bytearray()).extend(data)
        if end:
            self.requests.pop(request.stream, None)
        self._pump()

    def send_content(self, request: Request, length: int) -> None:
        """Send octets of the known content, without an end."""
        for piece in chunks(length):
            self.send(request, piece, end=False)

    def _pump(self) -> None:
        for stream in list(self.unsent):
            pending = self.unsent[stream]
            try:
                room = self.http.local_flow_control_window(stream)
                while pending and room > 0:
                    size = min(room, self.http.max_outbound_frame_size, len(pending))
                    self.http.send_data(stream, bytes(pending[:size]))
                    del pending[:size]
                    room -= size
                if not pending:
                    del self.unsent[stream]
                    if stream not in self.requests:
                        self._end(stream)
            except ProtocolError:
                self.unsent.pop(stream, None)
        self.flush()

    def _end(self, stream: int) -> None:
        trailers = self._trailers.pop(stream, None)
        if trailers is None:
            self.http.end_stream(stream)
        else:
            self.http.send_headers(stream, trailers, end_stream=True)

    def flush(self) -> None:
        """Write what HTTP/2 has to say."""
        data = self.http.data_to_send()
        if data and not self.broken:
            self.transport.write(data)

    def break_off(self, raw: bytes, *, close: bool) -> None:
        """Write octets that need not be HTTP/2, and nothing sensible after them."""
        self.flush()
        self.broken = True
        self.transport.write(raw)
        if close:
            self.transport.close()
