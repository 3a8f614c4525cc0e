"""HTTP/3 (RFC 9114) as a server, over any QUIC: octets of streams in, messages out, and back.

It owns the requests of a connection; one stream's state is in `h3_request.py`, what sends a
response in `h3_response.py`, the control and QPACK streams in `h3_control.py`. aioquic's own
HTTP/3 layer is not used: it validates each octet of each field in Python, closes the connection
where a stream error will do, and has no GOAWAY.

A rule: every octet that arrives is either handed out in a `Body`, whose credit the receiver
gives back, or is credited here at once, so that no window leaks.
"""

import pylsqpack

from spooky.errors import H3Code
from spooky.protocol import varint
from spooky.protocol.flood import FREE_FRAMES, SMALL_FRAME, Floods
from spooky.protocol.h3_control import (
    ControlStreams,
    FieldSectionTooLargeError,
    H3ConnectionError,
    H3Limits,
    StreamTransport,
)
from spooky.protocol.h3_request import (
    Reading,
    RequestStream,
    Writing,
    check_frame,
    clear_out,
    make_head,
    partial_head,
    take,
    trim,
)
from spooky.protocol.h3_response import ResponseWriter
from spooky.protocol.messages import (
    Body,
    DownstreamEvent,
    Headers,
    Malformed,
    RequestBegun,
    RequestHead,
    Reset,
    Stopped,
    Trailers,
)


