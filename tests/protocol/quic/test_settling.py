"""What all established connections share is never written to, whatever they do."""

import pytest
from aioquic.tls import Epoch

from spooky.protocol.messages import Body, RequestHead
from spooky.protocol.quic import settling
from tests.protocol.quic.test_receiving import seal
from tests.protocol.quic_pair import PATH, H3Client, Network, Pair, connect, engine_of


def work(pair: Pair) -> None:
    """Do a bit of everything."""

    def on_event(event: object) -> None:
        match event:
            case RequestHead():
                pair.engine.send_head(event.stream, 200, [], end=False)
                pair.engine.send_body(event.stream, b"r" * 50_000, end=True)
            case Body():
                pair.engine.consume(event.stream, event.credit)
            case _:
                pass

    pair.on_event = on_event
    client = H3Client(pair)
    streams = [client.request(method=b"POST", body=b"u" * 50_000) for _ in range(3)]
    pair.run(lambda: all(client.responses[stream].ended for stream in streams), limit=200)
    pair.client.request_key_update()
    pair.engine.goaway()
    assert client.fetch().status == b"200"


def check() -> None:
    stream, space = settling._NO_STREAM, settling._NO_SPACE
    assert (bytes(stream.sender._buffer), stream.sender._buffer_fin) == (b"", None)
    assert not stream.sender.reset_pending
    assert stream.sender.buffer_is_empty
    assert (bytes(stream.receiver._buffer), stream.receiver.highest_offset) == (b"", 0)
    assert not stream.receiver.stop_pending
    assert (space.sent_packets, list(space.ack_queue), space.ack_at) == ({}, [], None)
    assert space.discarded
    assert not settling._NO_KEYS.send.is_valid()
    assert not settling._NO_KEYS.recv.is_valid()


def test_what_is_shared_stays_as_it_is() -> None:
    work(connect())
    check()


def test_over_a_bad_network_as_well() -> None:
    work(connect(Network(loss=0.1, duplication=0.2, reordering=0.2, seed=4)))
    check()


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x05\x02\x00", id="a stop of the client's own"),
        pytest.param(b"\x05\x03\x00", id="a stop of ours"),
        pytest.param(b"\x04\x03\x00\x00", id="a reset of ours"),
        pytest.param(b"\x04\x02\x00\x00", id="a reset of the client's own"),
        pytest.param(b"\x11\x02\x40\xff", id="room on the client's own"),
        pytest.param(b"\x15\x03\x40\xff", id="no room on ours"),
        pytest.param(b"\x0a\x03\x01x", id="data on ours"),
    ],
)
def test_frames_for_the_half_that_is_not_there(frame: bytes) -> None:
    pair = connect()
    H3Client(pair)
    pair.advance(1)
    pair.engine.receive([(seal(pair, frame), PATH)], pair.now)
    pair.engine.datagrams_to_send(pair.now)
    check()


def test_an_established_connection_has_given_up_what_was_for_the_handshake() -> None:
    quic = engine_of(connect())._quic
    assert quic._loss.spaces == [quic._spaces[Epoch.ONE_RTT]]
    for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE):
        assert quic._spaces[epoch] is settling._NO_SPACE
        assert quic._cryptos[epoch] is settling._NO_KEYS
