"""Variable-length integers (RFC 9000 section 16) and the HTTP/3 frames made of them."""

FRAME_DATA = 0x0
FRAME_HEADERS = 0x1
FRAME_CANCEL_PUSH = 0x3
FRAME_SETTINGS = 0x4
FRAME_PUSH_PROMISE = 0x5
FRAME_GOAWAY = 0x7
FRAME_MAX_PUSH_ID = 0xD
HTTP2_ONLY_FRAMES = frozenset((0x2, 0x6, 0x8, 0x9))
"""Frame types of HTTP/2 that must not be used (RFC 9114 section 7.2.8)."""

MAX_VARINT = (1 << 62) - 1


def encode(value: int) -> bytes:
    """Encode `value`, 0 to 2^62 - 1, in the fewest octets."""
    if value < 0x40:
        return value.to_bytes(1, "big")
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    return (value | 0xC000000000000000).to_bytes(8, "big")


def decode(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Decode the integer at offset `at`; return it and the offset after it.

    Returns (0, -1) if `data` ends before the integer does.
    """
    if at >= len(data):
        return 0, -1
    first = data[at]
    if first < 0x40:
        return first, at + 1
    end = at + (1 << (first >> 6))
    if end > len(data):
        return 0, -1
    value = int.from_bytes(data[at:end], "big")
    return value & ((1 << (8 * (end - at) - 2)) - 1), end


def frame(kind: int, payload: bytes) -> bytes:
    """Make a frame of `kind` (RFC 9114 section 7.1)."""
    return encode(kind) + encode(len(payload)) + payload
