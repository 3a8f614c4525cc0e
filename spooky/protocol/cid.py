"""Connection IDs that say which worker they belong to, and their stateless reset tokens.

    octet 0       config rotation 0b111 and, in the low 5 bits, how many octets follow (10)
    octets 1..9   random
    octet 10      the slot, XORed with octet 9

The first octet is that of a server without a QUIC-LB configuration (draft-ietf-quic-load-balancers
section 3): such IDs name no server to a load balancer in front. A length of 11 is unlike what
clients choose, and a classic BPF program finds the slot by two loads and one XOR.

A rule: the mask hides the slot from a glance, not from somebody who has read this.
"""

import hmac

CID_LENGTH = 11
FIRST_OCTET = 0b111_00000 | (CID_LENGTH - 1)
MASK_OFFSET = 9
"""Where the octet is, from the beginning of the ID, that masks the slot."""
SLOT_OFFSET = 10
"""Where the masked slot is, from the beginning of the ID."""
RANDOM_OCTETS = 9
RESET_TOKEN_LENGTH = 16


def mint(slot: int, rand: bytes) -> bytes:
    """Make a connection ID for `slot` (0..255) out of 9 random octets; more are ignored.

    Raises:
        ValueError: the slot does not fit, or there are too few random octets.
    """
    if not 0 <= slot <= 0xFF or len(rand) < RANDOM_OCTETS:
        raise ValueError(f"slot {slot} and {len(rand)} random octets")
    rand = rand[:RANDOM_OCTETS]
    return b"%c%b%c" % (FIRST_OCTET, rand, slot ^ rand[-1])


def is_ours(cid: bytes) -> bool:
    """Say whether a connection ID looks like one of `mint`; one in 256 of this length does."""
    return len(cid) == CID_LENGTH and cid[0] == FIRST_OCTET


def slot_of(cid: bytes) -> int:
    """Return the slot in a connection ID for which `is_ours` holds."""
    return cid[SLOT_OFFSET] ^ cid[MASK_OFFSET]


def spread(dcid: bytes, count: int) -> int:
    """Say which of `count` workers a connection ID belongs to that a client has chosen.

    Clients choose at least 8 unpredictable octets (RFC 9000 section 7.2), of which the first four
    are taken; all datagrams of a client's first flight have the same, whatever address they
    come from.
    """
    return int.from_bytes(dcid[:4], "big") % count


def reset_token(key: bytes, cid: bytes) -> bytes:
    """Derive the stateless reset token of a connection ID (RFC 9000 section 10.3.2)."""
    return hmac.digest(key, cid, "sha256")[:RESET_TOKEN_LENGTH]
