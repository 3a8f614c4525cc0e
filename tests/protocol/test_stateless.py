"""Answers without a connection: what real clients make of them, and how long they are."""

import os
from typing import Any

import pytest
from aioquic.quic import events as quic_events
from aioquic.quic.connection import QuicConnection
from hypothesis import given
from hypothesis import strategies as st
from qh3.quic import events as qh3_events

from spooky.protocol.cid import RESET_TOKEN_LENGTH, mint, reset_token
from spooky.protocol.datagram import VERSION_1, VERSION_2, Datagram, Kind, classify
from spooky.protocol.stateless import (
    CONNECTION_REFUSED,
    LARGEST_RESET,
    SMALLEST_RESET,
    refusal,
    reset,
)
from tests.protocol.quic_pair import RESET_KEY, SERVER, client_configuration, connect
from tests.protocol.test_qh3_client import Conversation

CID = mint(5, bytes(range(9)))
RAND = bytes(range(100, 200))

# --- stateless reset ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (0, None),
        (1, None),
        (SMALLEST_RESET, None),
        (SMALLEST_RESET + 1, SMALLEST_RESET),
        (30, 29),
        (LARGEST_RESET, LARGEST_RESET - 1),
        (LARGEST_RESET + 1, LARGEST_RESET),
        (1500, LARGEST_RESET),
    ],
)
def test_a_reset_is_smaller_than_what_asked_for_it(size: int, length: int | None) -> None:
    made = reset(CID, size, RESET_KEY, RAND)
    assert (None if made is None else len(made)) == length


@given(st.binary(min_size=27, max_size=64), st.integers(SMALLEST_RESET + 1, 1500))
def test_a_reset_looks_like_a_short_packet_and_ends_in_the_token(rand: bytes, size: int) -> None:
    made = reset(CID, size, RESET_KEY, rand)
    assert made is not None
    # RFC 9000 section 10.3: the header form bit is 0, the fixed bit is 1.
    assert made[0] & 0xC0 == 0x40
    assert made[0] & 0x3F == rand[0] & 0x3F
    assert made[-RESET_TOKEN_LENGTH:] == reset_token(RESET_KEY, CID)
    assert made[1:-RESET_TOKEN_LENGTH] == rand[1 : len(made) - RESET_TOKEN_LENGTH]


def test_two_servers_do_not_go_on_resetting_each_other() -> None:
    size, rounds = 1500, 0
    while (made := reset(CID, size, RESET_KEY, RAND)) is not None:
        size, rounds = len(made), rounds + 1
    assert rounds < LARGEST_RESET - SMALLEST_RESET + 2


def test_the_token_is_the_one_that_the_client_was_given() -> None:
    pair = connect()
    pair.client.send_ping(1)
    [(data, _)] = pair.client.datagrams_to_send(pair.now)
    known = classify(data)
    assert known.kind is Kind.SHORT
    made = reset(known.dcid, len(data) + 100, RESET_KEY, RAND)
    assert made is not None
    assert made[-RESET_TOKEN_LENGTH:] == pair.client._peer_cid.stateless_reset_token


def heard_by_qh3(token_key: bytes) -> list[Any]:
    """Let a connection of qh3 get a reset for what it sends; list what it tells."""
    conversation = Conversation()
    for _ in range(20):
        conversation.turn()
    client = conversation.client
    client.send_ping(1)
    sent = [data for data, _ in client.datagrams_to_send(conversation.now)]
    made = reset(classify(sent[-1]).dcid, len(sent[-1]) + 50, token_key, os.urandom(50))
    assert made is not None
    client.receive_datagram(made, SERVER, conversation.now)
    return list(iter(client.next_event, None))


@pytest.mark.parametrize(("key", "ended"), [(RESET_KEY, 1), (bytes(32), 0)])
def test_a_client_recognises_it(key: bytes, ended: int) -> None:
    heard = heard_by_qh3(key)
    assert sum(isinstance(one, qh3_events.ConnectionTerminated) for one in heard) == ended


# --- refusal -----------------------------------------------------------------------------------


def first_flight(version: int) -> tuple[QuicConnection, bytes, Datagram]:
    """Make a client that has sent its first datagram."""
    client = QuicConnection(
        configuration=client_configuration(original_version=version, supported_versions=[version])
    )
    client.connect(SERVER, now=1.0)
    data = client.datagrams_to_send(1.0)[0][0]
    return client, data, classify(data)


def terminations(client: QuicConnection) -> list[quic_events.ConnectionTerminated]:
    """Let a client's time pass; list how its connection ended."""
    client.handle_timer(1.0 + 600.0)
    heard = iter(client.next_event, None)
    return [one for one in heard if isinstance(one, quic_events.ConnectionTerminated)]


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_a_client_is_told_that_it_is_refused(version: int) -> None:
    client, data, initial = first_flight(version)
    assert (initial.kind, initial.version) == (Kind.INITIAL, version)
    answer = refusal(initial, b"S" * 11)
    assert len(answer) < len(data), "no more than three times what came (RFC 9000 section 8.1)"
    client.receive_datagram(answer, SERVER, now=1.1)
    [ended] = terminations(client)
    assert (ended.error_code, ended.frame_type, ended.reason_phrase) == (CONNECTION_REFUSED, 0, "")
    assert CONNECTION_REFUSED == 2


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_a_refusal_is_an_initial_for_the_client(version: int) -> None:
    _, _, initial = first_flight(version)
    answer = classify(refusal(initial, b"S" * 11))
    assert answer == Datagram(Kind.INITIAL, initial.scid, b"S" * 11, version, b"")


def test_a_refusal_of_somebody_else_is_none() -> None:
    client, _, _ = first_flight(VERSION_1)
    _, _, other = first_flight(VERSION_1)
    client.receive_datagram(refusal(other, b"S" * 11), SERVER, now=1.1)
    assert not any(one.error_code == CONNECTION_REFUSED for one in terminations(client))
