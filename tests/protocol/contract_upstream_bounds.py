"""What every `UpstreamEngine` must bound, and which faults end a stream and which a connection.

The part of `contract_upstream` about servers that keep to the form and mean us harm, and about the
codes of errors (RFC 9113 sections 5.4, 5.1 and 6).
"""

import struct
from collections.abc import Iterable

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from spooky.errors import H2Code
from spooky.protocol.messages import (
    Body,
    Closed,
    GoAway,
    Interim,
    LimitChanged,
    Malformed,
    Pong,
    Reset,
    ResponseHead,
    UpstreamEvent,
)
from spooky.protocol.upstream import EMPTY_FRAME_OCTETS, MOST_EMPTY_FRAMES, MOST_REPLIES
from tests.protocol.contract_upstream_faults import LIMITS, UpstreamFaults, kinds
from tests.protocol.h2_peer import GET, OK, POST, RawPeer


def raw_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write a frame that hyperframe would not."""
    return struct.pack(">LBL", len(payload) << 8 | kind, flags, stream) + payload


FLOODS: list[tuple[str, bytes]] = [
    ("pings", PingFrame(0, b"12345678").serialize()),
    ("settings", SettingsFrame(0, {SettingCodes.MAX_CONCURRENT_STREAMS: 9}).serialize()),
    ("empty data", DataFrame(1, b"").serialize()),
    ("window updates", WindowUpdateFrame(1, 1).serialize()),
    ("priorities", PriorityFrame(1, 3).serialize()),
    ("resets of what is gone", RstStreamFrame(3, 8).serialize()),
    ("frames of no known type", raw_frame(0xBE, 0, 1, b"x")),
    ("heads of what is gone", raw_frame(1, 4, 3, b"\x88")),
    ("content of what is gone", raw_frame(0, 0, 3, b"x")),
]

COSTLY_FLOODS: list[tuple[str, bytes]] = [
    ("settings of many parameters", raw_frame(4, 0, 0, struct.pack(">HL", 4, 70_000) * 2700)),
    ("table sizes to and fro", raw_frame(4, 0, 0, b"\0\1\0\0\0\0\0\1\0\0\x10\0" * 1300)),
    ("long heads", raw_frame(1, 4, 3, b"\x88\x00\x01a\x7f\xd9\x35" + b"x" * 7000)),
    ("large frames of no known type", raw_frame(0xBE, 0, 1, b"x" * 16_000)),
    ("going away at length", raw_frame(7, 0, 0, b"\0\0\0\5\0\0\0\0" + b"x" * 16_000)),
    ("padding", raw_frame(0, 8, 1, b"\xff" + bytes(255))),
]
"""Each frame costs far more than one that is as short as can be, so fewer are too many."""


ENDINGS: list[tuple[str, bytes, H2Code]] = [
    ("DATA on stream 0", raw_frame(0, 0, 0, b"x"), H2Code.PROTOCOL_ERROR),
    ("DATA on an idle stream", raw_frame(0, 0, 99, b"x"), H2Code.PROTOCOL_ERROR),
    ("HEADERS on stream 0", raw_frame(1, 4, 0, b"\x88"), H2Code.PROTOCOL_ERROR),
    ("HEADERS on an idle stream", raw_frame(1, 4, 99, b"\x88"), H2Code.PROTOCOL_ERROR),
    ("HEADERS on a stream of the server's", raw_frame(1, 4, 2, b"\x88"), H2Code.PROTOCOL_ERROR),
    ("WINDOW_UPDATE on an idle stream", raw_frame(8, 0, 99, b"\0\0\0\1"), H2Code.PROTOCOL_ERROR),
    ("PUSH_PROMISE", raw_frame(5, 4, 1, b"\0\0\0\2\x88"), H2Code.PROTOCOL_ERROR),
    ("SETTINGS to push", raw_frame(4, 0, 0, b"\0\2\0\0\0\2"), H2Code.PROTOCOL_ERROR),
    ("SETTINGS of a tiny frame", raw_frame(4, 0, 0, b"\0\5\0\0\0\1"), H2Code.PROTOCOL_ERROR),
    ("SETTINGS of a huge window", raw_frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),
     H2Code.FLOW_CONTROL_ERROR),
    ("a window too large", raw_frame(8, 0, 0, b"\x7f\xff\xff\xff"), H2Code.FLOW_CONTROL_ERROR),
    ("SETTINGS that make a window too large",
     raw_frame(8, 0, 1, b"\x7f\xff\0\0") + raw_frame(4, 0, 0, b"\0\4\0\1\xff\xff"),
     H2Code.FLOW_CONTROL_ERROR),
    ("HEADERS too short for their priority", raw_frame(1, 0x24, 1, b"\0\0"),
     H2Code.FRAME_SIZE_ERROR),
    ("PING on a stream", raw_frame(6, 0, 1, b"12345678"), H2Code.PROTOCOL_ERROR),
    ("SETTINGS on a stream", raw_frame(4, 0, 1, b""), H2Code.PROTOCOL_ERROR),
    ("GOAWAY on a stream", raw_frame(7, 0, 1, b"12345678"), H2Code.PROTOCOL_ERROR),
    ("PRIORITY on stream 0", raw_frame(2, 0, 0, b"\0\0\0\0\1"), H2Code.PROTOCOL_ERROR),
    ("PING of 7 octets", raw_frame(6, 0, 0, b"1234567"), H2Code.FRAME_SIZE_ERROR),
    ("SETTINGS of 5 octets", raw_frame(4, 0, 0, b"12345"), H2Code.FRAME_SIZE_ERROR),
    ("RST_STREAM of 5 octets", raw_frame(3, 0, 1, b"12345"), H2Code.FRAME_SIZE_ERROR),
    ("WINDOW_UPDATE of 3 octets", raw_frame(8, 0, 0, b"123"), H2Code.FRAME_SIZE_ERROR),
    ("GOAWAY of 7 octets", raw_frame(7, 0, 0, b"1234567"), H2Code.FRAME_SIZE_ERROR),
    ("a frame over the limit", raw_frame(0, 0, 1, b"x" * 65_537), H2Code.FRAME_SIZE_ERROR),
    ("a header block that is none", raw_frame(1, 4, 1, b"\xff\xff\xff"), H2Code.COMPRESSION_ERROR),
    ("another table size than ours", raw_frame(1, 4, 1, b"\x3f\xe2\x1f"), H2Code.COMPRESSION_ERROR),
    ("CONTINUATION of nothing", raw_frame(9, 4, 1, b"\x88"), H2Code.PROTOCOL_ERROR),
    ("another stream's CONTINUATION",
     raw_frame(1, 0, 1, b"\x88") + raw_frame(9, 4, 3, b""), H2Code.PROTOCOL_ERROR),
]  # fmt: skip


class UpstreamBounds(UpstreamFaults):
    """Inherited by `UpstreamContract`."""

    # --- the code that a connection ends with ---------------------------------------------------

    @pytest.mark.parametrize(
        ("octets", "code"), [case[1:] for case in ENDINGS], ids=[case[0] for case in ENDINGS]
    )
    def test_the_code_of_a_breach(self, octets: bytes, code: H2Code) -> None:
        peer = self.raw()
        for _ in range(2):
            peer.engine.send_request(POST)
        peer.engine.data_to_send()
        events = peer.engine.receive(octets)
        assert kinds(events) == [Closed]
        assert isinstance(events[0], Closed)
        assert events[0].code == code
        assert goaway_code(peer.engine.data_to_send()) == code

    def test_more_than_a_window_ends_the_connection(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(GET)
        block = b"x" * 16_384
        peer.send(peer.headers(stream, OK))
        events = peer.send(*[peer.data(stream, block)] * 4)
        assert kinds(events) == [Body] * 4
        events = peer.send(peer.data(stream, b"x"))
        assert events[0].code == H2Code.FLOW_CONTROL_ERROR  # type: ignore[union-attr]

    # --- what costs a stream only ---------------------------------------------------------------

    def test_what_comes_after_the_end_costs_the_stream(self) -> None:
        """RFC 9113 section 5.1, half-closed (remote)."""
        peer = self.raw()
        stream, other = peer.engine.send_request(POST), peer.engine.send_request(GET)
        peer.send(peer.headers(stream, OK, "END_STREAM"))
        assert peer.send(peer.data(stream, b"x")) == [Reset(stream, H2Code.STREAM_CLOSED)]
        assert kinds(peer.send(peer.headers(other, OK, "END_STREAM"))) == [ResponseHead]

    def test_a_stream_that_ended_both_ways_takes_no_head(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(GET)
        peer.send(peer.headers(stream, OK, "END_STREAM"))
        events = peer.send(peer.headers(stream, OK))
        assert events[0].code == H2Code.STREAM_CLOSED  # type: ignore[union-attr]

    def test_a_window_too_large_costs_the_stream(self) -> None:
        """RFC 9113 section 6.9.1."""
        peer = self.raw()
        stream, other = peer.engine.send_request(POST), peer.engine.send_request(GET)
        events = peer.send(WindowUpdateFrame(stream, 2**31 - 1))
        assert kinds(events) in ([Malformed], [Reset])
        peer.engine.reset(stream, H2Code.FLOW_CONTROL_ERROR)
        assert kinds(peer.send(peer.headers(other, OK, "END_STREAM"))) == [ResponseHead]

    @pytest.mark.parametrize("by_us", [True, False])
    def test_late_frames_of_a_reset_stream_are_no_fault(self, by_us: bool) -> None:
        peer = self.raw()
        stream, other = peer.engine.send_request(GET), peer.engine.send_request(GET)
        if by_us:
            peer.engine.reset(stream, H2Code.CANCEL)
        else:
            peer.send(RstStreamFrame(stream, 8))
        late = peer.send(
            # It tells the decoder of a field that the next head has by its number.
            peer.headers(stream, [(b":status", b"103"), (b"server", b"some")]),
            peer.headers(stream, [*OK, (b"server", b"some")]),
            peer.data(stream, b"x" * 1000),
            WindowUpdateFrame(stream, 5),
            RstStreamFrame(stream, 0),
        )
        assert late == []
        events = peer.send(peer.headers(other, [*OK, (b"server", b"some")], "END_STREAM"))
        assert events == [ResponseHead(other, 200, [(b"server", b"some")], end=True)]

    def test_a_trimmed_frame(self) -> None:
        """Padding and priority are taken off, and padding is paid for."""
        peer = self.raw()
        stream = peer.engine.send_request(GET)
        head = HeadersFrame(stream, peer.encoder.encode(OK), pad_length=3)
        head.flags |= {"END_HEADERS", "PADDED", "PRIORITY"}
        head.depends_on, head.stream_weight, head.exclusive = 0, 7, False
        data = DataFrame(stream, b"abc", pad_length=255)
        data.flags |= {"PADDED", "END_STREAM"}
        assert peer.send(head, data) == [
            ResponseHead(stream, 200, [], end=False),
            Body(stream, b"abc", end=True, credit=259),
        ]

    def test_padding_alone_is_credit_that_nobody_has_to_give(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(GET)
        peer.send(peer.headers(stream, OK))
        empty = DataFrame(stream, b"", pad_length=255)
        empty.flags.add("PADDED")
        for _ in range(1000):
            assert peer.send(empty) == []
            peer.engine.data_to_send()

    # --- floods ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("octets", [case[1] for case in FLOODS], ids=[why for why, _ in FLOODS])
    def test_frames_that_bring_nothing_are_bounded(self, octets: bytes) -> None:
        peer = self.busy()
        for count in range(MOST_EMPTY_FRAMES // 100 + 1):
            events = peer.engine.receive(octets * 100)
            peer.engine.data_to_send()
            if kinds(events)[-1:] == [Closed]:
                assert count >= MOST_EMPTY_FRAMES // 100 - 1
                assert events[-1].code == H2Code.ENHANCE_YOUR_CALM  # type: ignore[union-attr]
                return
        pytest.fail("there is no bound")

    @pytest.mark.parametrize(
        "octets", [case[1] for case in COSTLY_FLOODS], ids=[why for why, _ in COSTLY_FLOODS]
    )
    def test_frames_that_cost_more_are_bounded_sooner(self, octets: bytes) -> None:
        peer = self.busy()
        most = MOST_EMPTY_FRAMES // (1 + len(octets) // (2 * EMPTY_FRAME_OCTETS))
        for _ in range(most):
            events = peer.engine.receive(octets)
            peer.engine.data_to_send()
            if kinds(events)[-1:] == [Closed]:
                assert events[-1].code == H2Code.ENHANCE_YOUR_CALM  # type: ignore[union-attr]
                return
        pytest.fail("there is no bound, or too large a one")

    @pytest.mark.parametrize("octets", [case[1] for case in FLOODS[:2]], ids=["pings", "settings"])
    def test_replies_that_nobody_takes_are_bounded(self, octets: bytes) -> None:
        peer = self.busy()
        events: list[UpstreamEvent] = []
        for count in range(MOST_REPLIES + 1):
            # Content in between, so that these are no flood of frames alone.
            events = peer.engine.receive(octets + peer.data(1, b"x").serialize())
            if kinds(events)[-1:] == [Closed]:
                assert count >= MOST_REPLIES - 1
                assert len(peer.engine.data_to_send()) < 64 * 1024
                return
        pytest.fail("there is no bound")

    def test_window_updates_of_a_long_upload_are_no_flood(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(POST)
        for _ in range(MOST_EMPTY_FRAMES):
            peer.engine.send_body(stream, b"x" * 1000, end=False)
            peer.engine.data_to_send()
            events = peer.send(WindowUpdateFrame(stream, 1000), WindowUpdateFrame(0, 1000))
            assert Closed not in kinds(events)

    def test_answers_to_our_own_pings_are_no_flood(self) -> None:
        peer = self.busy()
        for _ in range(MOST_EMPTY_FRAMES + 1):
            peer.engine.ping(b"12345678")
            peer.engine.data_to_send()
            events = peer.send(PingFrame(0, b"12345678", flags=["ACK"]))
            assert events == [Pong(b"12345678")]

    def test_continuations_of_nothing_are_bounded(self) -> None:
        peer = self.raw()
        peer.engine.send_request(GET)
        empty = ContinuationFrame(1, b"").serialize()
        events = peer.engine.receive(HeadersFrame(1, b"\x88").serialize() + empty * 100)
        assert kinds(events) == [Closed]

    def test_interim_responses_have_an_end(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(GET)
        interim = [(b":status", b"103"), (b"link", b"x" * 100)]
        events = peer.send(*(peer.headers(stream, interim) for _ in range(100)))
        assert kinds(events)[-1] is Malformed
        assert 3 < kinds(events).count(Interim) < LIMITS.header_bytes // 100

    def test_a_table_bomb_ends_the_connection(self) -> None:
        peer = self.raw()
        peer.engine.send_request(GET)
        peer.send(peer.headers(1, [*OK, (b"a", b"x" * 1900)]))
        bomb = HeadersFrame(1, b"\xbe" * 20, flags=["END_HEADERS"])
        assert events_end(peer.send(bomb)) == H2Code.ENHANCE_YOUR_CALM

    def test_the_table_of_requests_keeps_to_the_limit_of_the_peer(self) -> None:
        peer = self.connected({SettingCodes.HEADER_TABLE_SIZE: 0})
        for _ in range(3):
            stream = peer.engine.send_request(POST)
            peer.engine.send_trailers(stream, [(b"x-sum", b"3")])
        peer.turn()
        assert len(peer.requests()) == 3
        assert peer.h2.decoder.header_table.maxsize == 0

    def test_frames_of_the_size_that_the_peer_takes(self) -> None:
        peer = self.connected({
            SettingCodes.MAX_FRAME_SIZE: 20_000,
            SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20,
        })  # fmt: skip
        stream = peer.engine.send_request(POST)
        peer.turn()
        peer.engine.send_body(stream, b"x" * 50_000, end=True)
        octets = peer.engine.data_to_send()
        assert [length for kind, length in frames_in(octets) if kind == 0] == [
            20_000,
            20_000,
            10_000,
        ]

    def test_goaway_twice_and_the_limit_after_it(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(POST)
        events = peer.send(
            peer.goaway(stream, 11),
            SettingsFrame(0, {SettingCodes.MAX_CONCURRENT_STREAMS: 5}),
            peer.goaway(0, 2),
        )
        assert events == [
            GoAway(stream, 11),
            LimitChanged(5),
            Reset(stream, H2Code.REFUSED_STREAM, unprocessed=True),
            GoAway(0, 2),
        ]

    def busy(self) -> RawPeer:
        """Return a peer with a response in the middle on stream 1, and stream 3 reset."""
        peer = self.raw()
        for _ in range(2):
            peer.engine.send_request(POST)
        peer.send(peer.headers(1, OK), RstStreamFrame(3, 8))
        peer.engine.data_to_send()
        return peer


def frames_in(octets: bytes) -> Iterable[tuple[int, int]]:
    """List the types and lengths of the frames in whole octets."""
    place = 0
    while place < len(octets):
        length = int.from_bytes(octets[place : place + 3], "big")
        yield octets[place + 3], length
        place += 9 + length


def goaway_code(octets: bytes) -> int:
    """Return the code of the GOAWAY at the end of what was sent."""
    assert octets[-14] == 7
    return int.from_bytes(octets[-4:], "big")


def events_end(events: list[UpstreamEvent]) -> int:
    """Return the code of the Closed that these end with."""
    assert isinstance(events[-1], Closed)
    return events[-1].code