class H3Session:
    """The HTTP/3 session of one connection."""

    def __init__(self, transport: StreamTransport, limits: H3Limits, floods: Floods) -> None:
        self._transport = transport
        self._floods = floods
        self._header_bytes = limits.header_bytes
        self._requests: dict[int, RequestStream] = {}
        self._control = ControlStreams(transport, limits, floods)
        self.responses = ResponseWriter(transport, self._control, self._requests)
        """What sends; the rest of this class receives."""
        self._next_request = 0
        self._refuse_from: int | None = None
        self._events: list[DownstreamEvent] = []

    def open(self) -> None:
        """Open the control streams; to be called as soon as QUIC can send."""
        self._control.open()

    # --- receiving --------------------------------------------------------------------------

    def receive(self, stream: int, data: bytes, end: bool) -> list[DownstreamEvent]:
        """Take octets of a stream.

        Raises:
            H3ConnectionError: the client broke the protocol; the connection must be closed.
        """
        if stream & 3:
            self._receive_uni(stream, data, end)
        else:
            self._receive_request(stream, data, end)
        return self._take_events()

    def reset_received(self, stream: int, code: int) -> list[DownstreamEvent]:
        """Take the client's RESET_STREAM.

        Raises:
            H3ConnectionError: the stream was a critical one.
        """
        if stream & 3:
            self._control.closed(stream)
            return []
        request = self._requests.get(stream)
        if request is None:
            # Nothing of it was ever read: there is nobody who would answer.
            self._note_number(stream)
            self._note_cancelled()
            self._control.cancel(stream)
            self._transport.reset(stream, H3Code.REQUEST_INCOMPLETE)
            return []
        if request.writing is not Writing.ENDED:
            self._cancelled(request)
        if request.reading is Reading.HEADERS:
            self._transport.reset(stream, H3Code.REQUEST_INCOMPLETE)
            request.writing = Writing.ENDED
        if request.reading is not Reading.DISCARDING:
            self._events.append(Reset(stream, code))
        request.fin = True
        self._discard(request)
        return self._take_events()

    def stop_received(self, stream: int, code: int) -> list[DownstreamEvent]:
        """Take the client's STOP_SENDING; QUIC has reset our half already.

        Raises:
            H3ConnectionError: the stream was a critical one.
        """
        if stream & 3:
            self._control.closed(stream)
            return []
        request = self._requests.get(stream)
        if request is not None and request.writing is not Writing.ENDED:
            self._cancelled(request)
            request.writing = Writing.ENDED
            clear_out(request)
            if request.reading is not Reading.HEADERS:
                self._events.append(Stopped(stream, code))
            self._forget_if_done(request)
        return self._take_events()

    def _take_events(self) -> list[DownstreamEvent]:
        events, self._events = self._events, []
        return events

    def _receive_uni(self, stream: int, data: bytes, end: bool) -> None:
        self._transport.credit(stream, len(data))
        for number in self._control.receive(stream, data, end):
            request = self._requests.get(number)
            if request is not None and request.blocked:
                request.blocked = False
                self._read_section(request, None)
                self._read_frames(request)

    def _note_number(self, stream: int) -> None:
        self._next_request = max(self._next_request, stream + 4)

    def _cancelled(self, request: RequestStream) -> None:
        """Count a request that the client does not see through, once."""
        if not request.cancelled:
            request.cancelled = True
            self._note_cancelled()

    def _note_cancelled(self) -> None:
        if not self._floods.cancel(self._next_request // 4):
            raise H3ConnectionError(H3Code.EXCESSIVE_LOAD, "too many cancelled requests")

    def _open(self, stream: int) -> RequestStream:
        request = self._requests[stream] = RequestStream(stream)
        self._note_number(stream)
        if self._refuse_from is not None and stream >= self._refuse_from:
            self.reset(stream, H3Code.REQUEST_REJECTED)
        return request

    def _receive_request(self, stream: int, data: bytes, end: bool) -> None:
        request = self._requests.get(stream) or self._open(stream)
        request.fin = request.fin or end
        if request.reading is Reading.DISCARDING:
            self._transport.credit(stream, len(data))
            self._forget_if_done(request)
            return
        request.buffer = request.buffer + data if request.buffer else data
        if not request.blocked:
            self._read_frames(request)
        if request.reading is Reading.HEADERS and not request.announced:
            request.announced = True
            self._events.append(RequestBegun(stream))

    def _read_frames(self, request: RequestStream) -> None:
        """Read as much of the buffer as there are whole frames, or octets of DATA.

        A client may fill its window with frames of an octet: the cost of one must not depend
        on how many there are, so what they have in common is done once, after the last.
        """
        small = 0
        while request.reading is not Reading.DISCARDING and not request.blocked:
            if request.frame_left < 0:
                if not self._read_frame_header(request):
                    break
                if request.frame_left < SMALL_FRAME:
                    small += 1
                    if small > FREE_FRAMES and not self._floods.spend(1):
                        raise H3ConnectionError(H3Code.EXCESSIVE_LOAD, "too many small frames")
            if not self._read_payload(request):
                break
        trim(request)
        if request.fin and not request.blocked and request.reading is not Reading.DISCARDING:
            self._end_of_stream(request)
        self._tell_content(request, end=False)
        overhead, request.overhead = request.overhead, 0
        self._transport.credit(request.number, overhead)
        self._forget_if_done(request)

    def _read_frame_header(self, request: RequestStream) -> bool:
        kind, at = varint.decode(request.buffer, request.at)
        if at < 0:
            return False
        length, at = varint.decode(request.buffer, at)
        if at < 0:
            return False
        check_frame(request, kind)
        request.overhead += at - request.at
        request.at = at
        request.frame_kind = kind
        request.frame_left = length
        if kind == varint.FRAME_HEADERS and length > self._header_bytes:
            self._malformed(request, "the header section is too large", status=431)
            return False
        return True

    def _read_payload(self, request: RequestStream) -> bool:
        """Read one frame's payload, or what is there of DATA; say whether to go on."""
        available = request.unread
        left = request.frame_left
        if request.frame_kind == varint.FRAME_HEADERS:
            if available < left:
                return False
            payload = take(request, left)
            request.frame_left = -1
            request.overhead += left
            self._read_section(request, payload)
            return True
        count = min(left, available)
        if count == 0 and left > 0:
            return False
        request.frame_left = left - count or -1
        if request.frame_kind != varint.FRAME_DATA:
            request.at += count
            request.overhead += count
            return True
        request.content.append(take(request, count))
        request.received += count
        if 0 <= request.expected < request.received:
            self._malformed(request, "more content than content-length says")
        return True

    def _tell_content(self, request: RequestStream, *, end: bool) -> None:
        """Hand out in one piece what this pass has read of the content."""
        data = b"".join(request.content)
        request.content.clear()
        if data or end:
            request.owed += len(data)
            self._events.append(Body(request.number, data, end, len(data)))

    def _read_section(self, request: RequestStream, payload: bytes | None) -> None:
        """Decode a field section; None resumes one that waited for the encoder stream."""
        try:
            fields = self._control.decode(request.number, payload)
        except pylsqpack.StreamBlocked:
            request.blocked = True
            return
        except FieldSectionTooLargeError as error:
            head = partial_head(request.number, error.fields) if error.fields else None
            self._malformed(request, "the header section is too large", status=431, head=head)
            return
        if request.reading is Reading.BODY:
            self._read_trailers(request, fields)
            return
        made = make_head(request, fields)
        if isinstance(made, str):
            self._malformed(request, made, head=partial_head(request.number, fields))
            return
        request.reading = Reading.DISCARDING if made.end else Reading.BODY
        self._events.append(made)

    def _read_trailers(self, request: RequestStream, fields: Headers) -> None:
        if any(name.startswith(b":") for name, _ in fields):
            self._malformed(request, "a pseudo-header field among the trailers")
        elif 0 <= request.expected != request.received:
            self._malformed(request, "the content is not as long as content-length says")
        else:
            request.reading = Reading.ENDED
            self._tell_content(request, end=False)
            self._events.append(Trailers(request.number, fields))

    def _end_of_stream(self, request: RequestStream) -> None:
        """Deal with a FIN that the head did not tell of."""
        if request.buffer or request.frame_left >= 0:
            raise H3ConnectionError(H3Code.FRAME_ERROR, "the stream ended within a frame")
        if request.reading is Reading.HEADERS:
            self._cancelled(request)
            if request.announced:
                self._events.append(Reset(request.number, H3Code.REQUEST_INCOMPLETE))
            self.reset(request.number, H3Code.REQUEST_INCOMPLETE)
        elif request.reading is Reading.BODY:
            if request.expected > request.received:
                self._malformed(request, "less content than content-length says")
                return
            request.reading = Reading.DISCARDING
            self._tell_content(request, end=True)
        else:
            request.reading = Reading.DISCARDING

    def _malformed(
        self,
        request: RequestStream,
        reason: str,
        status: int = 400,
        head: RequestHead | None = None,
    ) -> None:
        if request.reading is not Reading.HEADERS:
            # A backend may be at work on it.
            self._cancelled(request)
        self._discard(request, settle=False)
        self._events.append(Malformed(request.number, reason, status, head))
        if not request.fin:
            self._transport.stop(request.number, H3Code.NO_ERROR)

    def _discard(self, request: RequestStream, *, settle: bool = True) -> None:
        """Read no more of the request. `settle`: its receiver will not credit what it got."""
        if request.reading < Reading.ENDED:
            # A section of it may be on its way, or wait for the encoder stream.
            self._control.cancel(request.number)
        request.reading = Reading.DISCARDING
        request.blocked = False
        credit = request.unread + sum(map(len, request.content))
        request.buffer, request.at = b"", 0
        request.content.clear()
        if settle:
            credit += request.owed
            request.owed = 0
        if credit:
            self._transport.credit(request.number, credit)
        self._forget_if_done(request)

    def _forget_if_done(self, request: RequestStream) -> None:
        if request.is_over:
            self._requests.pop(request.number, None)

    # --- verbs ------------------------------------------------------------------------------

    def consume(self, stream: int, count: int) -> None:
        """Credit `count` octets that were handed out in a `Body`."""
        request = self._requests.get(stream)
        if request is None:
            return
        count = min(count, request.owed)
        if count:
            request.owed -= count
            self._transport.credit(stream, count)
        if not request.owed:
            self._forget_if_done(request)

    def reset(self, stream: int, code: int) -> None:
        """Abandon both halves of the stream."""
        request = self._requests.get(stream)
        if request is None:
            return
        if request.writing is not Writing.ENDED or request.out:
            clear_out(request)
            request.writing = Writing.ENDED
        self._transport.reset(stream, code)
        self.stop(stream, code)

    def stop(self, stream: int, code: int) -> None:
        """Ask for no more of the request."""
        request = self._requests.get(stream)
        if request is None:
            return
        if not request.fin:
            self._transport.stop(stream, code)
        self._discard(request)

    def goaway(self) -> None:
        """Announce that no more requests are welcome; from the second call on refuse them.

        The first GOAWAY names the highest number there is, so that requests which cross it on
        the wire are still served (RFC 9114 section 5.2).
        """
        if self._refuse_from is None and not self._control.goaway_sent:
            self._control.send_goaway(varint.MAX_VARINT - 3)
            return
        if self._refuse_from is None:
            self._refuse_from = self._next_request
            self._control.send_goaway(self._refuse_from)
            for request in list(self._requests.values()):
                if request.reading is Reading.HEADERS:
                    # Its number is below the one announced, but nobody has begun to act on it.
                    self.reset(request.number, H3Code.REQUEST_REJECTED)

    def is_idle(self) -> bool:
        """Say whether no request is open; a stream whose head has not come is none."""
        return not any(request.is_open for request in self._requests.values())

    def held(self) -> int:
        """Count the octets that wait here, or with those who were handed them."""
        return sum(len(one.buffer) + one.owed + one.out_bytes for one in self._requests.values())
