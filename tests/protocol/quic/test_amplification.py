"""An address that is not proven gets three times what came from it, and not an octet more."""

from dataclasses import replace

import pytest

from spooky.errors import H3Code
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.messages import Path
from tests.protocol.quic_pair import (
    PATH,
    H3Client,
    Pair,
    connect,
    engine_of,
    identity,
    make_aioquic,
    server_settings,
)


def settings(certificates: int) -> ServerSettings:
    one = identity(kind="rsa")
    many = replace(one, chain=[*one.chain] * certificates)
    return server_settings(select=lambda _name: many)


@pytest.mark.parametrize("certificates", [1, 8, 20])
@pytest.mark.parametrize("datagrams", [1, 2, 5])
@pytest.mark.parametrize("closes", [False, True])
def test_a_client_that_never_answers(certificates: int, datagrams: int, closes: bool) -> None:
    """Its first flight comes, some of it again and again, then nothing for ever."""
    pair = Pair(make_aioquic, settings(certificates))
    [(initial, _), *_] = pair.client.datagrams_to_send(pair.now)
    came = went = 0
    now = pair.now
    for _ in range(datagrams):
        pair.engine.receive([(initial, PATH)], now)
        came += len(initial)
        went += sum(len(data) for data, _ in pair.engine.datagrams_to_send(now))
        assert went <= 3 * came
    while (at := pair.engine.deadline()) is not None and at < 110.0:
        now = max(at, now + 0.001)
        pair.engine.handle_timer(now)
        went += sum(len(data) for data, _ in pair.engine.datagrams_to_send(now))
    if closes:
        pair.engine.close(H3Code.NO_ERROR, "no handshake " * 10)
        went += sum(len(data) for data, _ in pair.engine.datagrams_to_send(now))
    assert went <= 3 * came
    assert went > 1000, "it is answered at all"


def test_a_client_that_gets_little_is_told_of_the_close() -> None:
    pair = Pair(make_aioquic, settings(1))
    [(initial, _), *_] = pair.client.datagrams_to_send(pair.now)
    pair.engine.receive([(initial, PATH)] * 3, pair.now)
    assert pair.engine.datagrams_to_send(pair.now)
    pair.engine.close(H3Code.NO_ERROR, "over")
    assert pair.engine.datagrams_to_send(pair.now)


def test_a_client_that_has_moved_where_it_may_not_be() -> None:
    """What it asked for does not follow it before the new address is proven."""
    pair = connect()
    client = H3Client(pair)
    stream = client.request()
    pair.run(lambda: engine_of(pair)._h3._requests)
    pair.advance(0.1)
    elsewhere = Path(("203.0.113.9", 7))
    pair.client.send_ping(1)
    came = 0
    for data, _ in pair.client.datagrams_to_send(pair.now):
        came += len(data)
        pair.take(pair.engine.receive([(data, elsewhere)], pair.now))
    pair.engine.send_head(stream, 200, [], end=False)
    pair.engine.send_body(stream, bytes(200_000), end=True)
    went = 0
    now = pair.now
    for _ in range(200):
        sent = pair.engine.datagrams_to_send(now)
        went += sum(len(data) for data, path in sent if path == elsewhere)
        now = max(pair.engine.deadline() or now, now + 0.001)
        pair.engine.handle_timer(now)
    pair.engine.close(H3Code.NO_ERROR, "over")
    sent = pair.engine.datagrams_to_send(now)
    went += sum(len(data) for data, path in sent if path == elsewhere)
    assert came
    assert went <= 3 * came
