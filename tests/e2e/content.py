"""Deterministic content, known to clients and backends alike by its length alone.

The block's length is prime, so octets that are lost, doubled or swapped in pieces of any usual
size change the hash. Never holds more than one block.
"""

import hashlib
import random
from collections.abc import Iterator
from functools import cache

KIB = 1024
MIB = 1024 * KIB
BLOCK = random.Random(9114).randbytes(65537)


def chunks(length: int) -> Iterator[bytes]:
    """Yield the content of `length` octets, in pieces."""
    while length > 0:
        piece = BLOCK[:length]
        yield piece
        length -= len(piece)


def content(length: int) -> bytes:
    """Make the content of `length` octets at once."""
    return b"".join(chunks(length))


@cache
def digest(length: int) -> str:
    """Say the SHA-256 of the content of `length` octets, in hexadecimal."""
    sha256 = hashlib.sha256()
    for piece in chunks(length):
        sha256.update(piece)
    return sha256.hexdigest()
