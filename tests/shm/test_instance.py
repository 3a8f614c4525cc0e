"""What is so for the whole instance: packed cells, admission, the journal of reloads."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from spooky.shm.instance import TEXT_OCTETS, Admission, Cell, Change, Instance, Outcome, Serving
from spooky.shm.segment import SharedMemory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def instance(memory: SharedMemory) -> Instance:
    return memory.instance


def test_an_instance_begins_with_nothing(instance: Instance) -> None:
    assert instance.serving() == instance.previous() == Serving(0, 0, 0)
    assert instance.admission is Admission.OPEN
    assert instance.outcome(Change.RELOAD) == Outcome(0, False, "")


def test_cells_do_not_touch_each_other(instance: Instance) -> None:
    for cell in Cell:
        instance.set(cell, 2**64 - 1 - cell)
    assert [instance.get(cell) for cell in Cell] == [2**64 - 1 - cell for cell in Cell]


@pytest.mark.parametrize(
    "serving",
    [Serving(1, 0, 1), Serving(2**32 - 1, 255, 128), Serving(7, 128, 128), Serving(300, 17, 3)],
)
def test_who_serves_comes_back_whole(instance: Instance, serving: Serving) -> None:
    instance.promote(serving, 5)
    assert instance.serving() == serving


def test_a_promotion_makes_the_one_before_the_previous(instance: Instance) -> None:
    first, second, third = Serving(1, 0, 2), Serving(2, 2, 4), Serving(3, 0, 2)
    instance.promote(first, 100)
    assert (instance.serving(), instance.previous()) == (first, Serving(0, 0, 0))
    assert instance.get(Cell.SERVING_SINCE_MS) == 100
    instance.promote(second, 2**40)
    assert (instance.serving(), instance.previous()) == (second, first)
    assert instance.get(Cell.SERVING_SINCE_MS) == 2**40
    instance.promote(third, 2**40 + 1)
    assert (instance.serving(), instance.previous()) == (third, second)


@pytest.mark.parametrize("admission", Admission)
def test_admission(instance: Instance, admission: Admission) -> None:
    instance.set(Cell.ADMISSION, admission)
    assert instance.admission is admission


# --- the journal of reloads --------------------------------------------------------------------


def test_a_reload_is_told_of_when_it_has_ended(instance: Instance) -> None:
    instance.begin_change(Change.RELOAD)
    assert instance.get(Cell.RELOADS_BEGUN) == 1
    assert instance.outcome(Change.RELOAD) == Outcome(0, False, "")
    instance.end_change(Change.RELOAD, "listen: no", succeeded=False)
    assert instance.outcome(Change.RELOAD) == Outcome(1, False, "listen: no")
    instance.begin_change(Change.RELOAD)
    assert instance.outcome(Change.RELOAD) == Outcome(1, False, "listen: no")
    instance.end_change(Change.RELOAD, "ok", succeeded=True)
    assert instance.outcome(Change.RELOAD) == Outcome(2, True, "ok")


def test_reloads_that_begin_while_one_is_under_way_end_with_it(instance: Instance) -> None:
    instance.begin_change(Change.RELOAD)
    instance.begin_change(Change.RELOAD)
    instance.end_change(Change.RELOAD, "generation 2, 4 workers", succeeded=True)
    assert instance.outcome(Change.RELOAD) == Outcome(2, True, "generation 2, 4 workers")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * TEXT_OCTETS, "x" * TEXT_OCTETS),
        ("x" * (TEXT_OCTETS + 1), "x" * TEXT_OCTETS),
        ("x" * 10 * TEXT_OCTETS, "x" * TEXT_OCTETS),
        ("two\nlines, Zürich", "two\nlines, Zürich"),
        # The letter that is cut in two is not shown as another one.
        ("x" * (TEXT_OCTETS - 1) + "ü", "x" * (TEXT_OCTETS - 1) + "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_long_text_is_cut(instance: Instance, text: str, kept: str) -> None:
    instance.begin_change(Change.RELOAD)
    instance.end_change(Change.RELOAD, text, succeeded=False)
    assert instance.outcome(Change.RELOAD).text == kept
    assert instance.get(Cell.RELOADS_BEGUN) == 1


WRITER = """
import sys
from spooky.shm.instance import Change
from spooky.shm.segment import SharedMemory
instance = SharedMemory.attach(int(sys.argv[1]), writable=True).instance
print("ready", flush=True)
number = 0
while True:
    number += 1
    instance.begin_change(Change.RELOAD)
    text = chr(97 + number % 26) * (number * 97 % 2048)
    instance.end_change(Change.RELOAD, text, succeeded=number % 2 == 0)
"""


def test_a_reader_never_mixes_two_outcomes(memory: SharedMemory) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(memory.fd)],
        pass_fds=[memory.fd],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            seen = set()
            for looks in itertools.count():
                assert writer.poll() is None
                outcome = memory.instance.outcome(Change.RELOAD)
                number = outcome.ended
                assert outcome.text == chr(97 + number % 26) * (number * 97 % 2048 if number else 0)
                assert outcome.succeeded is (number > 0 and number % 2 == 0)
                seen.add(number)
                if looks >= 20_000 and len(seen) >= 100:
                    break
        finally:
            writer.kill()


def test_reloads_and_upgrades_are_told_apart(memory: SharedMemory) -> None:
    instance = memory.instance
    instance.begin_change(Change.RELOAD)
    instance.begin_change(Change.UPGRADE)
    instance.end_change(Change.UPGRADE, "no such program", succeeded=False)
    assert instance.outcome(Change.RELOAD) == Outcome(0, False, "")
    instance.end_change(Change.RELOAD, "generation 2", succeeded=True)
    assert instance.outcome(Change.RELOAD) == Outcome(1, True, "generation 2")
    assert instance.outcome(Change.UPGRADE) == Outcome(1, False, "no such program")
