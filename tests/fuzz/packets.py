"""Harnesses of what is done with a datagram before there is a connection: its kind, IDs, tokens."""

import contextlib

from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic import packet as theirs

from spooky.protocol import cid as cids
from spooky.protocol import stateless
from spooky.protocol.datagram import (
    LONGEST_CID,
    SMALLEST_SHORT,
    VERSIONS,
    Datagram,
    Kind,
    classify,
    version_negotiation,
)
from spooky.protocol.downstream import Retried
from spooky.protocol.messages import Path
from spooky.protocol.retry import SEED_OCTETS, RetryTokens, make_retry, was_retried
from tests.fuzz.octets import Octets

KEY = bytes(range(32))
TOKENS = RetryTokens(KEY)
PATH = Path(("192.0.2.1", 40_000))
SCID = cids.mint(5, bytes(9))
INITIAL = Datagram(Kind.INITIAL, b"12345678", b"abcd", VERSIONS[0])
TOKEN = TOKENS.seal(INITIAL, PATH, SCID, 100.0, bytes(range(SEED_OCTETS)))

KINDS = {
    theirs.QuicPacketType.INITIAL: Kind.INITIAL,
    theirs.QuicPacketType.ZERO_RTT: Kind.ZERO_RTT,
    theirs.QuicPacketType.HANDSHAKE: Kind.HANDSHAKE,
    theirs.QuicPacketType.RETRY: Kind.RETRY,
    theirs.QuicPacketType.VERSION_NEGOTIATION: Kind.VERSION_NEGOTIATION,
    theirs.QuicPacketType.ONE_RTT: Kind.SHORT,
}


def datagram(data: bytes) -> None:
    """What aioquic takes for a packet of a served version is the same to the classifier."""
    found = classify(data)
    if found.kind is Kind.INITIAL:
        answer_initial(found)
    if found.kind is Kind.UNKNOWN_VERSION:
        answer = version_negotiation(found.dcid, found.scid, VERSIONS, b"\x2a")
        echoed = classify(answer)
        assert (echoed.dcid, echoed.scid) == (found.scid, found.dcid)
        assert echoed.kind is Kind.VERSION_NEGOTIATION
    with contextlib.suppress(ValueError, BufferReadError):
        header = theirs.pull_quic_header(Buffer(data=data), host_cid_length=cids.CID_LENGTH)
        if header.version is None:
            assert found.kind is Kind.SHORT or len(data) < SMALLEST_SHORT
        elif header.version in (0, *VERSIONS):
            assert found.kind is KINDS[header.packet_type]
            assert (found.dcid, found.scid) == (header.destination_cid, header.source_cid)
            assert found.kind is not Kind.INITIAL or found.token == header.token


def answer_initial(initial: Datagram) -> None:
    """All answers to an Initial are smaller than the smallest that gets one, and well formed."""
    assert max(len(initial.dcid), len(initial.scid)) <= LONGEST_CID
    refusal = stateless.refusal(initial, SCID)
    retry = make_retry(initial, SCID, TOKEN)
    for answer, kind in ((refusal, Kind.INITIAL), (retry, Kind.RETRY)):
        told = classify(answer)
        assert len(answer) <= 1200
        assert (told.kind, told.dcid, told.scid) == (kind, initial.scid, SCID)
    if was_retried(initial):
        assert TOKENS.open(initial, PATH, 100.0) is None or initial.token == TOKEN


def cid(data: bytes) -> None:
    """A slot comes back out of an ID; any octets may be asked."""
    octets = Octets(data)
    slot, rand = octets.number(), octets.take(9)
    if len(rand) == 9:
        made = cids.mint(slot, rand)
        assert cids.is_ours(made)
        assert cids.slot_of(made) == slot
    if cids.is_ours(data):
        assert cids.mint(cids.slot_of(data), data[1:10]) == data
    assert 0 <= cids.spread(data, 1 + slot) <= slot
    assert len(cids.reset_token(KEY, data)) == cids.RESET_TOKEN_LENGTH
    reset = stateless.reset(data, len(data), KEY, bytes(64))
    assert (reset is None) is (len(data) <= stateless.SMALLEST_RESET)
    assert reset is None or len(reset) < len(data)


def token(data: bytes) -> None:
    """Of all tokens, addresses, versions and times, only what was sealed opens.

    The octets change the real token: a place and what is put there, then the rest of the claim.
    """
    octets = Octets(data)
    claimed = bytearray(TOKEN)
    start, length = octets.number(), octets.number()
    claimed[start : start + length] = octets.piece()
    version, port, dcid = octets.choose(VERSIONS), 40_000 ^ octets.number(2), octets.piece()
    now = 90.0 + octets.number() / 4
    initial = Datagram(Kind.INITIAL, dcid or SCID, b"", version, bytes(claimed))
    path = Path((octets.choose(["192.0.2.1", "192.0.2.2", "::1"]), port))
    is_real = (initial.token, initial.dcid, version, path) == (TOKEN, SCID, VERSIONS[0], PATH)
    expected = Retried(PATH, INITIAL.dcid, SCID) if is_real and now < 110 else None
    assert TOKENS.open(initial, path, now) == expected
