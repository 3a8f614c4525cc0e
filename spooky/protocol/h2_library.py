"""What of the h2 library does not suit a proxy, replaced through its public names.

Three things: after a GOAWAY h2 takes no frame more, though the streams below its last one go on
(RFC 9113 section 6.8); it closes the connection for a fault in one message; and it counts all
streams for each new one. The state of the streams, HPACK and the settings stay h2's.

A rule: `H2Engine` is the only user of this, and feeds one parsed frame at a time.
"""

from collections.abc import Iterable, Iterator

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    TrailersReceived,
)
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamInputs, StreamState
from hpack import Encoder
from hpack.struct import Header, HeaderWeaklyTyped
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, PushPromiseFrame

from spooky.protocol.hpack_decoder import FieldDecoder
from spooky.protocol.hpack_encoder import FieldEncoder

_SECTIONS = (ResponseReceived, TrailersReceived, InformationalResponseReceived)
_CONFIGURATION = H2Configuration(
    client_side=True,
    header_encoding=None,
    # The relay cleans what is sent; h2_fields checks what is received.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)


class _Machine(H2ConnectionStateMachine):
    """Lets every frame pass, for between its preface and its end a client may do all it does.

    That SETTINGS come first, and that nothing is fed after an error, is seen to elsewhere.
    """

    def process_input(self, input_: ConnectionInputs) -> list[Event]:  # noqa: ARG002
        return []


class _Feed(FrameBuffer):
    """Stands where h2 keeps its octets, and yields the one frame that is to be taken next."""

    frame: Frame

    def __iter__(self) -> Iterator[Frame]:  # type: ignore[override]
        return iter((self.frame,))


class Connection(H2Connection):
    """An `H2Connection` of a client that is fed with frames."""

    # Tells late frames of streams that were reset from wrong ones; h2 keeps 65,536.
    MAX_CLOSED_STREAMS = 1024

    def __init__(self, settings: dict[SettingCodes, int], decoded_bytes: int) -> None:
        super().__init__(_CONFIGURATION)
        self.state_machine = _Machine()
        self.local_settings = Settings(client=True, initial_values=settings)
        self.max_inbound_frame_size = self.local_settings.max_frame_size
        self.encoder = FieldEncoder()
        self.decoder = FieldDecoder()
        self.decoder.max_header_list_size = decoded_bytes
        self._feed = _Feed()
        self.incoming_buffer = self._feed

    def receive_frame(self, frame: Frame) -> list[Event]:
        """Act on a frame; return what it meant.

        Raises:
            ProtocolError: it breaks the protocol; a GOAWAY is ready to be sent.
        """
        # h2 makes the text of each frame for a log that is not kept: a third of a download's cost.
        frame.serialize_body = _nothing  # type: ignore[method-assign]
        if isinstance(frame, HeadersFrame):
            # It means nothing any more (RFC 9113 section 5.3), and h2 stumbles over some.
            frame.flags.discard("PRIORITY")
        self._feed.frame = frame
        return self.receive_data(b"")

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is to be sent: a GOAWAY ends no stream at or below its last."""

    def open_stream(self, number: int) -> H2Stream:
        """Add an idle stream, so that `send_headers` need not, which counts all the others."""
        stream = Stream(
            number,
            config=self.config,
            inbound_window_size=self.local_settings.initial_window_size,
            outbound_window_size=self.remote_settings.initial_window_size,
        )
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        self.streams[number] = stream
        self.highest_outbound_stream_id = number
        return stream

    def forget_closed(self) -> None:
        """Drop the state of streams that are closed; to be called now and then."""
        _ = self.open_outbound_streams  # It prunes while it counts.


class Stream(H2Stream):
    """An `H2Stream` that tells of a message as it is, and leaves its faults to be found."""

    def send_headers(
        self, headers: Iterable[HeaderWeaklyTyped], encoder: Encoder, end_stream: bool = False
    ) -> list[HeadersFrame | ContinuationFrame | PushPromiseFrame]:
        """Return the frames of a request's head or trailers, whose fields are taken as they are."""
        self.state_machine.process_input(StreamInputs.SEND_HEADERS)
        if end_stream:
            self.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        block = encoder.encode(headers)
        size = self.max_outbound_frame_size or len(block)
        frames: list[HeadersFrame | ContinuationFrame | PushPromiseFrame] = [
            HeadersFrame(self.stream_id, block[:size])
        ]
        frames += [
            ContinuationFrame(self.stream_id, block[start : start + size])
            for start in range(size, len(block), size)
        ]
        if end_stream:
            frames[0].flags.add("END_STREAM")
        frames[-1].flags.add("END_HEADERS")
        return frames

    def receive_headers(
        self,
        headers: Iterable[Header],
        end_stream: bool,
        header_encoding: bool | str | None,  # noqa: ARG002
    ) -> tuple[list[Frame], list[Event]]:
        """Tell of a head, an interim head or trailers; fields out of place are told as trailers."""
        section = list(headers)
        machine = self.state_machine
        if machine.trailers_received:
            return [], []
        # A late interim head of a stream that was reset is a late head; h2 has no such input.
        is_open = machine.state is not StreamState.CLOSED
        interim = is_open and not machine.headers_received and _is_interim(section)
        events = machine.process_input(
            StreamInputs.RECV_INFORMATIONAL_HEADERS if interim else StreamInputs.RECV_HEADERS
        )
        event = events[0]
        assert isinstance(
            event, ResponseReceived | TrailersReceived | InformationalResponseReceived
        )
        event.headers = section
        if end_stream:
            ended = machine.process_input(StreamInputs.RECV_END_STREAM)[0]
            assert isinstance(ended, StreamEnded)
            if isinstance(event, InformationalResponseReceived):
                return [], [event, ended]
            event.stream_ended = ended
        return [], events

    def receive_data(
        self, data: bytes, end_stream: bool, flow_control_len: int
    ) -> tuple[list[Frame], list[Event]]:
        """Tell of content, also where it comes before any head."""
        if self.state_machine.headers_received:
            return super().receive_data(data, end_stream, flow_control_len)
        event = DataReceived(
            stream_id=self.stream_id, data=data, flow_controlled_length=flow_control_len
        )
        return [], [event]


def _nothing() -> bytes:
    return b""


def _is_interim(section: list[Header]) -> bool:
    name, value = section[0] if section else (b"", b"")
    return name == b":status" and bytes(value)[:1] == b"1"
