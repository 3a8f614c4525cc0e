"""The messages of gRPC's health protocol, grpc.health.v1.Health/Check, octet by octet.

One field each way, so that no protocol compiler is needed: the question has a string in field 1,
the answer an enumeration in field 1 (github.com/grpc/grpc, doc/health-checking.md). Framing is
that of gRPC over HTTP/2 (doc/PROTOCOL-HTTP2.md): a flag, a length of 4 octets, the message. It
knows nothing of streams and statuses of HTTP.

A rule: what is not understood is a ValueError, never a guess; fields that are not known are passed
over, as protobuf has it.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

PATH: Final = b"/grpc.health.v1.Health/Check"

_FRAME_OCTETS: Final = 5
_COUNTED: Final = 2
"""The type of fields that say their length."""
_MOST_VARINT_OCTETS: Final = 10


class ServingStatus(IntEnum):
    """What a server says of a service of its own."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def encode_question(service: str) -> bytes:
    """Encode a framed HealthCheckRequest; "" asks for the server as a whole."""
    name = service.encode()
    field = bytes([1 << 3 | _COUNTED]) + _encode_varint(len(name)) + name if name else b""
    return b"\0" + len(field).to_bytes(4, "big") + field


def decode_answer(data: bytes) -> ServingStatus:
    """Decode a framed HealthCheckResponse. ValueError, with what is wrong with it."""
    if len(data) < _FRAME_OCTETS:
        raise ValueError("the answer has no message")
    if data[0]:
        raise ValueError("the message is compressed, which was not asked for")
    message = data[_FRAME_OCTETS:]
    if int.from_bytes(data[1:_FRAME_OCTETS], "big") != len(message):
        raise ValueError("the message has another length than it says")
    number = 0
    for field, value in _fields(message):
        if field == 1:
            number = value
    try:
        return ServingStatus(number)
    except ValueError:
        raise ValueError(f"{number} is no serving status") from None


def _fields(message: bytes) -> Iterator[tuple[int, int]]:
    """List the fields that are varints, by number; pass over the others."""
    place = 0
    while place < len(message):
        tag, place = _decode_varint(message, place)
        match tag & 7:
            case 0:
                value, place = _decode_varint(message, place)
                yield tag >> 3, value
            case 1:
                place += 8
            case 2:
                size, place = _decode_varint(message, place)
                place += size
            case 5:
                place += 4
            case other:
                raise ValueError(f"the message has a field of type {other}")
        if place > len(message):
            raise ValueError("the message ends in a field")


def _encode_varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _decode_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the value that begins there, and where it ends."""
    value = 0
    for count in range(_MOST_VARINT_OCTETS):
        if place + count >= len(data):
            raise ValueError("the message ends in a number")
        octet = data[place + count]
        value |= (octet & 0x7F) << 7 * count
        if not octet & 0x80:
            return value, place + count + 1
    raise ValueError("the message has a number without an end")
