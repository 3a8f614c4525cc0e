"""What every `UpstreamEngine` must do, seen from its server and through its verbs alone.

A test module of an engine inherits from `UpstreamContract` and says how the engine is made. The
peer is the h2 library as server, or frames written by hand where a server must be wrong.
"""

from dataclasses import replace

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import (
    RstStreamFrame,
    SettingsFrame,
)

from spooky.errors import H2Code
from spooky.protocol.messages import (
    Body,
    GoAway,
    Interim,
    LimitChanged,
    Pong,
    Ready,
    RequestHead,
    Reset,
    ResponseHead,
    Trailers,
    Writable,
)
from tests.protocol.contract_upstream_bounds import UpstreamBounds
from tests.protocol.contract_upstream_faults import LIMITS, kinds
from tests.protocol.h2_peer import GET, OK, POST, Peer

HEAD = RequestHead(0, b"HEAD", b"https", b"example.com", b"/", [], end=True)


class UpstreamContract(UpstreamBounds):
    """Inherit, and say how the engine is made."""

    # --- requests ---------------------------------------------------------------------------

    def test_a_request_arrives_as_it_was_given(self) -> None:
        peer = self.connected()
        fields = [(b"accept", b"*/*"), (b"authorization", b"Basic eA=="), (b"x-a", b"\xff")]
        head = RequestHead(0, b"PUT", b"http", b"a:81", b"/p?q", fields, end=False)
        stream = peer.engine.send_request(head)
        peer.engine.send_body(stream, b"one", end=False)
        peer.engine.send_body(stream, b"two", end=False)
        peer.engine.send_trailers(stream, [(b"x-sum", b"6")])
        peer.turn()
        pseudo = [
            (b":method", b"PUT"),
            (b":scheme", b"http"),
            (b":path", b"/p?q"),
            (b":authority", b"a:81"),
        ]
        assert sorted(peer.requests()[0].headers[:4]) == sorted(pseudo)
        assert peer.requests()[0].headers[4:] == fields
        assert peer.content(stream) == b"onetwo"
        assert peer.ended(stream)

    @pytest.mark.parametrize(
        ("protocol", "names"),
        [
            (None, {b":method", b":authority"}),
            (b"websocket", {b":method", b":authority", b":scheme", b":path", b":protocol"}),
        ],
    )
    def test_connect_has_the_pseudo_headers_of_its_kind(
        self, protocol: bytes | None, names: set[bytes]
    ) -> None:
        peer = self.connected()
        head = RequestHead(0, b"CONNECT", b"https", b"a:1", b"/", [], end=False, protocol=protocol)
        peer.engine.send_request(head)
        peer.turn()
        assert {name for name, _ in peer.requests()[0].headers} == names

    def test_a_head_larger_than_a_frame(self) -> None:
        peer = self.connected()
        fields = [(b"x-%d" % number, b"v" * 900) for number in range(40)]
        peer.engine.send_request(RequestHead(0, b"GET", b"http", b"a", b"/", fields, end=True))
        peer.turn()
        assert peer.requests()[0].headers[4:] == fields

    def test_requests_may_be_sent_before_the_settings_of_the_peer(self) -> None:
        peer = Peer(self.make(LIMITS))
        streams = [peer.engine.send_request(GET) for _ in range(3)]
        peer.turn()
        assert [event.stream_id for event in peer.requests()] == streams

    # --- responses --------------------------------------------------------------------------

    def test_a_response_with_all_its_parts(self) -> None:
        peer = self.connected()
        stream = peer.engine.send_request(GET)
        peer.turn()
        peer.h2.send_headers(stream, [(b":status", b"103"), (b"link", b"</a>")])
        peer.h2.send_headers(stream, [*OK, (b"server", b"s")])
        peer.h2.send_data(stream, b"abc", pad_length=9)
        peer.h2.send_headers(stream, [(b"x-sum", b"3")], end_stream=True)
        assert peer.turn() == [
            Interim(stream, 103, [(b"link", b"</a>")]),
            ResponseHead(stream, 200, [(b"server", b"s")], end=False),
            Body(stream, b"abc", end=False, credit=13),
            Trailers(stream, [(b"x-sum", b"3")]),
        ]
        assert peer.engine.open_streams() == 0

    def test_the_end_is_told_with_the_last_part(self) -> None:
        peer = self.connected()
        first, second = peer.engine.send_request(GET), peer.engine.send_request(GET)
        peer.turn()
        peer.answer(first, b"")
        peer.answer(second, b"x")
        assert peer.turn() == [
            ResponseHead(first, 200, [], end=True),
            ResponseHead(second, 200, [], end=False),
            Body(second, b"x", end=True, credit=1),
        ]

    @pytest.mark.parametrize("empty_frame", [True, False])
    @pytest.mark.parametrize(("head", "status"), [(HEAD, 200), (GET, 204), (GET, 304)])
    def test_content_length_without_content(
        self, head: RequestHead, status: int, empty_frame: bool
    ) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(head)
        fields = [(b":status", b"%d" % status), (b"content-length", b"10")]
        if empty_frame:
            events = peer.send(peer.headers(stream, fields), peer.data(stream, b"", "END_STREAM"))
            assert kinds(events) == [ResponseHead, Body]
        else:
            events = peer.send(peer.headers(stream, fields, "END_STREAM"))
            assert kinds(events) == [ResponseHead]

    def test_octet_by_octet_means_the_same(self) -> None:
        peer = self.connected()
        stream = peer.engine.send_request(GET)
        peer.turn()
        peer.answer(stream, b"hello")
        octets = peer.h2.data_to_send()
        events = [
            event
            for place in range(len(octets))
            for event in peer.engine.receive(octets[place : place + 1])
        ]
        assert events == [
            ResponseHead(stream, 200, [], end=False),
            Body(stream, b"hello", end=True, credit=5),
        ]

    # --- flow control -----------------------------------------------------------------------

    def test_an_upload_keeps_to_the_window_and_goes_on_when_told(self) -> None:
        peer = self.connected()
        stream = peer.engine.send_request(POST)
        content = bytes(range(256)) * 600
        sent = 0
        rounds = 0
        while sent < len(content):
            room = peer.engine.writable(stream)
            if not room:
                rounds += 1
                peer.turn()
                peer.h2.acknowledge_received_data(65_535, stream)
                assert Writable(stream) in peer.turn()
                continue
            peer.engine.send_body(stream, content[sent : sent + room], end=False)
            sent += len(content[sent : sent + room])
        peer.engine.send_body(stream, b"", end=True)
        peer.turn()
        assert rounds >= 2
        assert peer.content(stream) == content
        assert peer.ended(stream)

    def test_a_larger_window_in_settings_is_room(self) -> None:
        peer = self.connected({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        stream = peer.engine.send_request(POST)
        assert peer.engine.writable(stream) == 10
        peer.engine.send_body(stream, b"x" * 10, end=False)
        assert peer.engine.writable(stream) == 0
        peer.turn()
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 30})
        assert peer.turn() == [Writable(stream)]
        assert peer.engine.writable(stream) == 20
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 5})
        assert peer.turn() == []
        assert peer.engine.writable(stream) == 0

    def test_a_request_that_has_ended_waits_for_no_room(self) -> None:
        peer = self.connected({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        stream = peer.engine.send_request(POST)
        assert peer.engine.writable(stream) == 0
        peer.engine.send_body(stream, b"", end=True)
        peer.turn()
        peer.h2.increment_flow_control_window(100)
        peer.h2.increment_flow_control_window(100, stream)
        assert peer.turn() == []

    def test_streams_that_wait_for_the_connection_take_turns(self) -> None:
        peer = self.connected({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        streams = [peer.engine.send_request(POST) for _ in range(4)]
        peer.engine.send_body(streams[0], b"x" * peer.engine.writable(streams[0]), end=False)
        served = dict.fromkeys(streams, 0)
        assert [peer.engine.writable(stream) for stream in streams] == [0, 0, 0, 0]
        peer.turn()
        for _ in range(8):
            peer.h2.increment_flow_control_window(1000)
            for event in peer.turn():
                assert isinstance(event, Writable)
                room = peer.engine.writable(event.stream)
                if room:
                    peer.engine.send_body(event.stream, b"x" * room, end=False)
                    served[event.stream] += room
                assert peer.engine.writable(event.stream) == 0
        assert min(served.values()) >= 1000

    def test_a_response_that_nobody_takes_stops_at_its_window(self) -> None:
        peer = self.connected()
        stalled, other = peer.engine.send_request(GET), peer.engine.send_request(GET)
        peer.turn()
        peer.h2.send_headers(stalled, OK)
        peer.turn()
        got = 0
        while window := min(peer.h2.local_flow_control_window(stalled), 10_000):
            peer.h2.send_data(stalled, b"x" * window)
            got += sum(event.credit for event in peer.turn() if isinstance(event, Body))
        assert got == LIMITS.stream_window
        # The others have the whole of the connection, for as long as they like.
        peer.h2.send_headers(other, OK)
        for _ in range(40):
            peer.h2.send_data(other, b"y" * 10_000)
            for event in peer.turn():
                if isinstance(event, Body):
                    peer.engine.consume(other, event.credit)
            peer.turn()
        peer.engine.consume(stalled, got)
        peer.turn()
        assert peer.h2.local_flow_control_window(stalled) == LIMITS.stream_window

    def test_abandoned_streams_do_not_use_up_the_connection(self) -> None:
        peer = self.connected()
        for _ in range(20):
            stream = peer.engine.send_request(GET)
            peer.turn()
            peer.h2.send_headers(stream, OK)
            peer.turn()
            peer.engine.reset(stream, H2Code.CANCEL)
            # The server has sent this before it sees the reset.
            for _ in range(4):
                peer.h2.send_data(stream, b"x" * 16_000)
            assert peer.turn() == []
            assert peer.resets()[stream] == H2Code.CANCEL
        stream = peer.engine.send_request(GET)
        peer.turn()
        peer.answer(stream, b"y" * 16_000)
        assert kinds(peer.turn()) == [ResponseHead, Body]

    # --- resets, limits, GOAWAY -------------------------------------------------------------

    @pytest.mark.parametrize(
        ("code", "unprocessed"),
        [(H2Code.REFUSED_STREAM, True), (H2Code.CANCEL, False), (H2Code.NO_ERROR, False)],
    )
    def test_a_reset_is_told_once(self, code: H2Code, unprocessed: bool) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(POST)
        frame = RstStreamFrame(stream, code)
        assert peer.send(frame, frame) == [Reset(stream, code, unprocessed)]
        assert peer.engine.open_streams() == 0

    def test_the_limit_of_the_peer_and_its_changes(self) -> None:
        peer = Peer(self.make(LIMITS), {SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        assert peer.connect()[:2] == [Ready(), LimitChanged(2)]
        streams = [peer.engine.send_request(GET) for _ in range(2)]
        assert not peer.engine.can_open()
        peer.turn()
        peer.answer(streams[0])
        peer.turn()
        assert peer.engine.can_open()
        peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        assert peer.turn() == [LimitChanged(1)]
        assert not peer.engine.can_open()
        peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1000})
        assert peer.turn() == [LimitChanged(LIMITS.max_streams)]
        assert peer.engine.can_open()

    def test_a_peer_without_a_limit_takes_what_we_allow(self) -> None:
        """Before its SETTINGS 100 streams are taken for granted, then it is as it says."""
        engine = self.make(replace(LIMITS, max_streams=300))
        for _ in range(100):
            engine.send_request(GET)
        assert not engine.can_open()
        assert engine.receive(SettingsFrame(0).serialize()) == [Ready(), LimitChanged(300)]
        assert engine.can_open()

    def test_after_goaway_the_streams_below_its_last_go_on(self) -> None:
        peer = self.raw()
        first, second, third = (peer.engine.send_request(GET) for _ in range(3))
        events = peer.send(
            peer.headers(first, OK),
            peer.goaway(second),
            peer.data(first, b"rest", "END_STREAM"),
            peer.headers(second, OK, "END_STREAM"),
        )
        assert events == [
            ResponseHead(first, 200, [], end=False),
            Reset(third, H2Code.REFUSED_STREAM, unprocessed=True),
            GoAway(second, 0),
            Body(first, b"rest", end=True, credit=4),
            ResponseHead(second, 200, [], end=True),
        ]
        assert not peer.engine.can_open()
        assert peer.engine.open_streams() == 0

    def test_a_notice_before_the_goaway_loses_nothing(self) -> None:
        """RFC 9113 section 6.8: first 2^31-1, then the number it really was."""
        peer = self.raw()
        streams = [peer.engine.send_request(POST) for _ in range(2)]
        assert peer.send(peer.goaway(2**31 - 1)) == [GoAway(2**31 - 1, 0)]
        assert peer.engine.writable(streams[0]) > 0
        peer.engine.data_to_send()
        peer.engine.send_body(streams[0], b"still", end=True)
        assert b"still" in peer.engine.data_to_send()
        assert peer.send(peer.goaway(streams[0]))[0] == Reset(
            streams[1], H2Code.REFUSED_STREAM, unprocessed=True
        )

    def test_ping_pong_and_close(self) -> None:
        peer = self.connected()
        peer.engine.ping(b"12345678")
        assert peer.turn() == [Pong(b"12345678")]
        peer.h2.ping(b"abcdefgh")
        assert peer.turn() == []
        peer.engine.close()
        assert not peer.engine.can_open()
        assert b"\x07" in peer.engine.data_to_send()
        assert peer.engine.receive(b"anything") == []

    def test_verbs_on_a_stream_that_is_gone_do_nothing(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(POST)
        peer.send(RstStreamFrame(stream, 8))
        peer.engine.data_to_send()
        peer.engine.send_body(stream, b"x", end=True)
        peer.engine.send_trailers(stream, [])
        peer.engine.consume(stream, 1 << 20)
        peer.engine.reset(stream, 8)
        assert peer.engine.writable(stream) == 0
        assert peer.engine.data_to_send() == b""

    def test_a_response_may_end_before_its_request(self) -> None:
        peer = self.connected()
        stream = peer.engine.send_request(POST)
        peer.turn()
        peer.answer(stream, b"")
        assert kinds(peer.turn()) == [ResponseHead]
        assert peer.engine.open_streams() == 1
        peer.engine.send_body(stream, b"late", end=True)
        assert peer.engine.open_streams() == 0
        peer.turn()
        assert peer.content(stream) == b"late"

    def test_stream_numbers_run_out_as_if_by_goaway(self) -> None:
        peer = self.raw()
        peer.engine._next_stream = 2**31 - 1  # type: ignore[attr-defined]
        assert peer.engine.can_open()
        stream = peer.engine.send_request(GET)
        assert not peer.engine.can_open()
        assert peer.send(peer.headers(stream, OK, "END_STREAM"))
        assert peer.engine.open_streams() == 0

    def test_reserved_bits_mean_nothing(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(POST)
        octets = bytearray(peer.goaway(stream).serialize())
        octets[5] |= 0x80
        octets[9] |= 0x80
        assert peer.engine.receive(bytes(octets)) == [GoAway(stream, 0)]
