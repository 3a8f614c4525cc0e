"""The part of a downstream engine's contract that is not about QUIC, kept by the plain engine.

Whatever proves the seam has to be an engine, by the same tests as aioquic's.
"""

from typing import Any, cast

from spooky.protocol.downstream import ServerSettings
from spooky.protocol.messages import DownstreamEngine
from tests.protocol import plain_engine
from tests.protocol.contract_downstream import DownstreamContract as Contract
from tests.protocol.plain_peer import PlainPeer
from tests.protocol.quic_pair import Network, Pair, server_settings


class PlainPair(Pair):
    """A plain peer and a plain engine on a network in memory."""

    @property
    def peer(self) -> PlainPeer:
        return cast("PlainPeer", self.client)

    def make_client(self, configuration: object, on_ticket: object) -> PlainPeer:
        return PlainPeer(b"12345678")

    def connect(self) -> "PlainPair":
        self.run(lambda: self.peer.cid)
        return self

    def closed_with(self) -> int | None:
        closed = self.peer.closed
        return None if closed is None else closed[0]


class PlainClient:
    """Stands in for `H3Client`."""

    def __init__(self, pair: PlainPair) -> None:
        self.pair = pair
        self.h3 = self.peer = pair.peer
        self.responses = self.peer.responses

    def request(self, *fields: tuple[bytes, bytes], **options: Any) -> int:
        return int(self.peer.request(*fields, **options))

    def fetch(self, *fields: tuple[bytes, bytes], **options: Any) -> Any:
        response = self.responses[self.request(*fields, **options)]
        self.pair.run(lambda: response.ended or response.reset is not None)
        return response


class TestPlainEngine:
    """Without what is about packets, QUIC streams, the windows of a connection, a bad network."""

    def make(self, settings: ServerSettings, original_destination_cid: bytes) -> DownstreamEngine:
        return plain_engine.listen(settings)(original_destination_cid, None)

    def pair(self, network: Network | None = None, **changes: Any) -> PlainPair:
        settings = server_settings(**({"stream_window": 64 * 1024} | changes))
        return PlainPair(self.make, settings, network=network).connect()

    def client(self, pair: PlainPair) -> PlainClient:
        return PlainClient(pair)

    test_close = Contract.test_close_reaches_the_client_with_its_code
    test_close_of_the_client = Contract.test_close_of_the_client_is_told_at_once_and_last
    test_the_end = Contract.test_nothing_happens_after_the_end
    test_get = Contract.test_get
    test_post = Contract.test_post_with_trailers_both_ways
    test_interim = Contract.test_interim_responses_come_before_the_final_one
    test_many = Contract.test_more_requests_than_the_stream_limit_one_after_another
    test_reset = Contract.test_reset_abandons_both_halves
    test_an_early_response = Contract.test_an_early_response_is_complete_when_the_request_is_stopped
    test_half = Contract.test_the_client_gives_its_half_up
    test_stop = Contract.test_the_client_wants_no_response
    test_verbs = Contract.test_verbs_on_a_stream_that_is_gone_do_nothing
    test_goaway = Contract.test_goaway_serves_what_crosses_the_first_and_refuses_after_the_second
