"""The response of one exchange as the client is given it: the backend's, or one of our own.

It counts what was sent and what the client has not made room for yet; it never decides.
"""

from typing import Protocol

from spooky.errors import H3Code, Kind
from spooky.policy.deadline import is_grpc_call
from spooky.protocol import headers, replies
from spooky.protocol.messages import Body, DownstreamEngine, Headers, RequestHead
from spooky.worker.call import Call, tell_failure

_TOO_LATE = 504


class Creditor(Protocol):
    """The stream of the backend that sends the content."""

    def consume(self, count: int) -> None:
        """Take back flow-control credit of content that was passed on."""


class Response:
    """What was sent on a client's stream."""

    __slots__ = ("_engine", "_stream", "owed", "sent_bytes", "status")

    def __init__(self, engine: DownstreamEngine, stream: int) -> None:
        self._engine = engine
        self._stream = stream
        self.status = 0
        self.sent_bytes = 0
        self.owed = 0
        """Octets of content that the client has not made room for yet."""

    def head(self, status: int, fields: Headers, *, end: bool) -> None:
        """Send the head."""
        self.status = status
        self._engine.send_head(self._stream, status, fields, end=end)

    def body(self, body: Body, creditor: Creditor | None) -> None:
        """Send content of the backend, and give it credit if the client has room."""
        self.sent_bytes += len(body.data)
        self._engine.send_body(self._stream, body.data, end=body.end)
        if not body.end:
            self.owed += body.credit
            if self._engine.writable(self._stream):
                self.repay(creditor)

    def repay(self, creditor: Creditor | None) -> None:
        """Let the backend send on: the client has made room."""
        if self.owed and creditor is not None:
            owed, self.owed = self.owed, 0
            creditor.consume(owed)

    def answer(
        self, kind: Kind, request: RequestHead | None, request_id: bytes, call: Call | None
    ) -> None:
        """Send the response that a failure has; `call` is None where no route was found."""
        accept = headers.accept_of(request) if request is not None else None
        status, fields, body = replies.error_reply(kind, request_id, accept)
        if status == _TOO_LATE and request is not None and is_grpc_call(request.headers):
            status, fields, body = replies.grpc_deadline_reply(kind, request_id)
        if call is not None:
            fields = tell_failure(call, fields, request_id)
        is_head = request is not None and request.method == b"HEAD"
        self.whole(status, fields, b"" if is_head else body)

    def whole(self, status: int, fields: Headers, content: bytes) -> None:
        """Send a response that is all there."""
        self.sent_bytes = len(content)
        self.head(status, fields, end=not content)
        if content:
            self._engine.send_body(self._stream, content, end=True)

    def reset(self, code: H3Code, status: int) -> None:
        """Break it off; `status` is what is noted where no head was sent."""
        self._engine.reset(self._stream, code)
        self.status = self.status or status
