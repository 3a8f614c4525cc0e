"""What is sent most is sent without aioquic's packet builder: within the same bounds."""

from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.tls import Epoch

from spooky.protocol.messages import Body, RequestHead, Writable
from spooky.protocol.quic import ServerConnection
from spooky.protocol.quic.path_mtu import SMALLEST
from tests.protocol.quic_pair import H3Client, Network, Pair, Response, connect, engine_of

CONTENT = bytes(range(256)) * 800


def server(pair: Pair) -> ServerConnection:
    return engine_of(pair)._quic


def spy(pair: Pair, kept: list[bytes]) -> None:
    """Keep what the server sends."""
    send = server(pair).datagrams_to_send

    def note(now: float) -> list[tuple[bytes, Any]]:
        datagrams = send(now)
        kept.extend(data for data, _ in datagrams)
        return datagrams

    vars(server(pair))["datagrams_to_send"] = note


def answer(pair: Pair, content: bytes = CONTENT) -> None:
    """Answer every request with `content`, as fast as the engine takes it."""

    def on_event(event: object) -> None:
        if isinstance(event, RequestHead):
            pair.engine.send_head(event.stream, 200, [], end=False)
            pair.engine.send_body(event.stream, content, end=True)

    pair.on_event = on_event


def fetch(client: H3Client, count: int = 1) -> list[Response]:
    pair = client.pair
    responses = [client.responses[client.request()] for _ in range(count)]
    pair.run(lambda: all(response.ended for response in responses))
    assert all(response.body == CONTENT for response in responses)
    return responses


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When aioquic's builder was asked."""
    found: list[float] = []
    theirs = QuicConnection.datagrams_to_send

    def note(self: QuicConnection, now: float) -> list[tuple[bytes, Any]]:
        if isinstance(self, ServerConnection):
            found.append(now)
        return theirs(self, now)

    monkeypatch.setattr(QuicConnection, "datagrams_to_send", note)
    return found


def test_the_shortcut_is_taken(calls: list[float]) -> None:
    pair = connect()
    answer(pair)
    client = H3Client(pair)
    calls.clear()
    sent: list[bytes] = []
    spy(pair, sent)
    fetch(client)
    assert len(sent) > len(CONTENT) / 1452
    assert len(calls) <= 4


def test_never_more_in_flight_than_the_window_allows() -> None:
    pair = connect(Network(loss=0.05, seed=3))
    answer(pair)
    client = H3Client(pair)
    loss = server(pair)._loss
    send, over = server(pair)._send_flight, []

    def check(*arguments: Any, **options: Any) -> list[tuple[bytes, Any]]:
        before = loss.bytes_in_flight
        sent = send(*arguments, **options)
        if before < loss.bytes_in_flight > loss.congestion_window:
            over.append((before, loss.bytes_in_flight, loss.congestion_window))
        return sent

    vars(server(pair))["_send_flight"] = check
    fetch(client, 3)
    assert over == []
    pair.advance(2)
    assert (loss.bytes_in_flight, loss.spaces[-1].ack_eliciting_in_flight) == (0, 0)


