"""Clients that encrypt properly and then say nonsense: they end their own connection at most."""

import random
from collections.abc import Callable

import pytest
from aioquic import tls

from spooky.protocol.messages import Closed, RequestHead
from tests.protocol.quic_pair import (
    PATH,
    H3Client,
    Pair,
    connect,
    make_aioquic,
    server_settings,
)


def mutate(chance: random.Random) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        octets = bytearray(payload)
        for _ in range(chance.randrange(1, 6)):
            match chance.randrange(3):
                case 0:
                    octets[chance.randrange(len(octets))] = chance.randrange(256)
                case 1:
                    at = chance.randrange(len(octets))
                    octets[at:at] = chance.randbytes(chance.randrange(1, 9))
                case _ if len(octets) > 20:
                    del octets[chance.randrange(len(octets) - 4) :][:4]
        return bytes(octets[:1150])

    return change


def corrupt(pair: Pair, epoch: tls.Epoch, chance: random.Random) -> None:
    """Have the client's packets of an epoch carry changed frames, properly encrypted."""
    context = pair.client._cryptos[epoch].send
    encrypt, change = context.encrypt_packet, mutate(chance)

    def encrypt_changed(header: bytes, payload: bytes, number: int) -> bytes:
        changed = change(payload)
        if header[0] & 0x80:  # A long header says how long the packet is.
            changed = changed[: len(payload)].ljust(len(payload), b"\x00")
        return encrypt(header, changed, number)

    context.encrypt_packet = encrypt_changed  # type: ignore[assignment,method-assign]


def pump(pair: Pair, rounds: int) -> None:
    for _ in range(rounds):
        pair.advance(0.03)


@pytest.mark.parametrize("seed", range(60))
def test_a_client_that_speaks_nonsense_hurts_only_itself(seed: int) -> None:
    chance = random.Random(seed)
    pair = connect()
    client = H3Client(pair)
    corrupt(pair, tls.Epoch.ONE_RTT, chance)
    for number in range(4):
        client.request(method=b"POST", body=b"b" * 300, end=number % 2 == 0)
    pump(pair, 4)
    for head in pair.told_of(RequestHead):
        pair.engine.send_head(head.stream, 200, [], end=True)
    pump(pair, 4)
    closed = pair.told_of(Closed)
    assert len(closed) <= 1
    assert not closed or pair.told[-1] is closed[0]


@pytest.mark.parametrize("seed", range(60))
def test_a_handshake_of_nonsense_hurts_only_itself(seed: int) -> None:
    chance = random.Random(seed)
    pair = Pair(make_aioquic)
    corrupt(pair, tls.Epoch.INITIAL, chance)
    pump(pair, 6)
    assert len(pair.told_of(Closed)) <= 1


def test_an_engine_that_never_saw_a_packet_is_quiet() -> None:
    chance = random.Random(5)
    for size in (0, 1, 20, 1200):
        engine = make_aioquic(server_settings(), b"12345678")
        octets = chance.randbytes(size)
        assert engine.receive([(octets, PATH)], 1.0) == []
        assert engine.receive([(b"\xc0\x00\x00\x00\x01\x08" + octets, PATH)], 1.0) == []
        assert engine.datagrams_to_send(1.0) == []
        assert engine.deadline() is not None
        engine.close(0x100)
        assert engine.datagrams_to_send(1.0) == []
        assert engine.handle_timer(100.0) == [Closed(0, "", by_peer=False)]
        assert engine.handle_timer(200.0) == []
        assert engine.deadline() is None
