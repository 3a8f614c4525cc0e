"""A fuzzer without coverage: it changes the corpus by a seeded generator.

For the smoke test, and for machines that have no wheel of atheris.
"""

import hashlib
import random
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.harnesses import Harness

LONGEST = 8192
ODD = (b"\0", b"\xff", b"\x80", b"\n", b"\x40\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")


def mutate(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Change one of the corpus in one to eight places."""
    octets = bytearray(chance.choice(corpus))
    for _ in range(chance.randrange(1, 9)):
        at = chance.randrange(len(octets) + 1)
        match chance.randrange(6):
            case 0:
                octets[at : at + 1] = chance.randbytes(1)
            case 1:
                octets[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 2:
                del octets[at : at + chance.randrange(1, 17)]
            case 3:
                octets[at : at + 1] = chance.choice(ODD)
            case 4:
                other = chance.choice(corpus)
                octets[at:at] = other[chance.randrange(len(other) + 1) :]
            case _:
                octets[at:at] = octets[at : at + chance.randrange(1, 65)]
    return bytes(octets[:LONGEST])


def run(harness: Harness, corpus: Sequence[bytes], seed: int, seconds: float, folder: Path) -> int:
    """Run the corpus, then changed octets for so long; return how often the harness ran.

    A crash is written into the folder, and raised.
    """
    chance = random.Random(seed)
    count = 0
    end = time.monotonic() + seconds
    while count < len(corpus) or time.monotonic() < end:
        data = corpus[count] if count < len(corpus) else mutate(chance, corpus)
        try:
            harness(data)
        except Exception:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            raise
        count += 1
    return count
