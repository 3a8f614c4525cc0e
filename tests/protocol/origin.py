"""A server of content on a downstream engine, that heeds its windows both ways."""

from dataclasses import dataclass, field

from spooky.protocol.messages import (
    Body,
    DownstreamEvent,
    Headers,
    RequestHead,
    Trailers,
    Writable,
)
from tests.protocol.quic_pair import Pair


@dataclass
class Origin:
    """Answers each whole request with `content`, and writes no more than there is room for."""

    pair: Pair
    content: bytes = b""
    trailers: Headers | None = None
    consuming: bool = True
    received: dict[int, bytearray] = field(default_factory=dict)
    most_buffered: int = 0
    _left: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pair.on_event = self.on_event

    def on_event(self, event: DownstreamEvent) -> None:
        match event:
            case RequestHead():
                self.received[event.stream] = bytearray()
                if event.end:
                    self._answer(event.stream)
            case Body():
                self.received[event.stream] += event.data
                if self.consuming:
                    self.pair.engine.consume(event.stream, event.credit)
                if event.end:
                    self._answer(event.stream)
            case Trailers():
                self._answer(event.stream)
            case Writable():
                self._write(event.stream)
            case _:
                pass

    def _answer(self, stream: int) -> None:
        size = str(len(self.content)).encode()
        end = not self.content and self.trailers is None
        self.pair.engine.send_head(stream, 200, [(b"content-length", size)], end=end)
        self._left[stream] = self.content
        if not end:
            self._write(stream)

    def _write(self, stream: int) -> None:
        engine = self.pair.engine
        left = self._left.get(stream, b"")
        while left and (room := engine.writable(stream)):
            data, left = left[: min(room, 16384)], left[min(room, 16384) :]
            engine.send_body(stream, data, end=not left and self.trailers is None)
        if self._left.get(stream) and not left and self.trailers is not None:
            engine.send_trailers(stream, self.trailers)
        self._left[stream] = left
