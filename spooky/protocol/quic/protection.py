"""Seals and opens short header packets: AEAD and header protection (RFC 9001 section 5).

Pure: it knows keys and octets, nothing of connections.
"""

from collections.abc import Callable
from dataclasses import dataclass

from aioquic.quic.packet import decode_packet_number
from cryptography.exceptions import InvalidTag

PN_BYTES = 2
"""Length of the packet numbers that are sent; enough for 32,767 packets in flight."""
TAG_BYTES = 16
LEAST_PAYLOAD = 4 - PN_BYTES
"""Less could not be sampled for header protection (RFC 9001 section 5.4.2)."""
_SAMPLE = slice(LEAST_PAYLOAD, LEAST_PAYLOAD + 16)
_FIRST = [bytes((value,)) for value in range(256)]


@dataclass(frozen=True, slots=True)
class Sealer:
    """What the short header packets of one flight have in common.

    `first` is the first octet of all, with the key phase and the spin bit; `cid` is the peer's.
    `encrypt` takes nonce, plaintext and associated data, `mask` makes the mask of a sample.
    """

    encrypt: Callable[[bytes, bytes, bytes], bytes]
    mask: Callable[[bytes], bytes]
    iv: int
    first: int
    cid: bytes

    @property
    def overhead(self) -> int:
        """Octets of a packet that are not its payload."""
        return 1 + len(self.cid) + PN_BYTES + TAG_BYTES

    def seal(self, number: int, payload: bytes) -> bytes:
        """Make packet `number` of a payload that is at least `LEAST_PAYLOAD` octets long."""
        first, cid = self.first | (PN_BYTES - 1), self.cid
        truncated = number & 0xFFFF
        header = _FIRST[first] + cid + truncated.to_bytes(PN_BYTES, "big")
        text = self.encrypt((self.iv ^ number).to_bytes(12, "big"), payload, header)
        mask = self.mask(text[_SAMPLE])
        hidden = truncated ^ (mask[1] << 8 | mask[2])
        return _FIRST[first ^ (mask[0] & 0x1F)] + cid + hidden.to_bytes(PN_BYTES, "big") + text


KEY_PHASE = 0x04
RESERVED = 0x18
SPIN = 0x20


@dataclass(frozen=True, slots=True)
class Opener:
    """What the short header packets that are expected have in common; `cid` is ours."""

    decrypt: Callable[[bytes, bytes, bytes], bytes]
    mask: Callable[[bytes], bytes]
    iv: int
    key_phase: int
    cid: bytes

    def open(self, packet: bytes, expected: int) -> tuple[int, int, bytes] | None:
        """Return the packet's number, its first octet and its payload.

        `expected` is the next packet number. None: it is not a packet of these keys and of this
        connection ID, or there is something odd about its header.
        """
        at = 1 + len(self.cid)
        sample = packet[at + 4 : at + 20]
        if packet[0] & 0x80 or len(sample) < 16 or not packet.startswith(self.cid, 1):
            return None
        mask = self.mask(sample)
        first = packet[0] ^ (mask[0] & 0x1F)
        if first & RESERVED or (first & KEY_PHASE) >> 2 != self.key_phase:
            return None
        length = (first & 0x03) + 1
        truncated = int.from_bytes(packet[at : at + length], "big")
        truncated ^= int.from_bytes(mask[1 : 1 + length], "big")
        header = _FIRST[first] + self.cid + truncated.to_bytes(length, "big")
        number = decode_packet_number(truncated, 8 * length, expected)
        nonce = (self.iv ^ number).to_bytes(12, "big")
        try:
            return number, first, self.decrypt(nonce, packet[at + length :], header)
        except InvalidTag:
            return None
