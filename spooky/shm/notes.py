"""A text that the keeper leaves for the master: what an operator has changed of the backends.

Written by the keeper alone. Who reads while it is written reads again: its number is odd then.
"""

from typing import Final

OCTETS: Final = 32 * 1024
_NUMBER: Final = 0
_LENGTH: Final = 1
_FIXED_CELLS: Final = 8
_TRIES: Final = 1000


class Notes:
    """The cells of the text."""

    CELLS: Final = _FIXED_CELLS + OCTETS // 8

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells
        self._octets = cells[_FIXED_CELLS:].cast("B")

    def write(self, text: str) -> None:
        """Leave another text; ValueError when it is too long."""
        octets = text.encode()
        if len(octets) > OCTETS:
            raise ValueError(f"more than {OCTETS} octets")
        self._cells[_NUMBER] |= 1
        self._octets[: len(octets)] = octets
        self._cells[_LENGTH] = len(octets)
        self._cells[_NUMBER] += 1

    def read(self) -> str:
        """Read the text that was left last; empty where none was, or its writer died over it."""
        for _ in range(_TRIES):
            number = self._cells[_NUMBER]
            text = self._octets[: self._cells[_LENGTH]].tobytes()
            if number % 2 == 0 and number == self._cells[_NUMBER]:
                return text.decode()
        return ""
