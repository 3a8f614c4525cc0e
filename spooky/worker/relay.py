"""One exchange: a request of a client, taken to a backend, and the response taken back.

It decides (through `policy`) and translates (through `protocol.headers`); content streams through
it unheld: what one side does not take, the other may not send. There is no task per exchange.
"""

import logging
import time

from spooky.errors import CONSEQUENCES, H3_OF_H2, H2Code, H3Code, Kind, Origin
from spooky.policy.retry import Verdict
from spooky.protocol import headers
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
from spooky.worker.arrival import receive
from spooky.worker.attempt import Attempt
from spooky.worker.backend_stream import StreamEvent
from spooky.worker.call import Call, Hold, Refusal, give_back, leave_gates, own_answer, pass_gates
from spooky.worker.contain import contained
from spooky.worker.deadlines import Progress
from spooky.worker.observe import Outcome
from spooky.worker.reached import note_failure
from spooky.worker.response import Response
from spooky.worker.services import Connection, Services
from spooky.worker.tries import NO_TRIES, Tries
from spooky.worker.upload import Upload

log = logging.getLogger("spooky.relay")

_LEFT = frozenset((Kind.CLIENT_RESET, Kind.CLIENT_GONE))
_TOLD = frozenset((Verdict.BUDGET_SPENT, Verdict.NO_TIME, Verdict.NOT_REPLAYABLE))
"""Why a request was not tried again, where the log would not show it otherwise."""


