"""Octets of a fuzzer, read as numbers, pieces and choices; past their end all is zero and empty."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Octets:
    """A reader of fuzzed octets."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Take so many octets, or what is left."""
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, octets: int = 1) -> int:
        """Take a number of so many octets."""
        return int.from_bytes(self.take(octets), "big")

    def choose(self, choices: Sequence[T]) -> T:
        """Take one of several."""
        return choices[self.number() % len(choices)]

    def piece(self) -> bytes:
        """Take a piece that says how long it is, in two octets."""
        return self.take(self.number(2) % 2048)


def piece(data: bytes) -> bytes:
    """Write what `Octets.piece` reads."""
    return len(data).to_bytes(2, "big") + data
