"""What is so for the whole instance: who serves, whether it takes more, how reloads went.

Written by the serving master alone, read by everybody, a command line of another process
included. What has to change as one is packed into one cell.
"""

from enum import IntEnum
from typing import Final, NamedTuple

TEXT_OCTETS: Final = 2048


class Cell(IntEnum):
    """The cells of the instance."""

    SERVING = 0
    """A packed `Serving`."""
    SERVING_SINCE_MS = 1
    """The monotonic clock when it began to serve."""
    PREVIOUS = 2
    """The packed `Serving` before."""
    ADMISSION = 3
    """An `Admission`."""
    MASTER_PID = 4
    STARTED_MS = 5
    """The monotonic clock when the instance started."""
    RELOADS_BEGUN = 6
    RELOAD_OUTCOME = 7
    """How many reloads have ended, whether the last one succeeded, and where its text is."""
    VERSION = 8
    """The version of the master's program: text, in this cell and the next."""
    UPGRADES_BEGUN = 10
    UPGRADE_OUTCOME = 11
    BACKENDS_BEGUN = 12
    BACKENDS_OUTCOME = 13
    CHANGES = 14
    """The number of the note (`shm.notes`) with what operators have changed that all processes go
    by."""
    CHANGES_REFUSED = 15
    """The number of the last one that the master refused; why is the outcome's text."""


class Change(IntEnum):
    """What an operator may ask for and wait for the end of; each has two texts of its own."""

    RELOAD = 0
    UPGRADE = 1
    BACKENDS = 2
    """Backends that are added or removed while Spooky runs."""


class Admission(IntEnum):
    """Whether the instance takes new connections."""

    OPEN = 0
    DRAINED = 1
    """It goes on for the clients that it has, and takes no new ones."""
    STOPPING = 2


class Serving(NamedTuple):
    """A generation that serves: its number, and its slots, from `first` on, `workers` of them."""

    generation: int
    first: int
    workers: int


class Outcome(NamedTuple):
    """How the last reload, or upgrade, that has ended went, and how many have."""

    ended: int
    succeeded: bool
    text: str


_FIXED_CELLS: Final = 16
_VERSION_OCTETS: Final = 16
_SUCCEEDED: Final = 1 << 31
_PLACE: Final = 1 << 30
_BEGUN: Final = (Cell.RELOADS_BEGUN, Cell.UPGRADES_BEGUN, Cell.BACKENDS_BEGUN)
_OUTCOME: Final = (Cell.RELOAD_OUTCOME, Cell.UPGRADE_OUTCOME, Cell.BACKENDS_OUTCOME)


def _pack(serving: Serving) -> int:
    return serving.generation << 32 | serving.first << 16 | serving.workers


def _unpack(cell: int) -> Serving:
    return Serving(cell >> 32, cell >> 16 & 0xFFFF, cell & 0xFFFF)


class Instance:
    """The view of the instance's cells."""

    CELLS: Final = _FIXED_CELLS + 2 * len(Change) * TEXT_OCTETS // 8

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells
        texts = cells[_FIXED_CELLS : self.CELLS].cast("B")
        self._texts = [
            texts[start : start + TEXT_OCTETS] for start in range(0, len(texts), TEXT_OCTETS)
        ]
        self._version = cells[Cell.VERSION : Cell.VERSION + 2].cast("B")

    def get(self, cell: Cell) -> int:
        """Read a cell."""
        return self._cells[cell]

    def set(self, cell: Cell, value: int) -> None:
        """Write a cell; `value` is 0 to 2**64 - 1."""
        self._cells[cell] = value

    @property
    def version(self) -> str:
        """The version of the serving master's program."""
        return self._version.tobytes().rstrip(b"\0").decode(errors="replace")

    def set_version(self, version: str) -> None:
        """Write which version of the program serves."""
        self._version[:] = version.encode()[:_VERSION_OCTETS].ljust(_VERSION_OCTETS, b"\0")

    # --- who serves -------------------------------------------------------------------------

    def serving(self) -> Serving:
        """Say which generation serves new clients; generation 0: none yet."""
        return _unpack(self._cells[Cell.SERVING])

    def previous(self) -> Serving:
        """Say which one served before it; generation 0: none."""
        return _unpack(self._cells[Cell.PREVIOUS])

    def promote(self, serving: Serving, now_ms: int) -> None:
        """Let a generation serve from now on."""
        self._cells[Cell.PREVIOUS] = self._cells[Cell.SERVING]
        self._cells[Cell.SERVING_SINCE_MS] = now_ms
        self._cells[Cell.SERVING] = _pack(serving)

    @property
    def admission(self) -> Admission:
        """Whether new connections are taken."""
        return Admission(self._cells[Cell.ADMISSION])

    # --- reloads and upgrades -----------------------------------------------------------------

    def begin_change(self, change: Change) -> None:
        """Note that a reload or upgrade has begun."""
        self._cells[_BEGUN[change]] += 1

    def end_change(self, change: Change, text: str, *, succeeded: bool) -> None:
        """Note how all of a kind went that have begun."""
        octets = text.encode()[:TEXT_OCTETS]
        # Beside the text of the one before, which somebody may be reading.
        place = ~self._cells[_OUTCOME[change]] & _PLACE
        self._text(change, place)[: len(octets)] = octets
        ended = self._cells[_BEGUN[change]] << 32
        self._cells[_OUTCOME[change]] = ended | _SUCCEEDED * succeeded | place | len(octets)

    def begun(self, change: Change) -> int:
        """Say how many of a kind have begun."""
        return self._cells[_BEGUN[change]]

    def outcome(self, change: Change) -> Outcome:
        """Say how the last of a kind that ended went."""
        while True:
            cell = self._cells[_OUTCOME[change]]
            length = cell & (_PLACE - 1)
            octets = self._text(change, cell & _PLACE)[:length].tobytes()
            # The second one that ends from now on writes where this one's text is.
            if cell == self._cells[_OUTCOME[change]]:
                text = octets.decode(errors="replace")
                return Outcome(cell >> 32, bool(cell & _SUCCEEDED), text)

    def _text(self, change: Change, place: int) -> "memoryview[int]":
        return self._texts[2 * change + bool(place)]
