"""What a datagram is, from the header of its first packet alone.

It owns the invariants of QUIC (RFC 8999) and the packet types of versions 1 and 2. It removes no
protection and keeps no state; octets of any kind come out as one of the kinds, never as an error.

A rule: which datagrams deserve an answer, by their size, is not decided here.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from spooky.protocol import varint
from spooky.protocol.cid import CID_LENGTH

VERSION_1 = 0x00000001
VERSION_2 = 0x6B3343CF
VERSIONS = (VERSION_1, VERSION_2)
"""Those that are served, the one that is preferred first."""
LONGEST_CID = 20
"""Of versions 1 and 2 (RFC 9000 section 17.2); others may have up to 255 octets (RFC 8999)."""
SMALLEST_SHORT = 1 + CID_LENGTH + 4 + 16
"""First octet, ID, and what header protection is sampled from (RFC 9001 section 5.4.2)."""

_LONG, _FIXED = 0x80, 0x40


class Kind(Enum):
    """What the first packet of a datagram is."""

    INITIAL = "initial"
    ZERO_RTT = "0-rtt"
    HANDSHAKE = "handshake"
    RETRY = "retry"
    VERSION_NEGOTIATION = "version negotiation"
    SHORT = "short"
    """A 1-RTT packet, or a stateless reset."""
    UNKNOWN_VERSION = "unknown version"
    GARBAGE = "garbage"
    """No packet that anybody could want of us."""


class Datagram(NamedTuple):
    """The header of a datagram's first packet.

    A tuple, for one is made of many datagrams and this is the cheapest that cannot change.
    `version` is 0 where there is none; `token` is an Initial's.
    """

    kind: Kind
    dcid: bytes = b""
    scid: bytes = b""
    version: int = 0
    token: bytes = b""


_GARBAGE = Datagram(Kind.GARBAGE)

# RFC 9000 section 17.2, RFC 9369 section 3.2: the two bits after the fixed bit.
_TYPES: dict[int, tuple[Kind, Kind, Kind, Kind]] = {
    VERSION_1: (Kind.INITIAL, Kind.ZERO_RTT, Kind.HANDSHAKE, Kind.RETRY),
    VERSION_2: (Kind.RETRY, Kind.INITIAL, Kind.ZERO_RTT, Kind.HANDSHAKE),
}


def classify(data: bytes) -> Datagram:
    """Say what a datagram is. Short headers are taken to have a connection ID of our length."""
    if not data:
        return _GARBAGE
    first = data[0]
    if first & _LONG:
        return _classify_long(first, data)
    if not first & _FIXED or len(data) < SMALLEST_SHORT:
        return _GARBAGE
    return Datagram(Kind.SHORT, data[1 : 1 + CID_LENGTH])


def _classify_long(first: int, data: bytes) -> Datagram:
    size = len(data)
    if size < 7:
        return _GARBAGE
    version = int.from_bytes(data[1:5], "big")
    dcid_end = 6 + data[5]
    if dcid_end >= size:
        return _GARBAGE
    scid_start = dcid_end + 1
    scid_end = scid_start + data[dcid_end]
    if scid_end > size:
        return _GARBAGE
    dcid, scid = data[6:dcid_end], data[scid_start:scid_end]
    types = _TYPES.get(version)
    if types is None:
        kind = Kind.UNKNOWN_VERSION if version else Kind.VERSION_NEGOTIATION
        return Datagram(kind, dcid, scid, version)
    if not first & _FIXED or len(dcid) > LONGEST_CID or len(scid) > LONGEST_CID:
        return _GARBAGE
    kind = types[first >> 4 & 0x03]
    if kind is not Kind.INITIAL:
        return Datagram(kind, dcid, scid, version)
    length, start = varint.decode(data, scid_end)
    if start < 0 or start + length > size:
        return _GARBAGE
    return Datagram(kind, dcid, scid, version, data[start : start + length])


def version_negotiation(dcid: bytes, scid: bytes, versions: Iterable[int], rand: bytes) -> bytes:
    """Make the answer to a client whose version is unknown (RFC 9000 section 17.2.1).

    `dcid` and `scid` are those of the client's packet; `rand` has one random octet or more. To be
    sent only for datagrams of 1200 octets and more, and never for a version negotiation packet
    (sections 6.1 and 14.1).
    """
    # The bit which other versions have fixed is set: others share UDP ports with QUIC.
    first = rand[0] | _LONG | _FIXED
    listed = b"".join(version.to_bytes(4, "big") for version in versions)
    head = b"%c\x00\x00\x00\x00" % first
    return b"%b%c%b%c%b%b" % (head, len(scid), scid, len(dcid), dcid, listed)
