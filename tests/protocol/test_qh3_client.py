"""A client of another stack: qh3's QUIC and HTTP/3, in memory, against the engine on aioquic."""

import ssl
from typing import Any

from qh3.h3 import events as h3_events
from qh3.h3.connection import H3Connection
from qh3.quic import events as quic_events
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection

from spooky.protocol.messages import Body, DownstreamEvent, Path, RequestHead, Trailers
from tests.protocol.quic_pair import PATH, SERVER, make_aioquic, request_fields, server_settings

UPLOAD = b"up" * 40_000
DOWNLOAD = b"hello" * 3000
SECTIONS = [[(b":status", b"200"), (b"x-own", b"1")], [(b"x-sum", b"2")]]


class Conversation:
    """A qh3 client that asks twice, and a server that answers."""

    def __init__(self) -> None:
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=["h3"],
            server_name="localhost",
            verify_mode=ssl.CERT_NONE,
        )
        self.now = 10.0
        self.client = QuicConnection(configuration=configuration)
        self.client.connect(SERVER, now=self.now)
        self.h3 = H3Connection(self.client)
        self.engine = make_aioquic(
            server_settings(), self.client.original_destination_connection_id
        )
        self.heard: dict[int, list[Any]] = {0: [], 4: []}
        self.received = bytearray()

    def turn(self) -> None:
        """Let both sides send once, and some time pass."""
        for data, _address in self.client.datagrams_to_send(self.now):
            for event in self.engine.receive([(data, Path(PATH.peer))], self.now):
                self._serve(event)
        for data, _path in self.engine.datagrams_to_send(self.now):
            self.client.receive_datagram(data, SERVER, self.now)
        while (heard := self.client.next_event()) is not None:
            if isinstance(heard, quic_events.HandshakeCompleted):
                self._ask()
            for found in self.h3.handle_event(heard):
                self.heard[found.stream_id].append(found)  # type: ignore[attr-defined]
        self.now += 0.03
        if (deadline := self.engine.deadline()) is not None and deadline <= self.now:
            self.engine.handle_timer(self.now)

    def _ask(self) -> None:
        self.h3.send_headers(0, request_fields(), end_stream=True)
        self.h3.send_headers(4, request_fields(method=b"POST"), end_stream=False)
        self.h3.send_data(4, UPLOAD, end_stream=False)
        self.h3.send_headers(4, [(b"x-end", b"1")], end_stream=True)

    def _serve(self, event: DownstreamEvent) -> None:
        match event:
            case Body():
                self.received += event.data
                self.engine.consume(event.stream, event.credit)
            case RequestHead(end=True) | Trailers():
                self.engine.send_head(event.stream, 200, [(b"x-own", b"1")], end=False)
                self.engine.send_body(event.stream, DOWNLOAD, end=False)
                self.engine.send_trailers(event.stream, [(b"x-sum", b"2")])


def test_qh3_gets_and_posts() -> None:
    conversation = Conversation()
    for _ in range(60):
        conversation.turn()
    assert bytes(conversation.received) == UPLOAD
    for heard in conversation.heard.values():
        content = b"".join(e.data for e in heard if isinstance(e, h3_events.DataReceived))
        assert content == DOWNLOAD
        assert [e.headers for e in heard if isinstance(e, h3_events.HeadersReceived)] == SECTIONS
    assert conversation.engine.is_idle()
