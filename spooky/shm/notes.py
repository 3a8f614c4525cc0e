"""A text that the keeper leaves for all: what operators have changed of the backends.

Written by the keeper alone. There is room for two of them, and one cell says which one holds, its
number and its length: so a keeper that dies while it writes leaves the text that there was.
"""

from typing import Final, NamedTuple

OCTETS: Final = 32 * 1024
_FIXED_CELLS: Final = 8
_NUMBER_AT: Final = 32
_LENGTH: Final = (1 << _NUMBER_AT) - 1


class Note(NamedTuple):
    """A text, and its number among those that were left; 0: none was."""

    number: int
    text: str


class Notes:
    """The cells of the text."""

    CELLS: Final = _FIXED_CELLS + 2 * OCTETS // 8

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells
        octets = cells[_FIXED_CELLS : self.CELLS].cast("B")
        self._places = (octets[:OCTETS], octets[OCTETS:])

    def write(self, text: str) -> int:
        """Leave another text and return its number; ValueError when it is too long."""
        octets = text.encode()
        if len(octets) > OCTETS:
            raise ValueError(f"more than {OCTETS} octets")
        number = self.number + 1
        # Beside the text of the one before, which somebody may be reading.
        self._places[number % 2][: len(octets)] = octets
        self._cells[0] = number << _NUMBER_AT | len(octets)
        return number

    @property
    def number(self) -> int:
        """The number of the text that was left last."""
        return self._cells[0] >> _NUMBER_AT

    def read(self) -> Note:
        """Read the text that was left last."""
        while True:
            cell = self._cells[0]
            number = cell >> _NUMBER_AT
            octets = self._places[number % 2][: cell & _LENGTH].tobytes()
            # The second one that is left from now on stands where this one does.
            if cell == self._cells[0]:
                return Note(number, octets.decode())
