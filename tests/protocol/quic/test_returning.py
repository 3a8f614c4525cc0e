"""Clients that come back: sessions are resumed, addresses proved by what the last visit gave."""

from collections.abc import Callable
from typing import Any

import pytest
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.tls import CipherSuite, SessionTicket

from spooky.protocol import ratchet
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.messages import Path, Ready, RequestHead
from spooky.protocol.tickets import SessionTickets
from tests.protocol.quic_pair import (
    H3Client,
    Network,
    Pair,
    client_configuration,
    engine_of,
    make_aioquic,
    server_settings,
)

STATE = ratchet.begin(100.0, bytes(32))
TOKEN = b"what the client comes back with"
V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2


def settings(now: float = 100.0, **changes: Any) -> ServerSettings:
    """Make those of another worker each time: nothing is shared but the key."""
    tickets = SessionTickets(STATE, lambda: now, lambda count: b"r" * count)
    return server_settings(tickets=tickets, **changes)


def visit(
    served: ServerSettings,
    configuration: QuicConfiguration | None = None,
    network: Network | None = None,
) -> tuple[Pair, list[SessionTicket]]:
    kept: list[SessionTicket] = []
    pair = Pair(make_aioquic, served, configuration, network, kept.append)
    return pair.connect(), kept


def resumed(pair: Pair) -> bool:
    [ready] = pair.told_of(Ready)
    [completed] = [e for e in pair.heard if isinstance(e, quic_events.HandshakeCompleted)]
    assert completed.session_resumed is ready.resumed
    assert not completed.early_data_accepted
    return bool(ready.resumed)


def request(pair: Pair) -> bytes:
    client = H3Client(pair)
    pair.on_event = lambda event: (
        pair.engine.send_head(event.stream, 204, [], end=True)
        if isinstance(event, RequestHead)
        else None
    )
    return client.fetch().status


# --- sessions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("suite", list(CipherSuite)[:3])
def test_another_worker_resumes_a_session(version: int, suite: CipherSuite) -> None:
    def client(**changes: Any) -> QuicConfiguration:
        return client_configuration(
            original_version=version,
            supported_versions=[version],
            cipher_suites=[suite],
            **changes,
        )

    first, kept = visit(settings(), client())
    assert not resumed(first)
    [ticket] = kept
    assert ticket.max_early_data_size is None
    again, more = visit(settings(), client(session_ticket=ticket))
    assert resumed(again)
    assert request(again) == b"204"
    third, _ = visit(settings(), client(session_ticket=more[0]))
    assert resumed(third)


def changed(ticket: SessionTicket) -> SessionTicket:
    ticket.ticket = ticket.ticket[:-1] + bytes([ticket.ticket[-1] ^ 1])
    return ticket


def with_early_data(ticket: SessionTicket) -> SessionTicket:
    ticket.max_early_data_size = 0xFFFFFFFF
    return ticket


def same(ticket: SessionTicket) -> SessionTicket:
    return ticket


@pytest.mark.parametrize(
    ("change", "served"),
    [
        pytest.param(changed, settings(), id="tampered"),
        pytest.param(same, settings(now=100.0 + 86_400), id="expired"),
        pytest.param(with_early_data, settings(), id="with early data"),
        pytest.param(same, server_settings(), id="without tickets"),
    ],
)
def test_a_full_handshake_otherwise(
    change: Callable[[SessionTicket], SessionTicket], served: ServerSettings
) -> None:
    _, [ticket] = visit(settings())
    again, _ = visit(served, client_configuration(session_ticket=change(ticket)))
    assert not resumed(again)
    assert request(again) == b"204"


def test_a_session_is_of_one_server_name() -> None:
    _, [ticket] = visit(settings())
    ticket.server_name = "other.example"
    other = client_configuration(session_ticket=ticket, server_name="other.example")
    again, _ = visit(settings(), other)
    assert not resumed(again)


def test_a_session_is_of_one_version() -> None:
    _, [ticket] = visit(settings())
    other = client_configuration(
        session_ticket=ticket, original_version=V2, supported_versions=[V2]
    )
    again, _ = visit(settings(), other)
    assert not resumed(again)


def test_no_ticket_for_a_listener_that_has_no_keys() -> None:
    assert visit(server_settings())[1] == []


# --- NEW_TOKEN --------------------------------------------------------------------------------


def keep_tokens(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    kept: list[bytes] = []
    theirs = QuicConnection.__init__

    def init(self: QuicConnection, **options: Any) -> None:
        theirs(self, **options)
        self._token_handler = kept.append

    monkeypatch.setattr(QuicConnection, "__init__", init)
    return kept


def test_a_client_is_given_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Path]] = []

    def make(version: int, path: Path) -> bytes:
        asked.append((version, path))
        return TOKEN

    kept = keep_tokens(monkeypatch)
    pair, _ = visit(server_settings(new_token=make))
    assert asked == [(int(V1), pair.path)]
    assert kept == [TOKEN]
    assert request(pair) == b"204"


@pytest.mark.parametrize("seed", range(6))
def test_a_token_that_is_lost_is_sent_again(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_tokens(monkeypatch)
    network = Network(loss=0.4, seed=seed)
    pair, _ = visit(server_settings(new_token=lambda _version, _path: TOKEN), network=network)
    pair.run(lambda: kept)
    assert set(kept) == {TOKEN}


def test_none_is_given_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_tokens(monkeypatch)
    visit(server_settings())
    assert kept == []


def test_a_loss_is_made_good_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else there is to send, and if there is nothing."""
    kept = keep_tokens(monkeypatch)
    pair, _ = visit(server_settings(new_token=lambda _version, _path: TOKEN))
    engine_of(pair)._quic._on_new_token_delivery(QuicDeliveryState.LOST, TOKEN)
    pair.run(lambda: len(kept) == 2, limit=0.1)
    engine_of(pair)._quic._on_new_token_delivery(QuicDeliveryState.ACKED, TOKEN)
    pair.advance(1.0)
    assert kept == [TOKEN, TOKEN]
