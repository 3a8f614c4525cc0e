"""Retry: what tokens prove, and clients of two stacks that come again."""

import ssl
from collections.abc import Callable
from dataclasses import replace

import pytest
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from qh3.quic import events as qh3_events
from qh3.quic.configuration import QuicConfiguration as Qh3Configuration
from qh3.quic.connection import QuicConnection as Qh3Connection

from spooky.protocol.cid import is_ours, mint, slot_of
from spooky.protocol.datagram import VERSION_1, VERSION_2, Datagram, Kind, classify
from spooky.protocol.downstream import Retried
from spooky.protocol.messages import Path, RequestHead
from spooky.protocol.quic import ServerConnection, configuration_of
from spooky.protocol.retry import (
    SEED_OCTETS,
    TOKEN_LIFETIME_S,
    RetryTokens,
    make_retry,
    was_retried,
)
from spooky.protocol.stateless import INVALID_TOKEN
from tests.protocol.quic_pair import (
    PATH,
    SERVER,
    H3Client,
    Network,
    Pair,
    client_configuration,
    identity,
    server_settings,
)
from tests.protocol.retry_door import ISSUER, KEY, RetryDoor

ORIGINAL = bytes(range(8))
SOURCE = mint(ISSUER, bytes(9))
NOW = 5000.0
RAND = bytes(range(100, 116))
FIRST = Datagram(Kind.INITIAL, ORIGINAL, b"client", VERSION_1)
TOKEN = RetryTokens(KEY).seal(FIRST, PATH, SOURCE, NOW, RAND)
SECOND = Datagram(Kind.INITIAL, SOURCE, b"client", VERSION_1, TOKEN)


# --- tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [0.0, 0.05, TOKEN_LIFETIME_S - 0.002])
def test_a_token_proves_an_address(age: float) -> None:
    opened = RetryTokens(KEY).open(SECOND, PATH, NOW + age)
    assert opened == Retried(PATH, ORIGINAL, SOURCE)


@pytest.mark.parametrize(
    ("initial", "path", "age"),
    [
        pytest.param(SECOND, PATH, TOKEN_LIFETIME_S, id="expired"),
        pytest.param(SECOND, Path(("192.0.2.9", PATH.peer[1])), 0.0, id="other address"),
        pytest.param(SECOND, Path((PATH.peer[0], 40001)), 0.0, id="other port"),
        pytest.param(SECOND._replace(dcid=mint(8, bytes(9))), PATH, 0.0, id="other Retry"),
        pytest.param(SECOND._replace(dcid=ORIGINAL), PATH, 0.0, id="not after a Retry"),
        pytest.param(SECOND._replace(version=VERSION_2), PATH, 0.0, id="other version"),
        pytest.param(SECOND._replace(token=b""), PATH, 0.0, id="none"),
        pytest.param(SECOND._replace(token=TOKEN[:-1]), PATH, 0.0, id="cut"),
        pytest.param(SECOND._replace(token=TOKEN + b"\0"), PATH, 0.0, id="longer"),
        pytest.param(SECOND._replace(token=TOKEN[:SEED_OCTETS]), PATH, 0.0, id="a seed alone"),
        pytest.param(SECOND._replace(token=b"x" * 60), PATH, 0.0, id="made up"),
    ],
)
def test_a_token_proves_nothing(initial: Datagram, path: Path, age: float) -> None:
    assert RetryTokens(KEY).open(initial, path, NOW + age) is None


def test_no_octet_of_a_token_may_change() -> None:
    tokens = RetryTokens(KEY)
    for index in range(len(TOKEN)):
        changed = TOKEN[:index] + bytes([TOKEN[index] ^ 1]) + TOKEN[index + 1 :]
        assert tokens.open(SECOND._replace(token=changed), PATH, NOW) is None


def test_the_key_is_needed() -> None:
    assert RetryTokens(bytes(32)).open(SECOND, PATH, NOW) is None


def test_a_token_of_another_kind_under_the_same_key_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spooky.protocol.retry._KIND", b"other")
    other = RetryTokens(KEY).seal(FIRST, PATH, SOURCE, NOW, RAND)
    monkeypatch.undo()
    assert RetryTokens(KEY).open(SECOND._replace(token=other), PATH, NOW) is None


def test_ipv6_and_the_longest_ids() -> None:
    path = Path(("2001:db8::1", 443, 0, 0), b"\0" * 16)
    first = FIRST._replace(dcid=bytes(20))
    token = RetryTokens(KEY).seal(first, path, SOURCE, NOW, RAND)
    opened = RetryTokens(KEY).open(SECOND._replace(token=token), path, NOW)
    assert opened == Retried(path, bytes(20), SOURCE)


def test_a_token_shows_nothing_of_the_client() -> None:
    assert ORIGINAL not in TOKEN
    other = RetryTokens(KEY).seal(FIRST, PATH, SOURCE, NOW, RAND[::-1])
    assert other[SEED_OCTETS:] != TOKEN[SEED_OCTETS:]


@pytest.mark.parametrize(
    ("initial", "answers"),
    [(SECOND, True), (FIRST, False), (SECOND._replace(token=b""), False)],
)
def test_who_answers_a_retry(initial: Datagram, answers: bool) -> None:
    assert was_retried(initial) is answers
    assert not was_retried(FIRST._replace(token=b"of another server's NEW_TOKEN"))


