import os

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from hypothesis import example, given
from hypothesis import strategies as st

from spooky.protocol.cid import CID_LENGTH, mint
from spooky.protocol.datagram import (
    LONGEST_CID,
    SMALLEST_SHORT,
    VERSION_1,
    VERSION_2,
    Datagram,
    Kind,
    classify,
    version_negotiation,
)

DCID, SCID = b"D" * 8, b"S" * 5


def long_header(
    version: int, kind: int, rest: bytes = b"", dcid: bytes = DCID, scid: bytes = SCID
) -> bytes:
    """Make the header of a long packet; `kind` is its two type bits."""
    head = bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big")
    return head + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid + rest


@pytest.mark.parametrize(
    ("version", "bits", "kind"),
    [
        (VERSION_1, 0, Kind.INITIAL),
        (VERSION_1, 1, Kind.ZERO_RTT),
        (VERSION_1, 2, Kind.HANDSHAKE),
        (VERSION_1, 3, Kind.RETRY),
        (VERSION_2, 1, Kind.INITIAL),
        (VERSION_2, 2, Kind.ZERO_RTT),
        (VERSION_2, 3, Kind.HANDSHAKE),
        (VERSION_2, 0, Kind.RETRY),
        (0, 0, Kind.VERSION_NEGOTIATION),
        (0x1A2A3A4A, 0, Kind.UNKNOWN_VERSION),
        (0xFF00001D, 3, Kind.UNKNOWN_VERSION),
    ],
)
def test_long_headers(version: int, bits: int, kind: Kind) -> None:
    token = b"" if kind is not Kind.INITIAL else b"tok"
    data = long_header(version, bits, b"\x03tok" + bytes(40))
    assert classify(data) == Datagram(kind, DCID, SCID, version, token)


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_what_a_client_of_aioquic_sends(version: int) -> None:
    client = QuicConnection(
        configuration=QuicConfiguration(original_version=version, supported_versions=[version])
    )
    client.connect(("127.0.0.1", 4433), now=0.0)
    for data, _ in client.datagrams_to_send(now=0.0):
        datagram = classify(data)
        assert datagram.kind is Kind.INITIAL
        assert datagram.version == version
        assert datagram.dcid == client.original_destination_connection_id
        assert datagram.scid == client.host_cid
        assert datagram.token == b""


def test_short_header() -> None:
    cid = mint(3, os.urandom(9))
    data = b"\x5f" + cid + bytes(20)
    assert len(data) == SMALLEST_SHORT
    assert classify(data) == Datagram(Kind.SHORT, cid)
    assert len(classify(data).dcid) == CID_LENGTH


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x40",
        b"\x5f" + bytes(SMALLEST_SHORT - 2),
        b"\x1f" + bytes(100),  # fixed bit 0
        b"\x80" + long_header(VERSION_1, 0, bytes(40))[1:],  # fixed bit 0
        b"\xc0\x00\x00\x00\x01",
        b"\xc0\x00\x00\x00\x01\x14" + bytes(20),
        long_header(VERSION_1, 0),  # no token length
        long_header(VERSION_1, 0, b"\x40"),
        long_header(VERSION_1, 0, b"\x05abcd"),
        long_header(VERSION_1, 0, b"\xff" * 8 + bytes(1200)),
        long_header(VERSION_1, 0, bytes(40), dcid=bytes(LONGEST_CID + 1)),
        long_header(VERSION_2, 1, bytes(40), scid=bytes(LONGEST_CID + 1)),
    ],
)
def test_garbage(data: bytes) -> None:
    assert classify(data) == Datagram(Kind.GARBAGE)


def test_an_unknown_version_may_have_long_ids_and_no_fixed_bit() -> None:
    data = long_header(0x7A7A7A7A, 0, dcid=b"x" * 255, scid=b"y" * 255)
    data = bytes([data[0] & ~0x40]) + data[1:]
    assert classify(data) == Datagram(Kind.UNKNOWN_VERSION, b"x" * 255, b"y" * 255, 0x7A7A7A7A)


VERSIONS = st.sampled_from([0, VERSION_1, VERSION_2, 0x0A0A0A0A])
PLAUSIBLE = st.builds(
    lambda first, version, rest: bytes([first]) + version.to_bytes(4, "big") + rest,
    st.integers(0x80, 0xFF),
    VERSIONS,
    st.binary(max_size=80),
)


@given(st.binary(max_size=200) | PLAUSIBLE)
@example(long_header(VERSION_1, 0, b"\x7f\xff"))
def test_any_octets_are_one_of_the_kinds(data: bytes) -> None:
    datagram = classify(data)
    assert datagram.kind in Kind
    if datagram.kind is Kind.GARBAGE:
        assert datagram == Datagram(Kind.GARBAGE)
        return
    # Nothing is read that is not there.
    size = len(datagram.dcid) + len(datagram.scid) + len(datagram.token)
    assert size < len(data)
    if datagram.kind is Kind.SHORT:
        assert datagram.dcid == data[1:12]
        return
    assert data[5] == len(datagram.dcid)
    assert data[6:].startswith(datagram.dcid)


@given(PLAUSIBLE)
def test_agrees_with_aioquic_on_what_it_can_parse(data: bytes) -> None:
    try:
        header = pull_quic_header(Buffer(data=data), host_cid_length=CID_LENGTH)
    except ValueError:
        return
    datagram = classify(data)
    if header.version not in {VERSION_1, VERSION_2}:
        return
    assert (datagram.dcid, datagram.scid) == (header.destination_cid, header.source_cid)
    assert datagram.version == header.version
    assert datagram.kind.name == header.packet_type.name
    if header.packet_type is QuicPacketType.INITIAL:
        assert datagram.token == header.token


@given(
    st.binary(max_size=255), st.binary(max_size=255), st.binary(min_size=1, max_size=1), VERSIONS
)
def test_version_negotiation(dcid: bytes, scid: bytes, rand: bytes, version: int) -> None:
    packet = version_negotiation(dcid, scid, [VERSION_1, VERSION_2], rand)
    datagram = classify(packet)
    assert datagram.kind is Kind.VERSION_NEGOTIATION
    # What the client is told comes from where it wrote to, and goes to where it is.
    assert (datagram.dcid, datagram.scid) == (scid, dcid)
    assert packet[0] & 0xC0 == 0xC0
    assert packet[7 + len(dcid) + len(scid) :].hex() == "000000016b3343cf"


def test_version_negotiation_is_understood_by_aioquic() -> None:
    packet = version_negotiation(DCID, SCID, [VERSION_1, VERSION_2], b"\x2a")
    header = pull_quic_header(Buffer(data=packet))
    assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert (header.destination_cid, header.source_cid) == (SCID, DCID)
    assert header.supported_versions == [VERSION_1, VERSION_2]
