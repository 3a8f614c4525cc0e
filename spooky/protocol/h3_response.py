"""The sending half of HTTP/3's request streams: responses as frames, gathered until `flush`.

It owns what waits to be sent, and ends the sending half of a stream. It never reads a request, and
resets nothing: `h3.py` does both.
"""

from spooky.protocol import varint
from spooky.protocol.h3_control import ControlStreams, StreamTransport
from spooky.protocol.h3_request import RequestStream, Writing, clear_out, write
from spooky.protocol.messages import Headers


class ResponseWriter:
    """Sends the responses of a connection; `requests` is shared with the half that receives."""

    def __init__(
        self,
        transport: StreamTransport,
        control: ControlStreams,
        requests: dict[int, RequestStream],
    ) -> None:
        self._transport = transport
        self._control = control
        self._requests = requests
        self._unsent: list[RequestStream] = []

    def send_section(self, stream: int, fields: Headers, *, end: bool, last: bool) -> None:
        """Send a field section. `last`: it is the final response's, or the trailers."""
        request = self._requests.get(stream)
        if request is None or request.writing is Writing.ENDED:
            return
        block = self._control.encode(stream, fields)
        self._queue(request, varint.frame(varint.FRAME_HEADERS, block))
        if end:
            self._end_writing(request)
        elif last:
            request.writing = Writing.BODY

    def send_data(self, stream: int, data: bytes, *, end: bool) -> None:
        """Send a DATA frame."""
        request = self._requests.get(stream)
        if request is None or request.writing is Writing.ENDED:
            return
        if data:
            self._queue(request, b"\x00" + varint.encode(len(data)))
            write(request, data)
        if end:
            self._end_writing(request)

    def _queue(self, request: RequestStream, octets: bytes) -> None:
        if not request.out:
            self._unsent.append(request)
        write(request, octets)

    def _end_writing(self, request: RequestStream) -> None:
        if not request.out:
            self._transport.send(request.number, b"", end=True)
        request.writing = Writing.ENDED
        self._forget_if_over(request)

    def flush(self) -> None:
        """Give to QUIC what was written since the last call, each stream's in one piece."""
        self._control.flush()
        if not self._unsent:
            return
        for request in self._unsent:
            if request.out:
                octets = b"".join(request.out)
                clear_out(request)
                ended = request.writing is Writing.ENDED
                self._transport.send(request.number, octets, end=ended)
                if ended:
                    self._forget_if_over(request)
        self._unsent.clear()

    def unsent(self, stream: int) -> int:
        """Count the octets of the stream that wait for `flush`."""
        request = self._requests.get(stream)
        return request.out_bytes if request is not None else 0

    def _forget_if_over(self, request: RequestStream) -> None:
        if request.is_over:
            self._requests.pop(request.number, None)
