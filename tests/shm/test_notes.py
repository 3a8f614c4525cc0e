"""The text that the keeper leaves for all."""

import pytest

from spooky.shm.notes import OCTETS, Note, Notes
from spooky.shm.segment import SharedMemory


@pytest.fixture
def notes() -> Notes:
    return SharedMemory.create(16).notes


def test_the_last_text_is_read(notes: Notes) -> None:
    assert notes.read() == Note(0, "")
    for number, text in enumerate(("one", "a longer one: ü", "", "x" * OCTETS), start=1):
        assert notes.write(text) == number
        assert notes.number == number
        assert notes.read() == Note(number, text)


def test_what_is_too_long_changes_nothing(notes: Notes) -> None:
    notes.write("one")
    with pytest.raises(ValueError, match="more than"):
        notes.write("x" * (OCTETS + 1))
    assert notes.read() == Note(1, "one")


def test_a_writer_that_dies_over_it_leaves_what_there_was() -> None:
    memory = SharedMemory.create(16)
    memory.notes.write("one")
    memory.notes.write("two")
    # What a writer does before it has come to its last cell.
    memory.notes._places[1][:5] = b"three"
    assert memory.notes.read() == Note(2, "two")
