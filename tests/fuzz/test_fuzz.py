"""A second of every harness: they run, their corpus is whole, and they can find something."""

from pathlib import Path

import pytest

from tests.fuzz import blind
from tests.fuzz.harnesses import CORPUS, HARNESSES, corpus

SECONDS = 1.0


@pytest.mark.parametrize("name", HARNESSES)
def test_nothing_is_found_in_a_second(name: str, tmp_path: Path) -> None:
    count = blind.run(HARNESSES[name], corpus(name), seed=1, seconds=SECONDS, folder=tmp_path)
    assert count >= len(corpus(name)) > 0


def test_every_corpus_has_its_harness() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(HARNESSES)


def test_what_is_found_is_left_in_a_file(tmp_path: Path) -> None:
    def harness(data: bytes) -> None:
        assert b"\xff\xff" not in data

    with pytest.raises(AssertionError):
        blind.run(harness, [b"abc", b"defg"], seed=1, seconds=20, folder=tmp_path / "new")
    [file] = (tmp_path / "new").iterdir()
    with pytest.raises(AssertionError):
        harness(file.read_bytes())
