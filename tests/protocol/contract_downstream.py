"""What every `DownstreamEngine` must do, seen from its client and through its verbs alone.

A test module of an engine inherits from `DownstreamContract` and says how the engine is made. The
peer is aioquic's client, QUIC and HTTP/3.
"""

import hashlib
import random
from abc import ABC, abstractmethod
from typing import Any

import pytest
from aioquic.quic import events as quic_events

from spooky.errors import H3Code
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.messages import (
    ALL_STREAMS,
    Body,
    CidIssued,
    Closed,
    DownstreamEngine,
    DownstreamEvent,
    Ready,
    RequestBegun,
    RequestHead,
    Reset,
    Stopped,
    StreamsBlocked,
    Trailers,
    Writable,
)
from tests.protocol.origin import Origin
from tests.protocol.quic_pair import (
    PATH,
    H3Client,
    Network,
    Pair,
    client_configuration,
    server_settings,
)
from tests.protocol.raw_client import RawClient, request

STREAM_WINDOW = 64 * 1024
CONNECTION_WINDOW = 160 * 1024


class DownstreamContract(ABC):
    """The tests; `make` says for which engine."""

    @abstractmethod
    def make(self, settings: ServerSettings, original_destination_cid: bytes) -> DownstreamEngine:
        """Make the engine of one connection."""

    def pair(self, network: Network | None = None, **changes: Any) -> Pair:
        """Connect a client."""
        windows = {"stream_window": STREAM_WINDOW, "connection_window": CONNECTION_WINDOW}
        settings = server_settings(**(windows | changes))
        return Pair(self.make, settings, network=network).connect()

    def client(self, pair: Pair) -> Any:
        """Make the client's requests: an `H3Client`, or what has its methods."""
        return H3Client(pair)

    # --- a connection -----------------------------------------------------------------------

    def test_ready_tells_what_was_negotiated(self) -> None:
        pair = self.pair()
        assert pair.told_of(Ready) == [Ready("localhost", "h3", 1)]
        assert len(pair.told_of(CidIssued)) == 7  # The first is not issued but known.

    def test_close_reaches_the_client_with_its_code(self) -> None:
        pair = self.pair()
        pair.engine.close(H3Code.EXCESSIVE_LOAD, "enough")
        pair.run(lambda: pair.closed_with() is not None)
        assert pair.closed_with() == H3Code.EXCESSIVE_LOAD
        assert pair.told[-1] == Closed(H3Code.EXCESSIVE_LOAD, "enough", by_peer=False)

    @pytest.mark.parametrize(("code", "told"), [(0x100, 0), (0x102, 0x102)])
    def test_close_of_the_client_is_told_at_once_and_last(self, code: int, told: int) -> None:
        pair = self.pair()
        client = self.client(pair)
        client.request(end=False)
        pair.client.close(error_code=code, reason_phrase="bye")
        before = pair.now
        pair.run(lambda: pair.told_of(Closed))
        assert pair.now - before < 2 * pair.network.delay
        assert pair.told[-1] == Closed(told, "bye", by_peer=True)
        pair.run(lambda: pair.engine.deadline() is None)
        assert len(pair.told_of(Closed)) == 1
        assert pair.told[-1] == Closed(told, "bye", by_peer=True)

    def test_idle_timeout_ends_in_good_order(self) -> None:
        pair = Pair(
            self.make,
            server_settings(idle_timeout=5.0),
            client_configuration(idle_timeout=60.0),
        ).connect()
        before = pair.now
        pair.run(lambda: pair.engine.deadline() is None)
        assert 4.0 < pair.now - before < 6.0
        assert pair.told[-1] == Closed(0, "idle timeout", by_peer=False)

    def test_nothing_happens_after_the_end(self) -> None:
        pair = self.pair()
        pair.engine.close(0x100)
        pair.run(lambda: pair.engine.deadline() is None)
        engine = pair.engine
        assert engine.handle_timer(pair.now + 100) == []
        assert engine.receive([(b"\x40" * 50, PATH)], pair.now) == []
        assert (engine.datagrams_to_send(pair.now), engine.events()) == ([], [])

    # --- requests ---------------------------------------------------------------------------

    def test_get(self) -> None:
        pair = self.pair()
        Origin(pair, b"hello")
        response = self.client(pair).fetch((b"x-one", b"1"), (b"x-one", b"2"), path=b"/a?b")
        assert pair.told_of(RequestHead) == [
            RequestHead(
                0,
                b"GET",
                b"https",
                b"localhost",
                b"/a?b",
                [(b"x-one", b"1"), (b"x-one", b"2")],
                end=True,
            )
        ]
        assert response.heads == [[(b":status", b"200"), (b"content-length", b"5")]]
        assert bytes(response.body) == b"hello"

    def test_post_with_trailers_both_ways(self) -> None:
        pair = self.pair()
        origin = Origin(pair, b"thanks", trailers=[(b"x-sum", b"42")])
        response = self.client(pair).fetch(
            method=b"POST", body=b"data" * 9000, trailers=[(b"x-mark", b"end")]
        )
        assert origin.received[0] == b"data" * 9000
        assert pair.told_of(Trailers) == [Trailers(0, [(b"x-mark", b"end")])]
        assert not any(body.end for body in pair.told_of(Body))
        assert sum(body.credit for body in pair.told_of(Body)) == 36000
        assert response.heads[1:] == [[(b"x-sum", b"42")]]
        assert bytes(response.body) == b"thanks"

    def test_interim_responses_come_before_the_final_one(self) -> None:
        pair = self.pair()

        def answer(event: DownstreamEvent) -> None:
            if isinstance(event, RequestHead):
                pair.engine.send_interim(event.stream, 103, [(b"link", b"</s.css>")])
                pair.engine.send_interim(event.stream, 100, [])
                pair.engine.send_head(event.stream, 204, [], end=True)

        pair.on_event = answer
        response = self.client(pair).fetch()
        assert [head[0][1] for head in response.heads] == [b"103", b"100", b"204"]

    def test_head_has_a_length_and_no_content(self) -> None:
        pair = self.pair()

        def answer(event: DownstreamEvent) -> None:
            if isinstance(event, RequestHead):
                pair.engine.send_head(event.stream, 200, [(b"content-length", b"9")], end=True)

        pair.on_event = answer
        client = RawClient(pair)  # aioquic's holds such a response to be malformed.
        client.send(0, request(method=b"HEAD"), end=True)
        pair.run(lambda: 0 in client.ended)
        assert client.sections(0) == [[(b":status", b"200"), (b"content-length", b"9")]]

    def test_more_requests_than_the_stream_limit_one_after_another(self) -> None:
        pair = self.pair(streams=4)
        Origin(pair, b"x")
        client = self.client(pair)
        assert [client.fetch().status for _ in range(20)] == [b"200"] * 20
        pair.advance(1)
        assert pair.engine.is_idle()

    # --- back-pressure ----------------------------------------------------------------------

    def test_an_upload_stops_at_one_window_until_it_is_consumed(self) -> None:
        pair = self.pair()
        origin = Origin(pair, consuming=False)
        client = self.client(pair)
        body = random.Random(3).randbytes(3 * STREAM_WINDOW)
        stream = client.request(method=b"POST", body=body)
        pair.advance(5)
        # The window also held the HEADERS frame and the DATA frame's header.
        assert STREAM_WINDOW - 200 < len(origin.received[stream]) <= STREAM_WINDOW
        origin.consuming = True
        pair.engine.consume(stream, len(origin.received[stream]))
        pair.run(lambda: client.responses[stream].ended)
        assert origin.received[stream] == body

    def test_uploads_together_stop_at_the_connection_window(self) -> None:
        pair = self.pair()
        origin = Origin(pair, consuming=False)
        client = self.client(pair)
        streams = [client.request(method=b"POST", body=b"u" * STREAM_WINDOW) for _ in range(6)]
        pair.advance(5)
        held = sum(map(len, origin.received.values()))
        assert CONNECTION_WINDOW - 8192 < held <= CONNECTION_WINDOW
        origin.consuming = True
        for stream in list(origin.received):
            pair.engine.consume(stream, len(origin.received[stream]))
        pair.run(lambda: all(client.responses[stream].ended for stream in streams))

    def test_reset_uploads_do_not_use_the_connection_window_up(self) -> None:
        pair = self.pair()
        origin = Origin(pair, consuming=False)
        client = self.client(pair)
        for _ in range(8):
            stream = client.request(method=b"POST", body=b"u" * 2 * STREAM_WINDOW)
            pair.advance(1)
            pair.client.reset_stream(stream, H3Code.REQUEST_CANCELLED)
            pair.run(lambda stream=stream: Reset(stream, 0x10C) in pair.told)  # type: ignore[misc]
            pair.engine.reset(stream, H3Code.REQUEST_CANCELLED)
        origin.consuming = True
        body = b"w" * (STREAM_WINDOW - 200)
        for _ in range(4):
            assert client.fetch(method=b"POST", body=body).status == b"200"

    def test_a_download_is_held_back_while_the_client_takes_nothing(self) -> None:
        configuration = client_configuration(max_stream_data=20_000)
        pair = Pair(self.make, server_settings(send_buffer=50_000), configuration).connect()
        client = self.client(pair)
        stream = client.request()
        pair.run(lambda: pair.told_of(RequestHead))
        engine = pair.engine
        engine.send_head(stream, 200, [], end=False)
        room = engine.writable(stream)
        assert 49_000 < room <= 50_000
        engine.send_body(stream, b"d" * (room - 10), end=False)
        assert 0 < engine.writable(stream) <= 10
        engine.send_body(stream, b"d" * 10, end=False)
        assert engine.writable(stream) == 0
        assert pair.told_of(Writable) == []
        pair.run(lambda: pair.told_of(Writable))
        assert 25_000 <= engine.writable(stream) < 40_000
        pair.advance(1)
        assert len(pair.told_of(Writable)) == 1

    def test_what_the_client_keeps_waiting_is_told_of(self) -> None:
        """By stream where that has no room; of all where the connection has none."""
        for narrow, blamed in (("max_stream_data", 4), ("max_data", ALL_STREAMS)):
            configuration = client_configuration(**{narrow: 5000})
            pair = Pair(self.make, server_settings(), configuration).connect()
            client = H3Client(pair)
            streams = [client.request() for _ in range(2)]
            pair.run(lambda pair=pair: len(pair.told_of(RequestHead)) == 2)  # type: ignore[misc]
            engine = pair.engine
            assert engine.held_up() == {}
            for stream, size in zip(streams, (100, 20_000), strict=True):
                engine.send_head(stream, 200, [], end=False)
                engine.send_body(stream, b"d" * size, end=True)
            assert engine.datagrams_to_send(pair.now)
            assert engine.held_up() == {blamed: 5000}
            # Though it was handed over whole, it can be taken back.
            engine.reset(4, H3Code.REQUEST_CANCELLED)
            assert engine.held_up() == {}
            pair.advance(1)
            assert client.responses[4].reset == H3Code.REQUEST_CANCELLED

    def test_a_client_that_wants_more_streams_than_it_may_have(self) -> None:
        pair = self.pair(streams=2)
        client = H3Client(pair)
        for _ in range(2):
            client.request(method=b"POST", body=b"x", end=False)
        pair.advance(1)
        assert pair.told_of(StreamsBlocked) == []
        client.request(method=b"POST", body=b"x", end=False)
        pair.run(lambda: pair.told_of(StreamsBlocked))
        assert len(pair.told_of(RequestHead)) == 2

    # --- giving up --------------------------------------------------------------------------

    def test_reset_abandons_both_halves(self) -> None:
        pair = self.pair()
        client = self.client(pair)
        stream = client.request(method=b"POST", body=b"x", end=False)
        pair.run(lambda: pair.told_of(Body))
        pair.engine.reset(stream, H3Code.INTERNAL_ERROR)
        pair.advance(1)
        response = client.responses[stream]
        assert (response.reset, response.stopped) == (0x102, 0x102)

    def test_an_early_response_is_complete_when_the_request_is_stopped(self) -> None:
        pair = self.pair()
        client = self.client(pair)
        stream = client.request(method=b"POST", body=b"x" * 100_000, end=False)
        pair.run(lambda: pair.told_of(Body))
        pair.engine.send_head(stream, 413, [], end=False)
        pair.engine.send_body(stream, b"too much", end=True)
        pair.engine.stop(stream, H3Code.NO_ERROR)
        response = client.responses[stream]
        pair.run(lambda: response.ended)
        assert (response.status, bytes(response.body)) == (b"413", b"too much")
        assert (response.reset, response.stopped) == (None, 0x100)
        pair.client.reset_stream(stream, H3Code.REQUEST_CANCELLED)
        pair.advance(1)
        assert pair.told_of(Reset) == []
        assert pair.engine.is_idle()

    def test_the_client_gives_its_half_up(self) -> None:
        pair = self.pair()
        client = self.client(pair)
        stream = client.request(method=b"POST", body=b"x", end=False)
        pair.run(lambda: pair.told_of(Body))
        pair.client.reset_stream(stream, 0x10C)
        pair.run(lambda: pair.told_of(Reset))
        assert pair.told_of(Reset) == [Reset(stream, 0x10C)]
        pair.engine.send_head(stream, 400, [], end=True)
        pair.run(lambda: client.responses[stream].ended)

    def test_the_client_wants_no_response(self) -> None:
        pair = self.pair()
        client = self.client(pair)
        stream = client.request()
        pair.run(lambda: pair.told_of(RequestHead))
        pair.engine.send_head(stream, 200, [], end=False)
        pair.client.stop_stream(stream, 0x10C)
        pair.run(lambda: pair.told_of(Stopped))
        assert pair.told_of(Stopped) == [Stopped(stream, 0x10C)]
        pair.engine.reset(stream, 0x10C)
        pair.advance(1)
        assert pair.engine.is_idle()

    def test_verbs_on_a_stream_that_is_gone_do_nothing(self) -> None:
        pair = self.pair()
        Origin(pair, b"x")
        stream = 0
        self.client(pair).fetch()
        pair.advance(1)
        for number in (stream, 4, 4000, 3):
            engine = pair.engine
            engine.send_interim(number, 103, [])
            engine.send_head(number, 200, [], end=False)
            engine.send_body(number, b"late", end=True)
            engine.send_trailers(number, [(b"x-late", b"1")])
            engine.consume(number, 10)
            engine.stop(number, 0x100)
            engine.reset(number, 0x100)
            assert engine.writable(number) > 0
        pair.advance(1)
        assert pair.closed_with() is None
        assert pair.engine.is_idle()

    # --- going away -------------------------------------------------------------------------

    def test_goaway_serves_what_crosses_the_first_and_refuses_after_the_second(self) -> None:
        pair = self.pair()
        Origin(pair, b"ok")
        client = self.client(pair)
        open_one = client.request(method=b"POST", body=b"a", end=False)
        pair.run(lambda: pair.told_of(Body))
        pair.engine.goaway()
        assert client.fetch().status == b"200"
        pair.engine.goaway()
        pair.advance(1)
        refused = client.fetch()
        assert (refused.status, refused.reset) == (b"", H3Code.REQUEST_REJECTED)
        client.h3.send_data(open_one, b"b", end_stream=True)
        pair.run(lambda: client.responses[open_one].ended)
        assert len(pair.told_of(RequestHead)) == 2
        pair.advance(1)
        assert pair.engine.is_idle()

    @pytest.mark.parametrize("fin", [False, True])
    def test_a_head_that_has_not_come_is_told_of_once(self, fin: bool) -> None:
        pair = self.pair()
        RawClient(pair).send(0, request()[:1])
        pair.run(lambda: pair.told_of(RequestBegun))
        pair.client.send_stream_data(0, request()[1:4], False)
        pair.advance(0.1)
        assert pair.told_of(RequestBegun, RequestHead) == [RequestBegun(0)]
        pair.client.send_stream_data(0, b"" if fin else request()[4:], fin)
        pair.run(lambda: pair.told_of(RequestHead, Closed))
        assert len(pair.told_of(RequestBegun)) == 1

    def test_a_stream_that_ends_before_its_head_is_told_of_by_a_reset(self) -> None:
        pair = self.pair()
        client = RawClient(pair)
        client.send(0, b"\x21\x00")
        pair.run(lambda: pair.told_of(RequestBegun))
        client.send(0, b"", end=True)
        pair.run(lambda: 0 in client.resets)
        assert pair.told_of(RequestBegun, Reset) == [
            RequestBegun(0),
            Reset(0, H3Code.REQUEST_INCOMPLETE),
        ]

    def test_the_final_goaway_rejects_what_has_no_head(self) -> None:
        pair = self.pair()
        client = RawClient(pair)
        client.send(0, request()[:4])
        pair.run(lambda: pair.told_of(RequestBegun))
        pair.engine.goaway()
        pair.advance(1)
        assert client.resets == {}
        assert pair.engine.is_idle()
        pair.engine.goaway()
        pair.run(lambda: 0 in client.resets)
        assert client.resets == {0: H3Code.REQUEST_REJECTED}

    def test_the_probe_timeout_is_about_a_round_trip(self) -> None:
        pair = self.pair()
        self.client(pair).request()
        pair.advance(1)
        assert 0.008 < pair.engine.probe_timeout() < 0.1

    def test_is_idle_only_once_the_client_has_all_of_the_response(self) -> None:
        pair = self.pair()
        client = self.client(pair)
        stream = client.request()
        pair.run(lambda: pair.told_of(RequestHead))
        assert not pair.engine.is_idle()
        pair.engine.send_head(stream, 200, [], end=False)
        pair.engine.send_body(stream, b"z" * 5000, end=True)
        assert not pair.engine.is_idle()
        pair.take(pair.engine.events())
        pair.engine.datagrams_to_send(pair.now)  # These are lost.
        assert not pair.engine.is_idle()
        pair.run(lambda: client.responses[stream].ended)
        pair.advance(1)
        assert pair.engine.is_idle()

    # --- the network ------------------------------------------------------------------------

    @pytest.mark.parametrize("seed", range(3))
    def test_content_arrives_over_a_bad_network(self, seed: int) -> None:
        network = Network(loss=0.1, duplication=0.1, reordering=0.3, seed=seed)
        pair = self.pair(network)
        content = random.Random(seed).randbytes(300 * 1024)
        upload = random.Random(-seed).randbytes(300 * 1024)
        origin = Origin(pair, content, trailers=[(b"x-end", b"1")])
        client = self.client(pair)
        down = client.responses[client.request()]
        up = client.request(method=b"POST", body=upload, trailers=[(b"x-end", b"1")])
        pair.run(lambda: down.ended and client.responses[up].ended, limit=300)
        digest = hashlib.sha256(content).digest()
        assert hashlib.sha256(down.body).digest() == digest
        assert hashlib.sha256(client.responses[up].body).digest() == digest
        assert origin.received[up] == upload
        pair.run(pair.engine.is_idle, limit=60)

    def test_garbage_is_dropped(self) -> None:
        pair = self.pair()
        chance = random.Random(11)
        for _ in range(300):
            data = chance.randbytes(chance.randrange(1, 1400))
            pair.take(pair.engine.receive([(data, PATH)], pair.now))
        Origin(pair, b"still here")
        assert bytes(self.client(pair).fetch().body) == b"still here"

    def test_changed_datagrams_are_dropped(self) -> None:
        pair = self.pair()
        Origin(pair, b"still here")
        client = self.client(pair)
        chance = random.Random(12)
        genuine: list[bytes] = []
        receive = pair.engine.receive

        for _ in range(40):
            client.request(method=b"POST", body=b"q" * 3000)
            genuine += [data for data, _ in pair.client.datagrams_to_send(pair.now)]
        for data in genuine:
            changed = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            pair.take(
                receive([(bytes(changed[: chance.randrange(1, len(changed) + 1)]), PATH)], 200.0)
            )
        assert pair.told_of(RequestHead, Closed) == []
        assert isinstance(pair.heard[0], quic_events.ProtocolNegotiated)
        pair.run(lambda: all(response.ended for response in client.responses.values()))
