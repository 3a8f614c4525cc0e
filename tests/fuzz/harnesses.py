"""All harnesses by name. Each takes any octets, and raises where something is wrong with Spooky."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from tests.fuzz import backends, clients, fields, packets, texts

Harness: TypeAlias = Callable[[bytes], None]

HARNESSES: Final[dict[str, Harness]] = {
    "datagram": packets.datagram,
    "cid": packets.cid,
    "token": packets.token,
    "config": texts.config,
    "control": texts.control,
    "headers": fields.translation,
    "hpack": fields.hpack_blocks,
    "h3": clients.streams,
    "quic": clients.frames,
    "lean": backends.lean,
    "h2": backends.h2,
}

CORPUS: Final = Path(__file__).parent / "corpus"
"""A folder for each harness."""


def corpus(name: str) -> list[bytes]:
    """Read the corpus of a harness, in the order of the files' names."""
    return [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
