"""What every `UpstreamEngine` must make of a server that is wrong, or is none.

The part of `contract_upstream` about faults: of one message, which cost its stream, and of the
connection, which end in one `Closed` and never in an exception.
"""

from abc import ABC, abstractmethod

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.errors import H2Code
from spooky.protocol.messages import (
    Closed,
    Headers,
    Malformed,
    Ready,
    ResponseHead,
    UpstreamEngine,
    UpstreamEvent,
)
from spooky.protocol.upstream import H2Limits
from tests.protocol.h2_peer import GET, OK, POST, Peer, RawPeer

LIMITS = H2Limits(stream_window=64 * 1024, connection_window=160 * 1024, header_bytes=2048)
BAD_HEADS: list[tuple[str, Headers]] = [
    ("no status", [(b"server", b"x")]),
    ("empty", []),
    ("status is a word", [(b":status", b"okay")]),
    ("status has two digits", [(b":status", b"20")]),
    ("status has a sign", [(b":status", b"+20")]),
    ("status out of range", [(b":status", b"600")]),
    ("status twice", [(b":status", b"200"), (b":status", b"200")]),
    ("status not first", [(b"server", b"x"), (b":status", b"200")]),
    ("switching protocols", [(b":status", b"101")]),
    ("pseudo-header of a request", [*OK, (b":path", b"/")]),
    ("upper case", [*OK, (b"Server", b"x")]),
    ("empty name", [*OK, (b"", b"x")]),
    ("space in a name", [*OK, (b"a b", b"x")]),
    ("colon in a name", [*OK, (b"a:b", b"x")]),
    ("line feed in a name", [*OK, (b"a\nb", b"x")]),
    ("octet over 0x7f in a name", [*OK, (b"caf\xe9", b"x")]),
    ("line feed in a value", [*OK, (b"a", b"x\nset-cookie: b")]),
    ("carriage return in a value", [*OK, (b"a", b"x\r")]),
    ("NUL in a value", [*OK, (b"a", b"x\0")]),
    ("space before a value", [*OK, (b"a", b" x")]),
    ("tab after a value", [*OK, (b"a", b"x\t")]),
    ("connection", [*OK, (b"connection", b"close")]),
    ("keep-alive", [*OK, (b"keep-alive", b"timeout=5")]),
    ("proxy-connection", [*OK, (b"proxy-connection", b"close")]),
    ("transfer-encoding", [*OK, (b"transfer-encoding", b"chunked")]),
    ("upgrade", [*OK, (b"upgrade", b"h2c")]),
    ("te", [*OK, (b"te", b"gzip")]),
    ("content-length is a word", [*OK, (b"content-length", b"ten")]),
    ("content-length is negative", [*OK, (b"content-length", b"-1")]),
    ("content-length twice", [*OK, (b"content-length", b"1"), (b"content-length", b"2")]),
    ("content-length as a list", [*OK, (b"content-length", b"1, 1")]),
    ("over the limit", [*OK, (b"a", b"x" * 2100)]),
]

STRANGERS = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1"),
    (b"HTTP/1.0 505 \r\n", "HTTP/1"),
    (b"\x15\x03\x01\x00\x02\x02\x46\x00\x00", "TLS"),
    (b"220 smtp.example.com ESMTP\r\n", "does not speak HTTP/2"),
    (b"\0" * 64, "does not speak HTTP/2"),
    (SettingsFrame(0, flags=["ACK"]).serialize(), "does not speak HTTP/2"),
    (PingFrame(0, b"12345678").serialize(), "does not speak HTTP/2"),
]


def kinds(events: list[UpstreamEvent]) -> list[type]:
    return [type(event) for event in events]


