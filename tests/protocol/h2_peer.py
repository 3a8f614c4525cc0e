"""The far end of an upstream engine: the h2 library as server, and frames written by hand."""

from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame

from spooky.protocol.messages import Headers, RequestHead, UpstreamEngine, UpstreamEvent

GET = RequestHead(0, b"GET", b"https", b"example.com", b"/", [], end=True)
POST = RequestHead(0, b"POST", b"https", b"example.com", b"/", [], end=False)
OK: Headers = [(b":status", b"200")]


class Peer:
    """A server made of h2, connected to the engine by function calls."""

    def __init__(self, engine: UpstreamEngine, settings: dict[SettingCodes, int] | None = None):
        self.engine = engine
        self.h2 = H2Connection(
            H2Configuration(
                client_side=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        for code, value in (settings or {}).items():
            self.h2.local_settings[code] = value
        self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.seen: list[Event] = []

    def connect(self) -> list[UpstreamEvent]:
        """Exchange the prefaces."""
        return self.turn()

    def turn(self) -> list[UpstreamEvent]:
        """Let each side have what the other sent, until there is nothing more."""
        events: list[UpstreamEvent] = []
        while True:
            out = self.engine.data_to_send()
            if out:
                self.seen += self.h2.receive_data(out)
            back = self.h2.data_to_send()
            if back:
                events += self.engine.receive(back)
            if not out and not back:
                return events

    def requests(self) -> list[RequestReceived]:
        return [event for event in self.seen if isinstance(event, RequestReceived)]

    def content(self, stream: int) -> bytes:
        return b"".join(
            event.data or b""
            for event in self.seen
            if isinstance(event, DataReceived) and event.stream_id == stream
        )

    def ended(self, stream: int) -> bool:
        return any(isinstance(e, StreamEnded) and e.stream_id == stream for e in self.seen)

    def resets(self) -> dict[int, int]:
        return {
            event.stream_id: int(event.error_code or 0)
            for event in self.seen
            if isinstance(event, StreamReset)
        }

    def answer(self, stream: int, body: bytes = b"hello", headers: Headers | None = None) -> None:
        """Send a whole response."""
        self.h2.send_headers(stream, headers or OK, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)


class RawPeer:
    """A server that writes whatever frames it is told to."""

    def __init__(self, engine: UpstreamEngine) -> None:
        self.engine = engine
        self.encoder = Encoder()
        assert engine.receive(SettingsFrame(0).serialize())

    def send(self, *frames: Frame) -> list[UpstreamEvent]:
        return self.engine.receive(b"".join(frame.serialize() for frame in frames))

    def headers(
        self, stream: int, fields: Iterable[tuple[bytes, bytes]], *flags: str
    ) -> HeadersFrame:
        return HeadersFrame(
            stream, self.encoder.encode(list(fields)), flags=["END_HEADERS", *flags]
        )

    @staticmethod
    def data(stream: int, data: bytes, *flags: str) -> DataFrame:
        return DataFrame(stream, data, flags=list(flags))

    @staticmethod
    def goaway(last: int, code: int = 0) -> GoAwayFrame:
        return GoAwayFrame(0, last_stream_id=last, error_code=code)
