"""One exchange: a request of a client, taken to a backend, and the response taken back.

It decides (through `policy`) and translates (through `protocol.headers`); content streams
through it both ways without being held: what one side does not take, the other is not allowed to
send. There is no task per exchange: it acts when an engine or the pool tells it something.
"""

import logging
import time

from spooky.errors import CONSEQUENCES, H3_OF_H2, H2Code, H3Code, Kind
from spooky.policy.retry import may_retry
from spooky.protocol import headers, replies
from spooky.protocol.exchange import State, Step, next_state
from spooky.protocol.messages import (
    Body,
    DownstreamEngine,
    Interim,
    Malformed,
    RequestHead,
    Reset,
    ResponseHead,
    Stopped,
    Trailers,
    Writable,
)
from spooky.worker.backend import BackendStream
from spooky.worker.contain import contained
from spooky.worker.deadlines import Progress
from spooky.worker.observe import Outcome
from spooky.worker.pool import Ticket
from spooky.worker.services import Connection, Services
from spooky.worker.upload import Upload
from spooky.worker.upstreams import Target, UpstreamGroup

log = logging.getLogger("spooky.relay")

_LEFT = frozenset((Kind.CLIENT_RESET, Kind.CLIENT_GONE))


class Exchange:
    """A request and its response."""

    __slots__ = (
        "_client",
        "_engine",
        "_group",
        "_owed",
        "_progress",
        "_request",
        "_request_id",
        "_retries",
        "_sent_bytes",
        "_services",
        "_state",
        "_status",
        "_stream",
        "_target",
        "_ticket",
        "_to_backend",
        "_tried",
        "_upload",
    )

    def __init__(
        self, client: Connection, engine: DownstreamEngine, services: Services, stream: int
    ) -> None:
        self._client = client
        self._engine = engine
        self._services = services
        self._stream = stream
        self._state = State.NEW
        self._progress = Progress(time.monotonic())
        self._request: RequestHead | None = None
        self._request_id = b""
        self._group: UpstreamGroup | None = None
        self._target: Target | None = None
        self._tried: list[int] = []
        self._ticket: Ticket | None = None
        self._to_backend: BackendStream | None = None
        self._upload: Upload | None = None
        self._owed = 0
        """Octets of the response that the client has not made room for yet."""
        self._retries = 0
        self._status = 0
        self._sent_bytes = 0
        services.exchanges.add(self)

    # --- the request ------------------------------------------------------------------------

    @contained
    def start(self, head: RequestHead) -> None:
        """Take the request's head: check it, find its upstream, ask for a backend."""
        services = self._services
        self._request = head
        self._request_id = headers.request_id(head) or services.new_request_id()
        self._upload = Upload(
            self._engine, self._stream, services.limits.retry_body_bytes, empty=head.end
        )
        fault = headers.check_request(head, services.limits)
        if fault is not None:
            self.fail(fault.kind, fault.reason)
            return
        host = headers.host_of(head)
        if services.misdirected(self._client.server_name, host):
            self.fail(Kind.MISDIRECTED, f"{host} on a connection for {self._client.server_name}")
            return
        self._group = services.upstreams.find(host, head.path)
        if self._group is None:
            self.fail(Kind.NO_ROUTE, "")
            return
        self._state = next_state(self._state, Step.ROUTE)
        self._ask(Kind.NO_BACKEND, "every backend is out of service")

    def _ask(self, kind: Kind, detail: str) -> None:
        """Ask a backend that was not asked yet; if there is none, fail with `kind`."""
        assert self._group is not None
        assert self._request is not None
        target = self._group.pick(self._tried)
        if target is None:
            self.fail(kind, detail)
            return
        if self._target is not None:
            self._services.observer.record_retry(self._group.name, self._target.id, kind)
        self._target = target
        self._tried.append(target.index)
        head = headers.forward_request(
            self._request, self._client.path, self._request_id, target.scheme
        )
        # The stream may be there at once, so `on_stream` may run before `request` returns.
        ticket = target.pool.request(head, self)
        if self._state is State.WAITING and self._target is target:
            self._ticket = ticket

    @contained
    def refuse(self, kind: Kind, detail: str, head: RequestHead | None) -> None:
        """Answer what never became a request; `head` is what could be read of one."""
        self._request = head
        known = headers.request_id(head) if head is not None else None
        self._request_id = known or self._services.new_request_id()
        self.fail(kind, detail)

    @contained
    def on_client_event(self, event: Body | Trailers | Reset | Stopped | Writable) -> None:
        """Take what the client did after the head of the request."""
        assert self._upload is not None
        self._progress.active_at = time.monotonic()
        match event:
            case Body():
                limit = self._services.limits.request_body_bytes
                if limit and self._upload.received + len(event.data) > limit:
                    self.fail(Kind.BODY_TOO_LARGE, f"more than {limit} octets of content")
                    return
                self._upload.offer(event.data, event.credit, end=event.end)
            case Trailers():
                self._on_request_trailers(event)
            case Writable():
                self._repay()
            case Reset() | Stopped():
                self.fail(Kind.CLIENT_RESET, f"code {event.code:#x}")
        self._client.touch()

    def _on_request_trailers(self, trailers: Trailers) -> None:
        assert self._upload is not None
        fault = headers.check_trailers(trailers.headers, self._services.limits)
        if fault is not None:
            self.fail(fault.kind, fault.reason)
        else:
            self._upload.offer_trailers(headers.forward_trailers(trailers.headers))

    # --- the backend (pool.StreamHandler) ---------------------------------------------------

    @contained
    def on_stream(self, stream: BackendStream) -> None:
        """Send the content of the request: its head has been sent on this stream."""
        assert self._upload is not None
        self._ticket = None
        self._to_backend = stream
        self._state = next_state(self._state, Step.STREAM)
        self._progress.sent_at = self._progress.active_at = time.monotonic()
        self._upload.attach(stream)

    @contained
    def on_no_stream(self, kind: Kind, detail: str) -> None:
        """Try elsewhere, or give up: the backend has no stream for us."""
        self._ticket = None
        self._attempt_failed(kind, detail, unprocessed=True)

    @contained
    def on_lost(self, detail: str, unprocessed: bool) -> None:
        """Try elsewhere, or give up: the connection to the backend died."""
        self._to_backend = None
        self._attempt_failed(Kind.BACKEND_GONE, detail, unprocessed=unprocessed)

    @contained
    def on_event(
        self, event: ResponseHead | Interim | Body | Trailers | Reset | Malformed | Writable
    ) -> None:
        """Take what the backend did on our stream."""
        assert self._upload is not None
        self._progress.active_at = time.monotonic()
        match event:
            case Body():
                self._on_response_body(event)
            case ResponseHead():
                self._on_response_head(event)
            case Writable():
                self._upload.pump()
            case Trailers():
                self._engine.send_trailers(self._stream, headers.forward_trailers(event.headers))
                self._complete()
            case Interim():
                fields = headers.forward_interim(event.headers)
                self._engine.send_interim(self._stream, event.status, fields)
            case Malformed():
                self.fail(Kind.BAD_RESPONSE, event.reason)
            case Reset():
                self._on_backend_reset(event)
        self._client.touch()

    def _on_response_head(self, head: ResponseHead) -> None:
        assert self._upload is not None
        self._state = next_state(self._state, Step.HEAD)
        self._upload.release()
        self._status = head.status
        fields = headers.forward_response(head, self._request_id)
        self._engine.send_head(self._stream, head.status, fields, end=head.end)
        if head.end:
            self._complete()

    def _on_response_body(self, body: Body) -> None:
        assert self._to_backend is not None
        self._sent_bytes += len(body.data)
        self._engine.send_body(self._stream, body.data, end=body.end)
        if body.end:
            self._complete()
            return
        self._owed += body.credit
        if self._engine.writable(self._stream):
            self._repay()

    def _repay(self) -> None:
        """Let the backend send on: the client has made room."""
        if self._owed and self._to_backend is not None:
            owed, self._owed = self._owed, 0
            self._to_backend.consume(owed)

    def _on_backend_reset(self, event: Reset) -> None:
        self._to_backend = None
        code = H3_OF_H2.get(event.code, H3Code.INTERNAL_ERROR)
        detail = f"the backend reset the stream with code {event.code:#x}"
        self._attempt_failed(Kind.BACKEND_RESET, detail, unprocessed=event.unprocessed, code=code)

    def _attempt_failed(
        self, kind: Kind, detail: str, *, unprocessed: bool, code: H3Code | None = None
    ) -> None:
        """Ask another backend where that is safe, else fail the exchange."""
        if self._state is State.DONE:
            return
        assert self._upload is not None
        assert self._request is not None
        retry = self._state is not State.RESPONDING and may_retry(
            kind,
            self._request.method,
            unprocessed=unprocessed,
            replayable=self._upload.replayable,
            retries=self._retries,
        )
        if not retry:
            self.fail(kind, detail, code)
            return
        if unprocessed and self._state is State.SENT:
            # It is not down, it only refused this stream: its next connection will do as well.
            self._tried.clear()
        self._retries += 1
        self._to_backend = None
        self._upload.detach()
        self._state = next_state(self._state, Step.RETRY)
        self._ask(kind, detail)

    # --- time -------------------------------------------------------------------------------

    @contained
    def check_time(self, now: float) -> None:
        """Fail if the exchange has been waiting for longer than its upstream allows."""
        if self._group is None or self._upload is None:
            return
        self._progress.note_unread(self._engine.unacknowledged(self._stream), now)
        timeouts = self._group.timeouts
        kind = self._progress.overdue(timeouts, self._state, self._upload, self._owed, now)
        if kind is not None:
            self.fail(kind, f"after {now - self._progress.started_at:.1f} s")

    # --- the end ----------------------------------------------------------------------------

    def _complete(self) -> None:
        """End well: the whole response was given to the client's engine."""
        assert self._upload is not None
        if not self._upload.finished:
            # The backend has answered without waiting for all of the request; neither side
            # needs the rest (RFC 9114 section 4.1).
            self._cancel_backend(H2Code.NO_ERROR)
        self._to_backend = None
        self._finish(None, "")

    def fail(self, kind: Kind, detail: str, code: H3Code | None = None) -> None:
        """End badly: answer with an error where the response has not begun, else reset."""
        if self._state is State.DONE:
            return
        consequence = CONSEQUENCES[kind]
        if kind in _LEFT or self._state is State.RESPONDING:
            self._engine.reset(self._stream, code or consequence.h3_code)
            self._status = self._status or consequence.status
        else:
            self._answer(kind)
        self._cancel_backend(H2Code.CANCEL)
        self._finish(kind, detail)
        self._client.touch()

    def fault(self, error: Exception) -> None:
        """End because of a fault of ours, which is logged."""
        detail = f"{type(error).__name__}: {error}"
        log.error(
            "internal error in an exchange: %s", detail, exc_info=log.isEnabledFor(logging.DEBUG)
        )
        self.fail(Kind.INTERNAL, detail)

    def abandon(self, reason: str) -> None:
        """End because the client connection is over; there is nobody to tell."""
        if self._state is not State.DONE:
            self._cancel_backend(H2Code.CANCEL)
            self._status = self._status or CONSEQUENCES[Kind.CLIENT_GONE].status
            self._end(Kind.CLIENT_GONE, reason)

    def _answer(self, kind: Kind) -> None:
        accept = headers.accept_of(self._request) if self._request is not None else None
        status, fields, body = replies.error_reply(kind, self._request_id, accept)
        self._status = status
        if self._request is not None and self._request.method == b"HEAD":
            body = b""
        self._sent_bytes = len(body)
        self._engine.send_head(self._stream, status, fields, end=not body)
        if body:
            self._engine.send_body(self._stream, body, end=True)

    def _cancel_backend(self, code: H2Code) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()
        stream, self._to_backend = self._to_backend, None
        if stream is not None:
            stream.cancel(code)

    def _finish(self, kind: Kind | None, detail: str) -> None:
        if self._upload is None or not self._upload.finished:
            self._engine.stop(self._stream, H3Code.NO_ERROR)
        self._end(kind, detail)

    def _end(self, kind: Kind | None, detail: str) -> None:
        """Let go of everything and report, without a word to the client's engine."""
        self._state = next_state(self._state, Step.END)
        if self._upload is not None:
            self._upload.settle()
        self._services.exchanges.discard(self)
        self._client.finished(self._stream)
        self._services.observer.record(self._outcome(kind, detail))

    def _outcome(self, kind: Kind | None, detail: str) -> Outcome:
        now = time.monotonic()
        sent_at = self._progress.sent_at
        request = self._request
        return Outcome(
            request_id=self._request_id,
            client=self._client.path.peer[0],
            method=(request.method if request else b"") or b"-",
            authority=request.authority if request else b"",
            path=(request.path if request else b"") or b"-",
            status=self._status,
            bytes_received=self._upload.received if self._upload else 0,
            bytes_sent=self._sent_bytes,
            duration=now - self._progress.started_at,
            upstream=self._group.name if self._group else "",
            backend=self._target.id if self._target else "",
            backend_duration=now - sent_at if sent_at else 0.0,
            retries=self._retries,
            error=kind,
            detail=detail,
        )