class Exchange:
    """A request and its response."""

    __slots__ = (
        "_call",
        "_client",
        "_engine",
        "_progress",
        "_request",
        "_request_id",
        "_response",
        "_services",
        "_state",
        "_stream",
        "_tries",
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
        self._call: Call | None = None
        self._tries: Tries | None = None
        self._upload: Upload | None = None
        self._response = Response(engine, stream)
        services.exchanges.add(self)

    # --- the request ------------------------------------------------------------------------

    @contained
    def start(self, head: RequestHead) -> None:
        """Take the request's head: check it, find its route, pass the gates."""
        services, client = self._services, self._client
        self._request = head
        self._request_id = headers.request_id(head) or services.new_request_id()
        self._upload = Upload(
            self._engine, self._stream, services.limits.retry_body_bytes, empty=head.end
        )
        call = receive(head, client, services, self._request_id, self._upload)
        if isinstance(call, Refusal):
            self.fail(call.kind, call.detail)
            return
        self._call = call
        if call.own is None:
            self._tries = Tries(self, call, self._upload, services, self._request_id)
            if not self._tries.note_deadline(self._progress.started_at):
                self.fail(Kind.DEADLINE, "no time was left when the request came")
                return
        self._state = next_state(self._state, Step.ROUTE)
        self._enter()

    def _enter(self) -> None:
        """Pass the gates, then ask a backend, or answer as the route says."""
        assert self._call is not None
        tries = self._tries
        match pass_gates(self._call.gates, self._call, self):
            case None:
                if tries is None:
                    self._response.whole(*own_answer(self._call, self._request_id))
                    self._complete()
                    self._client.touch()
                elif (refusal := tries.first()) is not None:
                    self.fail(refusal.kind, refusal.detail)
            case Refusal() as refusal:
                self.fail(refusal.kind, refusal.detail)
            case Hold.HELD:
                pass

    # --- gates (call.Held) ------------------------------------------------------------------

    @contained
    def proceed(self) -> None:
        """Go on: a gate that held it lets it pass."""
        if self._state is State.WAITING:
            self._enter()

    @contained
    def refuse_at_gate(self, refusal: Refusal) -> None:
        """End: a gate that held it does not let it pass."""
        self.fail(refusal.kind, refusal.detail)

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
                attempt = self._tries.current if self._tries else None
                self._response.repay(attempt.stream if attempt else None)
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

    # --- the backend (attempt.Trying) -------------------------------------------------------

    @contained
    def on_stream(self, attempt: Attempt) -> None:
        """Send the content of the request: its head has been sent."""
        assert self._upload is not None
        assert attempt.stream is not None
        if self._state is State.WAITING:
            self._state = next_state(self._state, Step.STREAM)
        self._progress.active_at = attempt.sent_at
        self._upload.attach(attempt.stream)

    @contained
    def on_no_stream(self, attempt: Attempt, kind: Kind, detail: str) -> None:
        """Try elsewhere, or give up: the backend has no stream for us."""
        self._attempt_failed(attempt, kind, detail, unprocessed=True)

    @contained
    def on_lost(self, attempt: Attempt, detail: str, unprocessed: bool) -> None:
        """Try elsewhere, or give up: the connection to the backend died."""
        self._attempt_failed(attempt, Kind.BACKEND_GONE, detail, unprocessed=unprocessed)

    @contained
    def on_event(self, attempt: Attempt, event: StreamEvent) -> None:
        """Take what the backend did on our stream."""
        assert self._upload is not None
        before, self._progress.active_at = self._progress.active_at, time.monotonic()
        match event:
            case Body():
                self._response.body(event, attempt.stream)
                if event.end:
                    self._complete()
            case ResponseHead():
                attempt.answered(self._progress.active_at)
                self._on_response_head(attempt, event)
            case Writable():
                self._upload.pump()
            case Trailers():
                self._engine.send_trailers(self._stream, headers.forward_trailers(event.headers))
                self._complete()
            case Interim():
                self._on_interim(event)
                if self._upload.finished:
                    # What is waited for is the response itself, however often it is announced.
                    self._progress.active_at = before
            case Malformed():
                self._attempt_failed(attempt, Kind.BAD_RESPONSE, event.reason, unprocessed=False)
            case Reset():
                attempt.stream = None
                self._on_backend_reset(attempt, event)
        self._client.touch()

    def _on_interim(self, interim: Interim) -> None:
        assert self._tries is not None
        if self._tries.is_alone():
            # Of two responses only one will be the client's.
            fields = headers.forward_interim(interim.headers)
            self._engine.send_interim(self._stream, interim.status, fields)

    def _on_response_head(self, attempt: Attempt, head: ResponseHead) -> None:
        assert self._upload is not None
        assert self._call is not None
        assert self._tries is not None
        if head.status in self._call.group.repetition.policy.statuses and self._goes_on(
            self._tries.failed(attempt, Kind.BAD_STATUS, unprocessed=False)
        ):
            return
        self._tries.won(attempt, self._progress.active_at)
        self._call.asked_at = attempt.sent_at
        self._call.latency = self._progress.active_at - attempt.sent_at
        self._state = next_state(self._state, Step.HEAD)
        self._upload.release()
        if self._call.group.sessions is not None:
            self._call.group.sessions.bind(self._call, attempt.target.identity)
        fields = give_back(self._call, head, self._request_id)
        self._response.head(head.status, fields, end=head.end)
        if head.end:
            self._complete()

    def _on_backend_reset(self, attempt: Attempt, event: Reset) -> None:
        code = H3_OF_H2.get(event.code, H3Code.INTERNAL_ERROR)
        detail = f"the backend reset the stream with code {event.code:#x}"
        kind, unprocessed = Kind.BACKEND_RESET, event.unprocessed
        self._attempt_failed(attempt, kind, detail, unprocessed=unprocessed, code=code)

    def _attempt_failed(
        self,
        attempt: Attempt,
        kind: Kind,
        detail: str,
        *,
        unprocessed: bool,
        code: H3Code | None = None,
    ) -> None:
        """Ask another backend where that is safe, else fail the exchange."""
        if self._state is State.DONE:
            return
        assert self._tries is not None
        if self._state is State.RESPONDING:
            self.fail(kind, detail, code)
            return
        verdict = self._tries.failed(attempt, kind, unprocessed=unprocessed)
        if not self._goes_on(verdict):
            told = f"{detail}; {verdict.value}" if verdict in _TOLD else detail
            self.fail(kind, told, code)

    def _goes_on(self, verdict: Verdict) -> bool:
        """Try again if that is what was decided; say whether another try runs or will."""
        if verdict is not Verdict.AGAIN:
            return verdict is Verdict.GOES_ON
        assert self._upload is not None
        assert self._tries is not None
        self._upload.detach()
        self._state = next_state(self._state, Step.RETRY)
        self._tries.again()
        return True

    # --- time -------------------------------------------------------------------------------

    @contained
    def check_time(self, now: float) -> None:
        """Fail if the exchange has been waiting for longer than its upstream allows."""
        if self._call is None or self._upload is None or self._tries is None:
            return
        self._progress.note_unread(self._engine.unacknowledged(self._stream), now)
        timeouts, limits = self._call.group.timeouts, self._services.limits
        kind = self._progress.overdue(
            timeouts, self._state, self._upload, self._response.owed, now
        ) or self._progress.slow(limits, self._state, self._upload, self._request, now)
        if kind is not None:
            self.fail(kind, f"after {now - self._progress.started_at:.1f} s")
        elif self._state is not State.RESPONDING:
            late = self._tries.overdue(self._progress.active_at, now)
            if late is not None:
                detail = f"after {now - late.began_at:.1f} s"
                unsent = not late.sent_at
                self._attempt_failed(late, Kind.TRY_TIMEOUT, detail, unprocessed=unsent)

    # --- the end ----------------------------------------------------------------------------

    def _complete(self) -> None:
        """End well: the whole response was given to the client's engine."""
        assert self._upload is not None
        if not self._upload.finished:
            # The backend has answered without waiting for all of the request; neither side
            # needs the rest (RFC 9114 section 4.1).
            self._cancel_tries(H2Code.NO_ERROR)
        self._finish(None, "")

    def fail(self, kind: Kind, detail: str, code: H3Code | None = None) -> None:
        """End badly: answer with an error where the response has not begun, else reset."""
        if self._state is State.DONE:
            return
        note_failure(self._services.bounds, kind)
        consequence = CONSEQUENCES[kind]
        if self._call is not None:
            self._call.failed = consequence.origin is Origin.BACKEND
        if kind in _LEFT or self._state is State.RESPONDING:
            self._response.reset(code or consequence.h3_code, consequence.status)
        else:
            self._response.answer(kind, self._request, self._request_id, self._call)
        self._cancel_tries(H2Code.CANCEL)
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
            self._cancel_tries(H2Code.CANCEL)
            self._response.status = self._response.status or CONSEQUENCES[Kind.CLIENT_GONE].status
            self._end(Kind.CLIENT_GONE, reason)

    def _cancel_tries(self, code: H2Code) -> None:
        if self._tries is not None:
            self._tries.cancel(code)

    def _finish(self, kind: Kind | None, detail: str) -> None:
        if self._upload is None or not self._upload.finished:
            self._engine.stop(self._stream, H3Code.NO_ERROR)
        self._end(kind, detail)

    def _end(self, kind: Kind | None, detail: str) -> None:
        """Let go of everything and report, without a word to the client's engine."""
        self._state = next_state(self._state, Step.END)
        if self._upload is not None:
            self._upload.settle()
        if self._tries is not None:
            self._tries.end()
        if self._call is not None:
            leave_gates(self._call)
        self._services.exchanges.discard(self)
        self._client.finished(self._stream)
        self._services.observer.record(self._outcome(kind, detail))
        self._tries = None  # They know this exchange, which only a collection would free then.

    def _outcome(self, kind: Kind | None, detail: str) -> Outcome:
        request, now = self._request, time.monotonic()
        account = self._tries.account(now) if self._tries is not None else NO_TRIES
        return Outcome(
            request_id=self._request_id,
            client=self._client.path.peer[0],
            method=(request.method if request else b"") or b"-",
            authority=request.authority if request else b"",
            path=(request.path if request else b"") or b"-",
            status=self._response.status,
            bytes_received=self._upload.received if self._upload else 0,
            bytes_sent=self._response.sent_bytes,
            duration=now - self._progress.started_at,
            upstream=self._call.group.name if self._call else "",
            backend=account.backend,
            identity=account.identity,
            backend_duration=account.duration,
            answer_time=account.answer_time,
            retries=account.retries,
            error=kind,
            detail=detail,
        )