def test_streams_take_turns() -> None:
    pair = connect()
    answer(pair)
    client = H3Client(pair)
    responses = [client.responses[client.request()] for _ in range(4)]
    pair.run(lambda: len(responses[0].body) > len(CONTENT) // 2)
    shares = [len(response.body) for response in responses]
    assert min(shares) > 0.6 * max(shares)


def test_an_acknowledgement_goes_along_with_data() -> None:
    pair = connect()
    answer(pair, b"short")
    client = H3Client(pair)
    response = client.responses[client.request()]
    sent: list[bytes] = []
    spy(pair, sent)
    pair.run(lambda: response.ended)
    assert len(sent) == 1
    assert server(pair)._spaces[Epoch.ONE_RTT].ack_at is None


def test_the_client_may_open_as_many_streams_as_it_likes() -> None:
    pair = connect(streams=4)
    answer(pair)
    client = H3Client(pair)
    for _ in range(20):
        fetch(client, 2)
    assert server(pair)._local_max_streams_bidi.value > 12


def test_a_lost_limit_is_announced_again() -> None:
    window = 32 * 1024
    pair = connect(stream_window=window)
    client = H3Client(pair)
    stream = client.request(method=b"POST", body=b"u" * 3 * window)
    pair.advance(1)
    quic = server(pair)
    pair.engine.consume(stream, window)
    before = pair.client._streams[stream].max_stream_data_remote
    assert quic.datagrams_to_send(pair.now) != []  # Nobody gets it.
    quic._on_max_stream_data_delivery(QuicDeliveryState.LOST, quic._streams[stream])
    pair.run(lambda: pair.client._streams[stream].max_stream_data_remote > before)


def test_requests_and_responses_at_the_same_time_over_a_bad_network() -> None:
    pair = connect(Network(loss=0.1, duplication=0.1, reordering=0.1, seed=5))
    uploaded: dict[int, int] = {}

    def on_event(event: object) -> None:
        match event:
            case RequestHead():
                pair.engine.send_head(event.stream, 200, [], end=False)
                pair.engine.send_body(event.stream, CONTENT, end=True)
            case Body():
                uploaded[event.stream] = uploaded.get(event.stream, 0) + len(event.data)
                pair.engine.consume(event.stream, event.credit)
            case _:
                pass

    pair.on_event = on_event
    client = H3Client(pair)
    streams = [client.request(method=b"POST", body=CONTENT) for _ in range(3)]
    responses = [client.responses[stream] for stream in streams]
    pair.run(lambda: all(response.ended for response in responses), limit=600)
    assert all(response.body == CONTENT for response in responses)
    pair.run(lambda: uploaded == dict.fromkeys(streams, len(CONTENT)), limit=600)


# --- the path's MTU ---------------------------------------------------------------------------


def narrow(pair: Pair, width: int) -> None:
    post = pair._post

    def drop(data: bytes, path: Any, *, to_server: bool) -> None:
        if to_server or len(data) <= width:
            post(data, path, to_server=to_server)

    vars(pair)["_post"] = drop


@pytest.mark.parametrize(
    ("width", "found"), [(1500, 1452), (1400, 1372), (1300, 1280), (1200, 1200)]
)
def test_the_largest_datagram_that_passes_is_found(width: int, found: int) -> None:
    pair = connect()
    narrow(pair, width)
    answer(pair)
    client = H3Client(pair)
    for _ in range(20):
        fetch(client)
    sent: list[bytes] = []
    spy(pair, sent)
    fetch(client)
    assert max(map(len, sent)) == found


def test_a_lost_probe_does_not_slow_the_connection_down() -> None:
    pair = connect()
    narrow(pair, 1200)
    answer(pair)
    client = H3Client(pair)
    fetch(client)
    assert server(pair)._loss._cc.ssthresh is None or server(pair)._mtu.current == SMALLEST
    window = server(pair)._loss.congestion_window
    fetch(client)
    assert server(pair)._loss.congestion_window >= window


def test_a_path_that_got_narrow_is_noticed() -> None:
    pair = connect()
    answer(pair)
    client = H3Client(pair)
    fetch(client, 2)
    assert server(pair)._max_datagram_size == 1452
    narrow(pair, 1200)
    fetch(client)
    assert server(pair)._max_datagram_size == SMALLEST


def test_no_search_where_the_operator_wants_none() -> None:
    pair = connect(max_datagram_size=SMALLEST)
    answer(pair)
    client = H3Client(pair)
    sent: list[bytes] = []
    spy(pair, sent)
    fetch(client, 2)
    assert max(map(len, sent)) == SMALLEST


def test_a_path_that_becomes_narrower_holds_nothing_up_for_long() -> None:
    """Small packets still pass and are acknowledged, so there are no timeouts in a row."""
    pair = connect(Network(delay=0.001))
    rest = bytearray(CONTENT * 16)

    def on_event(event: object) -> None:
        match event:
            case RequestHead(stream=stream):
                pair.engine.send_head(stream, 200, [], end=False)
            case Writable(stream=stream):
                pass
            case _:
                return
        while rest and (room := pair.engine.writable(stream)):
            pair.engine.send_body(stream, bytes(rest[:room]), end=len(rest) <= room)
            del rest[:room]

    pair.on_event = on_event
    client = H3Client(pair)
    response = client.responses[client.request()]
    pair.run(lambda: len(response.body) > len(CONTENT) * 5)
    assert server(pair)._max_datagram_size > SMALLEST
    pair.network.mtu = 1250
    pair.run(lambda: response.ended, limit=3.0)
    assert response.body == CONTENT * 16
    assert server(pair)._max_datagram_size == SMALLEST


def test_losses_by_chance_do_not_make_datagrams_smaller() -> None:
    pair = connect()
    answer(pair, CONTENT * 2)
    client = H3Client(pair)
    pair.network.loss = 0.1
    response = client.responses[client.request()]
    pair.run(lambda: response.ended, limit=60.0)
    assert response.body == CONTENT * 2
    assert server(pair)._max_datagram_size > SMALLEST
