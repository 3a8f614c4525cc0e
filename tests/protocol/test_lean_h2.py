"""The contract of an upstream engine, kept by our own codec; and what is its own."""

import hpack
import pytest
from hyperframe.frame import HeadersFrame, RstStreamFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.errors import H2Code
from spooky.protocol.h2_fields import FieldError, read_head
from spooky.protocol.hpack_decoder import FieldDecoder
from spooky.protocol.lean_h2 import LeanEngine
from spooky.protocol.lean_sections import SectionReader
from spooky.protocol.messages import (
    Body,
    Closed,
    Headers,
    Malformed,
    Reset,
    ResponseHead,
    UpstreamEngine,
)
from spooky.protocol.upstream import H2Limits
from tests.protocol.contract_upstream import UpstreamContract
from tests.protocol.contract_upstream_bounds import raw_frame
from tests.protocol.h2_peer import GET, OK, POST, Peer, RawPeer


class TestLean(UpstreamContract):
    def make(self, limits: H2Limits) -> UpstreamEngine:
        return LeanEngine(limits)


def test_nothing_is_kept_of_streams_that_ended() -> None:
    engine = LeanEngine(H2Limits())
    peer = Peer(engine)
    peer.connect()
    for number in range(2000):
        stream = engine.send_request(GET)
        peer.turn()
        if number % 2:
            engine.reset(stream, H2Code.CANCEL)
        else:
            peer.answer(stream)
        peer.turn()
        peer.seen.clear()
    assert engine._streams == engine._blocked == {}
    assert len(engine._abandoned) == 1000
    for _ in range(1000):
        engine.reset(engine.send_request(GET), H2Code.CANCEL)
    assert len(engine._abandoned) == 1024


@pytest.mark.parametrize("by_us", [True, False])
def test_a_reset_lifts_no_window(by_us: bool) -> None:
    """Other messages that go on must not hide what is sent on a stream that nobody reads."""
    peer = RawPeer(LeanEngine(H2Limits(stream_window=100_000, connection_window=1 << 20)))
    gone, other = peer.engine.send_request(GET), peer.engine.send_request(GET)
    peer.send(peer.headers(other, OK))
    if by_us:
        peer.engine.reset(gone, H2Code.CANCEL)
    else:
        peer.send(RstStreamFrame(gone, 8))
    for _ in range(5):
        events = peer.send(peer.data(gone, b"x" * 20_000), peer.data(other, b"y"))
        assert events == [Body(other, b"y", False, 1)]
    events = peer.send(peer.data(gone, b"x"))
    assert [event.code for event in events] == [H2Code.FLOW_CONTROL_ERROR]  # type: ignore[union-attr]


def test_a_fault_of_ours_costs_the_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LeanEngine(H2Limits())
    peer = RawPeer(engine)

    def stumble(_block: bytes) -> None:
        raise KeyError("unforeseen")

    engine.send_request(GET)
    monkeypatch.setattr(engine._sections, "head", stumble)
    events = peer.send(peer.headers(1, OK))
    assert events == [Closed(H2Code.INTERNAL_ERROR, "KeyError: 'unforeseen'", by_peer=False)]


# --- where it keeps closer to the RFC than the h2 library ---------------------------------------


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (raw_frame(4, 1, 0, b"\0\3\0\0\0\1"), H2Code.FRAME_SIZE_ERROR),
        (raw_frame(4, 0, 0, b"\0\2\0\0\0\1"), H2Code.PROTOCOL_ERROR),
        (raw_frame(3, 0, 99, b"\0\0\0\1"), H2Code.PROTOCOL_ERROR),
        (raw_frame(0, 0, 1, b"x"), H2Code.STREAM_CLOSED),
    ],
    ids=["answer with content", "leave to push", "reset of an idle stream", "data after all"],
)
def test_a_breach_that_the_library_lets_pass(octets: bytes, code: H2Code) -> None:
    peer = RawPeer(LeanEngine(H2Limits()))
    peer.send(peer.headers(peer.engine.send_request(GET), OK, "END_STREAM"))
    [event] = peer.engine.receive(octets)
    assert isinstance(event, Closed)
    assert event.code == code


