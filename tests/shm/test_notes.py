"""The text that the keeper leaves for the master."""

import pytest

from spooky.shm.notes import OCTETS, Notes
from spooky.shm.segment import SharedMemory


@pytest.fixture
def notes() -> Notes:
    return SharedMemory.create(16).notes


def test_the_last_text_is_read(notes: Notes) -> None:
    assert notes.read() == ""
    for text in ("one", "a longer one: ü", "", "x" * OCTETS):
        notes.write(text)
        assert notes.read() == text


def test_what_is_too_long_changes_nothing(notes: Notes) -> None:
    notes.write("one")
    with pytest.raises(ValueError, match="more than"):
        notes.write("x" * (OCTETS + 1))
    assert notes.read() == "one"


def test_a_writer_that_died_over_it_is_healed_by_the_next(notes: Notes) -> None:
    notes.write("one")
    notes._cells[0] |= 1
    assert notes.read() == ""
    notes.write("two")
    assert notes.read() == "two"