# --- packets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_a_retry_packet_is_one(version: int) -> None:
    packet = make_retry(FIRST._replace(version=version), SOURCE, TOKEN)
    assert classify(packet) == Datagram(Kind.RETRY, b"client", SOURCE, version)
    assert len(packet) < 150, "far less than the datagram that it answers"


# --- a client on aioquic ----------------------------------------------------------------------

VERSIONS = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]


def client_of(version: int) -> QuicConfiguration:
    return client_configuration(original_version=version, supported_versions=[version])


def meet(pair: Pair) -> RetryDoor:
    assert isinstance(pair.engine, RetryDoor)
    return pair.engine


def closed(pair: Pair) -> list[int]:
    return [e.error_code for e in pair.heard if isinstance(e, quic_events.ConnectionTerminated)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("network", [Network(), Network(loss=0.1, duplication=0.1, seed=3)])
def test_a_client_comes_again_and_is_served(version: int, network: Network) -> None:
    pair = Pair(RetryDoor, server_settings(), client_of(version), replace(network))
    pair.connect()
    door = meet(pair)
    assert door.accepted is not None
    first, came_to = door.accepted.original_destination_cid, door.accepted.source_cid
    assert first == pair.client.original_destination_connection_id
    assert came_to is not None
    assert is_ours(came_to)
    assert slot_of(came_to) == ISSUER
    client = H3Client(pair)
    stream = client.request()
    pair.run(lambda: pair.told_of(RequestHead))
    pair.engine.send_head(stream, 200, [], end=True)
    pair.run(lambda: client.responses[stream].ended)
    assert client.responses[stream].status == b"200"
    parameters = pair.client._retry_source_connection_id
    assert parameters == came_to, "the handshake repeats it (RFC 9000 section 7.3)"


def test_a_client_does_not_take_a_handshake_that_hides_the_retry() -> None:
    """The transport parameter is what tells the client that the Retry was the server's own."""

    class Hider(RetryDoor):
        def _judge(self, data: bytes, path: Path, now: float) -> None:
            super()._judge(data, path, now)
            if self.engine is not None:
                self.engine._quic._retry_source_connection_id = None

    pair = Pair(Hider)
    pair.run(lambda: closed(pair))
    assert closed(pair) == [0x08], "TRANSPORT_PARAMETER_ERROR"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("change", "delay"),
    [
        pytest.param(lambda token: token[:-1] + bytes([token[-1] ^ 1]), 0.0, id="tampered"),
        pytest.param(lambda token: token, TOKEN_LIFETIME_S, id="expired"),
    ],
)
def test_a_bad_token_closes_the_connection(
    change: Callable[[bytes], bytes], delay: float, version: int
) -> None:
    pair = Pair(RetryDoor, None, client_of(version))
    door = meet(pair)
    door.tamper, door.delay = change, delay
    pair.run(lambda: closed(pair), limit=2.0)
    assert closed(pair) == [INVALID_TOKEN]
    assert door.engine is None
    assert max(map(len, door.sent)) < 200


def test_a_proven_address_gets_the_whole_flight_at_once() -> None:
    """Without it no more than three times of what came may be sent (RFC 9000 section 8.1)."""
    chain = [*identity(kind="rsa").chain] * 8
    big = replace(identity(kind="rsa"), chain=chain)
    pair = Pair(RetryDoor, server_settings(select=lambda _name: big))
    pair.run(lambda: meet(pair).engine)
    engine = meet(pair).engine
    assert engine is not None
    assert engine.path() == PATH
    pair.connect()


def test_only_the_proven_address_is_taken_for_validated() -> None:
    settings = server_settings()
    [(datagram, _), *_] = Pair(RetryDoor).client.datagrams_to_send(100.0)
    other = Path(("203.0.113.7", 53))
    connection = ServerConnection(
        settings, configuration_of(settings), ORIGINAL, Retried(PATH, ORIGINAL, SOURCE)
    )
    garbled = datagram[:100] + bytes(100) + datagram[200:]
    connection.receive_datagram(garbled, PATH, 100.0)
    assert connection.validated_path() == PATH
    connection.receive_datagram(datagram, other, 100.0)
    assert connection.validated_path() is None


# --- a client on qh3 --------------------------------------------------------------------------


def test_qh3_comes_again() -> None:
    configuration = Qh3Configuration(
        is_client=True, alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    now = 100.0
    client = Qh3Connection(configuration=configuration)
    client.connect(SERVER, now=now)
    door = RetryDoor(server_settings(), b"")
    done = False
    for _ in range(20):
        for data, _address in client.datagrams_to_send(now):
            door.receive([(data, PATH)], now)
        for data, _path in door.datagrams_to_send(now):
            client.receive_datagram(data, SERVER, now)
        while (event := client.next_event()) is not None:
            done |= isinstance(event, qh3_events.HandshakeCompleted)
        now += 0.01
    assert done
    assert door.accepted is not None
    assert door.accepted.original_destination_cid == client.original_destination_connection_id
    # Its ClientHello is so large that it came in two datagrams; it takes one Retry.
    assert {classify(packet).kind for packet in door.sent} == {Kind.RETRY}