@pytest.mark.parametrize(
    "octets",
    [raw_frame(8, 0, 1, b"\0\0\0\0"), raw_frame(2, 0, 1, b"\0\0\0\1")],
    ids=["window update by nothing", "priority of 4 octets"],
)
def test_a_fault_that_costs_its_stream_alone(octets: bytes) -> None:
    peer = RawPeer(LeanEngine(H2Limits()))
    first, second = peer.engine.send_request(POST), peer.engine.send_request(GET)
    [event] = peer.engine.receive(octets)
    assert isinstance(event, Malformed)
    peer.engine.reset(first, H2Code.PROTOCOL_ERROR)
    assert peer.send(peer.headers(second, OK, "END_STREAM"))


def test_a_fault_after_the_message_was_told_resets_the_stream() -> None:
    peer = RawPeer(LeanEngine(H2Limits()))
    stream = peer.engine.send_request(POST)
    peer.send(peer.headers(stream, OK), peer.headers(stream, [(b"x-sum", b"1")], "END_STREAM"))
    peer.engine.data_to_send()
    events = peer.send(peer.headers(stream, [(b"x-sum", b"1")], "END_STREAM"))
    assert events == [Reset(stream, H2Code.STREAM_CLOSED)]
    assert peer.engine.data_to_send() == raw_frame(3, 0, stream, b"\0\0\0\5")


# --- heads that are remembered ------------------------------------------------------------------


def test_the_same_octets_mean_another_field_once_the_table_has_changed() -> None:
    reader, encoder = SectionReader(1 << 16), hpack.Encoder()
    reader.head(encoder.encode([*OK, (b"server", b"first")]))
    block = b"\x88\xbe"
    assert reader.head(block).headers == [(b"server", b"first")]
    assert reader.head(block) is reader.head(block)
    reader.fields(encoder.encode([(b"x-sum", b"second")]))
    assert reader.head(block).headers == [(b"x-sum", b"second")]
    reader.fields(b"\x20")
    with pytest.raises(Exception, match="header block"):
        reader.head(block)


def test_responses_of_one_block_share_no_list() -> None:
    peer = RawPeer(LeanEngine(H2Limits()))
    heads: list[ResponseHead] = []
    for _ in range(2):
        stream = peer.engine.send_request(GET)
        octets = HeadersFrame(stream, b"\x88\x0f\x12\x01x", flags=["END_HEADERS", "END_STREAM"])
        for event in peer.send(octets):
            assert isinstance(event, ResponseHead)
            heads.append(event)
            event.headers.append((b"via", b"spooky"))
    assert [head.headers for head in heads] == [[(b"date", b"x"), (b"via", b"spooky")]] * 2


def meaning(decoder: FieldDecoder, block: bytes) -> object:
    try:
        return read_head(decoder.decode(block), 500)
    except FieldError as error:
        return str(error)


def remembered(reader: SectionReader, block: bytes) -> object:
    try:
        return tuple(reader.head(block))
    except FieldError as error:
        return str(error)


few = st.sampled_from([b"server", b"date", b"x-a", b"content-length", b"Bad", b"etag"])
values = st.sampled_from([b"1", b"2", b"3" * 40, b"4" * 300, b" 5"])
heads = st.lists(st.tuples(few, values), max_size=3).map(lambda fields: [*OK, *fields])


@given(
    sections=st.lists(heads, max_size=60), sizes=st.lists(st.sampled_from([100, 4096]) | st.none())
)
@settings(max_examples=200, deadline=None)
def test_what_is_remembered_is_what_the_decoder_says(
    sections: list[Headers], sizes: list[int | None]
) -> None:
    encoder, decoder, reader = hpack.Encoder(), FieldDecoder(), SectionReader(500)
    decoder.max_header_list_size = 2000
    for number, section in enumerate(sections):
        size = sizes[number] if number < len(sizes) else None
        if size is not None and size != encoder.header_table_size:
            encoder.header_table_size = size
        block = encoder.encode(section)
        assert remembered(reader, block) == meaning(decoder, block)