class UpstreamFaults(ABC):
    """Inherited by `UpstreamContract`."""

    @abstractmethod
    def make(self, limits: H2Limits) -> UpstreamEngine: ...

    def connected(
        self, peer_settings: dict[SettingCodes, int] | None = None, limits: H2Limits = LIMITS
    ) -> Peer:
        peer = Peer(self.make(limits), peer_settings)
        events = peer.connect()
        assert kinds(events)[:1] == [Ready]
        return peer

    def raw(self, limits: H2Limits = LIMITS) -> RawPeer:
        return RawPeer(self.make(limits))

    # --- malformed messages -----------------------------------------------------------------

    @pytest.mark.parametrize(("_why", "fields"), BAD_HEADS, ids=[why for why, _ in BAD_HEADS])
    def test_a_malformed_head_costs_its_stream_only(self, _why: str, fields: Headers) -> None:
        peer = self.raw()
        bad, good = peer.engine.send_request(GET), peer.engine.send_request(GET)
        events = peer.send(
            peer.headers(bad, fields),
            peer.data(bad, b"more"),
            peer.headers(bad, [(b"a", b"b")]),
            peer.headers(bad, [(b"a", b"b")], "END_STREAM"),
        )
        assert kinds(events) == [Malformed]
        peer.engine.reset(bad, H2Code.PROTOCOL_ERROR)
        assert kinds(peer.send(peer.headers(good, OK, "END_STREAM"))) == [ResponseHead]

    def test_malformed_order_and_length(self) -> None:
        ten = [*OK, (b"content-length", b"10")]
        peer = self.raw()
        cases: list[tuple[str, list[tuple[Headers | bytes, str]]]] = [
            ("content before the head", [(b"x", "")]),
            ("interim head at the end", [([(b":status", b"103")], "END_STREAM")]),
            ("a second head", [(OK, ""), (OK, "")]),
            ("interim after the head", [(OK, ""), ([(b":status", b"103")], "")]),
            ("trailers that are not the end", [(OK, ""), ([(b"a", b"b")], "")]),
            ("pseudo-header in trailers", [(OK, ""), ([(b":status", b"200")], "END_STREAM")]),
            ("less content", [(ten, ""), (b"123", "END_STREAM")]),
            ("more content", [(ten, ""), (b"12345678901", "")]),
            ("no content", [(ten, "END_STREAM")]),
            ("less content before trailers", [(ten, ""), ([(b"a", b"b")], "END_STREAM")]),
            ("content where none may be", [([(b":status", b"204")], ""), (b"x", "")]),
        ]
        for why, parts in cases:
            stream = peer.engine.send_request(GET)
            frames: list[Frame] = []
            for part, flag in parts:
                flags = [flag] if flag else []
                frames.append(
                    peer.data(stream, part, *flags)
                    if isinstance(part, bytes)
                    else peer.headers(stream, part, *flags)
                )
            events = peer.send(*frames)
            assert kinds(events)[-1:] == [Malformed], why
            assert kinds(events).count(Malformed) == 1, why
            peer.engine.reset(stream, H2Code.PROTOCOL_ERROR)
        assert peer.engine.open_streams() == 0

    # --- what is no HTTP/2 ------------------------------------------------------------------

    @pytest.mark.parametrize(("octets", "text"), STRANGERS)
    def test_a_stranger_is_told_at_its_first_octets(self, octets: bytes, text: str) -> None:
        engine = self.make(LIMITS)
        events = engine.receive(octets)
        assert kinds(events) == [Closed]
        assert isinstance(events[0], Closed)
        assert text in events[0].reason

    @pytest.mark.parametrize(
        ("octets", "text"),
        [(b"", "without speaking"), (b"HTTP/1.", "HTTP/1"), (b"\x15\x03\x03\0\x02\x02P", "TLS")],
    )
    def test_a_stranger_that_hangs_up(self, octets: bytes, text: str) -> None:
        engine = self.make(LIMITS)
        assert not octets or engine.receive(octets) == []
        events = engine.receive(b"")
        assert isinstance(events[0], Closed)
        assert text in events[0].reason

    @pytest.mark.parametrize(
        "octets",
        [
            b"\x01\x00\x01\x00\x00\x00\x00\x00\x01",
            HeadersFrame(2, b"\x88", flags=["END_HEADERS"]).serialize(),
            HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]).serialize(),
            HeadersFrame(1, b"\x88").serialize() + PingFrame(0, b"12345678").serialize(),
            HeadersFrame(99, b"\x88", flags=["END_HEADERS"]).serialize(),
            PushPromiseFrame(1, 2, b"\x88", flags=["END_HEADERS"]).serialize(),
            ContinuationFrame(1, b"\x88").serialize(),
            SettingsFrame(0, {SettingCodes.MAX_FRAME_SIZE: 1}).serialize(),
            b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            WindowUpdateFrame(0, 2**31 - 1).serialize(),
            b"\x00\x00\x01\x03\x00\x00\x00\x00\x01\x00",
            b"\x00\x00\x02\x00\x09\x00\x00\x00\x01\x05x",
            HeadersFrame(1, b"\x88").serialize()
            + b"".join(ContinuationFrame(1, b"\x88" * 1000).serialize() for _ in range(20)),
            PingFrame(0, b"12345678").serialize() * 10_001,
        ],
        ids=range(14),
    )
    def test_a_breach_closes_the_connection(self, octets: bytes) -> None:
        peer = self.raw()
        peer.engine.send_request(POST)
        events = peer.engine.receive(octets)
        assert kinds(events)[-1:] == [Closed]
        assert isinstance(events[-1], Closed)
        assert events[-1].reason
        assert peer.engine.receive(octets) == []
        assert not peer.engine.can_open()

    def test_what_came_before_a_breach_is_told(self) -> None:
        peer = self.raw()
        stream = peer.engine.send_request(GET)
        whole = peer.headers(stream, OK, "END_STREAM").serialize()
        events = peer.engine.receive(whole + b"\xff" * 20)
        assert kinds(events) == [ResponseHead, Closed]

    def test_noise_never_raises(self) -> None:
        @given(
            noise=st.binary(max_size=200),
            place=st.integers(0, 200),
            octet=st.integers(0, 255),
            cut=st.integers(1, 50),
        )
        @settings(max_examples=300, deadline=None)
        def check(noise: bytes, place: int, octet: int, cut: int) -> None:
            self.suffer(noise, place, octet, cut)

        check()

    def suffer(self, noise: bytes, place: int, octet: int, cut: int) -> None:
        """Take octets of which one is wrong, and noise behind them."""
        peer = self.raw()
        for _ in range(3):
            peer.engine.send_request(POST)
        valid = b"".join(
            frame.serialize()
            for frame in (
                peer.headers(1, [*OK, (b"server", b"some")]),
                peer.data(1, b"content"),
                WindowUpdateFrame(3, 7),
                peer.headers(1, [(b"a", b"b")], "END_STREAM"),
                RstStreamFrame(3, 2),
                peer.goaway(3),
            )
        )
        octets = bytearray(valid + noise)
        octets[place % len(octets)] = octet
        events: list[UpstreamEvent] = []
        for start in range(0, len(octets), cut):
            events += peer.engine.receive(bytes(octets[start : start + cut]))
        events += peer.engine.receive(b"")
        assert kinds(events).count(Closed) == 1
        assert isinstance(events[-1], Closed)
