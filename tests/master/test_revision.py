"""When what was removed may be given to others."""

from spooky.master.revision import Leaving


def test_what_was_removed_waits_for_the_last_to_carry_it_out() -> None:
    leaving = Leaving()
    leaving.note(["a", "b"], ["b", "c"], 3)
    assert not leaving.is_due(2)
    assert leaving.not_yet(2) == ["a"]
    leaving.note(["b", "c"], ["c"], 4)
    assert leaving.is_due(3)
    assert leaving.not_yet(3) == ["b"], "a later one does not hold up an earlier one"
    assert not leaving.is_due(3)
    assert leaving.not_yet(4) == []


def test_what_comes_back_is_not_waited_for() -> None:
    leaving = Leaving()
    leaving.note(["a", "b"], ["b"], 3)
    leaving.note(["b"], ["a", "b"], 4)
    assert not leaving.is_due(9)
    assert leaving.not_yet(3) == []
    leaving.note(["a", "b"], ["b"], 5)
    leaving.note(["b"], ["a"], 6)
    leaving.note(["a"], ["b"], 7)
    assert leaving.not_yet(6) == ["a"], "the last time that it was removed counts"
