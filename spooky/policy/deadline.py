"""How long a client is ready to wait, as its request says, and what a backend is told of it.

Two fields are known: `grpc-timeout` (the gRPC over HTTP/2 protocol, "Timeout") and one with a whole
number of milliseconds, whose name is the operator's choice. Pure: octets in, seconds out, and back.

Rules: a client can shorten what the operator allows, never lengthen it; what cannot be read is no
deadline, and no error. A deadline that is passed on is rounded down, so that a backend never works
for a client that has left.
"""

from collections.abc import Iterable

GRPC_TIMEOUT = b"grpc-timeout"
_GRPC_CONTENT = b"application/grpc"

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_DIGITS = 8
_FINEST_FIRST = (
    (b"n", 1_000_000_000),
    (b"u", 1_000_000),
    (b"m", 1_000),
    (b"S", 1),
)
_LONGEST_S = 10**_MOST_DIGITS - 1
_MOST_MILLISECOND_DIGITS = 12


def parse_grpc_timeout(value: bytes) -> float | None:
    """Read a `grpc-timeout`, seconds; None: it is none (1 to 8 digits and one of `HMSmun`)."""
    digits, unit = value[:-1], value[-1:]
    if unit not in _UNITS or not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None
    return int(digits) * _UNITS[unit]


def format_grpc_timeout(left: float) -> bytes:
    """Write a `grpc-timeout` of `left` seconds, in the finest unit that 8 digits have room for."""
    for unit, per_second in _FINEST_FIRST:
        count = int(left * per_second)
        if count <= _LONGEST_S:
            return b"%d%s" % (max(count, 0), unit)
    return b"%dS" % _LONGEST_S


def parse_milliseconds(value: bytes) -> float | None:
    """Read a whole number of milliseconds, seconds; None: it is none (1 to 12 digits)."""
    if not value.isdigit() or len(value) > _MOST_MILLISECOND_DIGITS:
        return None
    return int(value) / 1000


def format_milliseconds(left: float) -> bytes:
    """Write `left` seconds as a whole number of milliseconds."""
    return b"%d" % max(int(left * 1000), 0)


def is_grpc(content_type: bytes) -> bool:
    """Say whether a content type is one of gRPC's: `application/grpc`, `application/grpc+proto`."""
    kind = content_type[: len(_GRPC_CONTENT)].lower()
    return kind == _GRPC_CONTENT and content_type[len(kind) : len(kind) + 1] in (b"", b"+", b";")


def is_grpc_call(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether a request's fields are those of a gRPC call."""
    return any(name == b"content-type" and is_grpc(value) for name, value in fields)


def pass_on(
    fields: Iterable[tuple[bytes, bytes]], own: bytes | None, left: float
) -> list[tuple[bytes, bytes]]:
    """Return a request's fields as a backend gets them, which has `left` seconds.

    The operator's own field is there whether the client sent it or not; `grpc-timeout` takes the
    place of the client's, if that is a gRPC client.
    """
    kept = [field for field in fields if field[0] != own]
    if own is not None:
        kept.append((own, format_milliseconds(left)))
    if is_grpc_call(kept):
        told = format_grpc_timeout(left)
        kept = [(name, told if name == GRPC_TIMEOUT else value) for name, value in kept]
    return kept


def asked_for(fields: Iterable[tuple[bytes, bytes]], own: bytes | None) -> float | None:
    """Return the shortest wait that a request's fields ask for, seconds; None: they name none.

    `fields` have names in lower case. `own` is the name of the field with milliseconds, None for
    none. `grpc-timeout` counts for the content types of gRPC alone.
    """
    shortest: float | None = None
    grpc_wait: float | None = None
    grpc = False
    for name, value in fields:
        if name == own:
            wait = parse_milliseconds(value)
            if wait is not None and (shortest is None or wait < shortest):
                shortest = wait
        elif name == GRPC_TIMEOUT:
            grpc_wait = parse_grpc_timeout(value)
        elif name == b"content-type":
            grpc = is_grpc(value)
    if grpc and grpc_wait is not None and (shortest is None or grpc_wait < shortest):
        return grpc_wait
    return shortest
