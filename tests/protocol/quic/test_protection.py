"""Packet protection against aioquic's own, for every cipher suite, both ways."""

import random
from dataclasses import replace

import pytest
from aioquic.quic.crypto import CryptoPair
from aioquic.tls import CipherSuite

from spooky.protocol.quic.keys import make_opener, make_sealer
from spooky.protocol.quic.protection import LEAST_PAYLOAD, Opener, Sealer

CID = bytes(range(10, 21))
VERSION = 1
SUITES = [
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
]


def make_pair(suite: CipherSuite) -> CryptoPair:
    pair = CryptoPair()
    size = 48 if suite is CipherSuite.AES_256_GCM_SHA384 else 32
    for direction in (pair.recv, pair.send):
        direction.setup(cipher_suite=suite, secret=bytes(range(size)), version=VERSION)
    return pair


def sealer_of(pair: CryptoPair, first: int = 0x40) -> Sealer:
    return make_sealer(pair.send, first, CID)


def opener_of(pair: CryptoPair, key_phase: int = 0) -> Opener:
    return replace(make_opener(pair.recv, CID), key_phase=key_phase)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("number", [0, 1, 255, 65_535, 65_536, 1_000_000])
@pytest.mark.parametrize("size", [LEAST_PAYLOAD, 3, 1200])
def test_aioquic_opens_what_is_sealed(suite: CipherSuite, number: int, size: int) -> None:
    pair = make_pair(suite)
    payload = random.Random(size).randbytes(size)
    packet = sealer_of(pair).seal(number, payload)
    header, plain, found = pair.decrypt_packet(packet, 1 + len(CID), number)
    assert (header[:-2], plain, found) == (b"\x41" + CID, payload, number)
    assert len(packet) == size + sealer_of(pair).overhead


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_what_aioquic_seals_is_opened(suite: CipherSuite, length: int) -> None:
    pair = make_pair(suite)
    number = 0x1234
    first = 0x60 | (length - 1)
    header = bytes((first,)) + CID + (number & (1 << 8 * length) - 1).to_bytes(length, "big")
    packet = pair.encrypt_packet(header, b"some payload", number)
    assert opener_of(pair).open(packet, number - 3) == (number, first, b"some payload")


@pytest.mark.parametrize("suite", SUITES)
def test_what_was_changed_is_refused(suite: CipherSuite) -> None:
    pair = make_pair(suite)
    packet = sealer_of(pair).seal(7, b"payload")
    for at in range(len(packet)):
        changed = bytearray(packet)
        changed[at] ^= 0x10
        assert opener_of(pair).open(bytes(changed), 7) is None, at
    for size in range(1, len(packet)):
        assert opener_of(pair).open(packet[:size], 7) is None, size


def test_other_packets_are_left_alone() -> None:
    pair = make_pair(SUITES[0])
    for first in (0x40 | 0x04, 0x40 | 0x08, 0x40 | 0x10):
        assert opener_of(pair).open(sealer_of(pair, first).seal(7, b"payload"), 7) is None
    assert opener_of(pair, key_phase=1).open(sealer_of(pair).seal(7, b"payload"), 7) is None
    assert opener_of(pair, 1).open(sealer_of(pair, 0x44).seal(7, b"payload"), 7) is not None
