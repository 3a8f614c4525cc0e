"""The contract of a downstream engine, kept by the one on aioquic; and what is its own."""

import pytest

from spooky.errors import H3Code
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.messages import (
    Body,
    DownstreamEngine,
    RequestHead,
    Stopped,
    Trailers,
    Writable,
)
from tests.protocol.contract_downstream import DownstreamContract
from tests.protocol.quic_pair import (
    H3Client,
    connect,
    engine_of,
    make_aioquic,
    open_requests,
)


class TestAioquicEngine(DownstreamContract):
    def make(self, settings: ServerSettings, original_destination_cid: bytes) -> DownstreamEngine:
        return make_aioquic(settings, original_destination_cid)


def test_a_stopped_stream_that_was_full_is_not_told_writable() -> None:
    pair = connect(send_buffer=10_000)
    client = H3Client(pair)
    stream = client.request()
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.send_head(stream, 200, [], end=False)
    pair.engine.send_body(stream, b"x" * 400_000, end=False)
    assert pair.engine.writable(stream) == 0
    pair.client.stop_stream(stream, H3Code.REQUEST_CANCELLED)
    pair.run(lambda: pair.told_of(Stopped))
    pair.advance(2)
    assert pair.told_of(Writable) == []
    pair.run(lambda: open_requests(pair) == 0)


@pytest.mark.parametrize("finish", ["end", "reset", "client reset", "client stop"])
def test_no_request_is_remembered_once_it_is_over(finish: str) -> None:
    pair = connect()
    client = H3Client(pair)
    stream = client.request(method=b"POST", body=b"abc", end=False)
    pair.run(lambda: pair.told_of(Body))
    pair.engine.consume(stream, 3)
    assert open_requests(pair) == 1
    match finish:
        case "end":
            client.h3.send_headers(stream, [(b"x", b"y")], end_stream=True)
            pair.run(lambda: pair.told_of(Trailers))
            pair.engine.send_head(stream, 204, [], end=True)
        case "reset":
            pair.engine.reset(stream, H3Code.INTERNAL_ERROR)
            pair.run(lambda: client.responses[stream].stopped)
            pair.client.reset_stream(stream, H3Code.REQUEST_CANCELLED)
        case "client reset":
            pair.client.reset_stream(stream, H3Code.REQUEST_CANCELLED)
            pair.advance(0.1)
            pair.engine.reset(stream, H3Code.REQUEST_CANCELLED)
        case _:
            pair.client.stop_stream(stream, H3Code.REQUEST_CANCELLED)
            pair.advance(0.1)
            pair.engine.reset(stream, H3Code.REQUEST_CANCELLED)
            pair.client.reset_stream(stream, H3Code.REQUEST_CANCELLED)
    pair.run(lambda: open_requests(pair) == 0)
    assert not engine_of(pair)._full
