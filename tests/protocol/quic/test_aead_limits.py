"""Keys wear out: they are changed in time, and forgeries are counted (RFC 9001 section 6.6)."""

import pytest
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch

from spooky.protocol.quic import ServerConnection, receiving, sending
from tests.protocol.quic.test_sending import CONTENT, answer, fetch, server
from tests.protocol.quic_pair import H3Client, Pair, connect

LIMIT = 60


def secret(pair: Pair) -> bytes | None:
    return server(pair)._cryptos[Epoch.ONE_RTT].send.secret


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "KEY_PACKETS", LIMIT)
    monkeypatch.setattr(ServerConnection, "_key_due", LIMIT)


@pytest.mark.usefixtures("soon")
def test_keys_change_before_they_are_worn() -> None:
    pair = connect()
    answer(pair)
    client = H3Client(pair)
    used: dict[bytes | None, list[int]] = {}

    def note(event: QuicEvent) -> None:
        used.setdefault(secret(pair), []).append(server(pair)._packet_number)
        client._on_event(event)

    pair.on_client_event = note
    for _ in range(4):
        assert fetch(client)[0].body == CONTENT
    assert len(used) >= 4
    assert all(numbers[-1] - numbers[0] <= 2 * LIMIT for numbers in used.values())
    assert pair.closed_with() is None


@pytest.mark.usefixtures("soon")
def test_keys_that_the_client_has_just_changed_are_left_alone() -> None:
    """An update must not follow another that is not confirmed (RFC 9001 section 6.1)."""
    pair = connect()
    answer(pair)
    client = H3Client(pair)
    before = secret(pair)
    pair.client.request_key_update()
    fetch(client)
    connection = server(pair)
    changed = secret(pair)
    assert changed != before
    connection._key_due = 0
    connection._renew_keys()
    assert not connection._cryptos[Epoch.ONE_RTT]._update_key_requested
    assert connection._key_due == connection._packet_number + LIMIT
    connection._renew_keys()
    assert connection._cryptos[Epoch.ONE_RTT]._update_key_requested


def test_too_many_forgeries_close_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "FORGERIES", 40)
    pair = connect()
    answer(pair)
    fetch(H3Client(pair))
    forged = b"\x40" + server(pair).host_cid + b"f" * 60
    spare = 40 - server(pair)._unopened
    for _ in range(spare - 1):
        pair.take(pair.engine.receive([(forged, pair.path)], pair.now))
    pair.advance(0.5)
    assert pair.closed_with() is None
    pair.take(pair.engine.receive([(forged, pair.path)], pair.now))
    pair.run(lambda: pair.closed_with() is not None)
    assert pair.closed_with() == QuicErrorCode.AEAD_LIMIT_REACHED
