"""Seals short header packets: AEAD and header protection (RFC 9001 section 5).

Pure: it knows keys and octets, nothing of connections.
"""

from collections.abc import Callable
from dataclasses import dataclass

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
