"""Answers to datagrams of which no connection is known: a stateless reset, a refusal.

It makes octets and keeps nothing. Whether an answer is due, and how many a second, is decided
elsewhere.
"""

from spooky.protocol.cid import RESET_TOKEN_LENGTH, reset_token
from spooky.protocol.datagram import Datagram
from spooky.protocol.quic.packets import closing_initial

SMALLEST_RESET = 21
"""5 unpredictable octets and the token (RFC 9000 section 10.3)."""
LARGEST_RESET = 43
"""Long enough to look like any short packet (RFC 9000 section 10.3)."""
CONNECTION_REFUSED = 0x02
INVALID_TOKEN = 0x0B
"""RFC 9000 section 20.1"""
_SHORT = 0x40


def reset(dcid: bytes, size: int, key: bytes, rand: bytes) -> bytes | None:
    """Make a stateless reset for a connection ID of ours; None where the trigger is too small.

    Args:
        dcid: the one in the datagram that asks for it.
        size: of that datagram: the answer is smaller, so two servers cannot go on for ever.
        key: that the tokens are derived from.
        rand: 27 random octets or more.
    """
    length = min(size - 1, LARGEST_RESET)
    if length < SMALLEST_RESET:
        return None
    head = bytes([_SHORT | rand[0] & 0x3F]) + rand[1 : length - RESET_TOKEN_LENGTH]
    return head + reset_token(key, dcid)


def refusal(initial: Datagram, scid: bytes, code: int = CONNECTION_REFUSED) -> bytes:
    """Make the Initial packet that closes a connection which was not begun, with an error code.

    `scid` is what the client is to see as the server's connection ID.
    """
    return closing_initial(initial, scid, code)
