import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from spooky.config import document
from spooky.config.load import load, load_text
from spooky.errors import ConfigError
from tests.config import (
    broken_files,
    broken_oddities,
    broken_rates,
    broken_routes,
    broken_upstreams,
)
from tests.config.broken import LISTEN, UPSTREAM, Broken

SCHEMA = Path(__file__).parents[2] / "config" / "spooky.schema.json"
TABLE = (
    *broken_files.TABLE,
    *broken_upstreams.TABLE,
    *broken_oddities.TABLE,
    *broken_rates.TABLE,
    *broken_routes.TABLE,
)
BY_NAME = [pytest.param(broken, id=broken.name) for broken in TABLE]
STRUCTURAL = [pytest.param(broken, id=broken.name) for broken in TABLE if broken.structural]


@pytest.mark.parametrize("broken", BY_NAME)
def test_each_broken_file_gives_exactly_its_messages(broken: Broken) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(broken.text, "spooky.yaml")
    assert [str(problem) for problem in caught.value.problems] == list(broken.messages)
    assert caught.value.file == "spooky.yaml"


def test_the_table_is_built_on_a_file_in_order() -> None:
    assert load_text(LISTEN + UPSTREAM).notices == ()


@pytest.mark.parametrize("broken", STRUCTURAL)
def test_the_schema_refuses_what_is_wrong_with_one_key(broken: Broken) -> None:
    schema = json.loads(SCHEMA.read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(broken.text), schema)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: no such file or directory"):
        load(tmp_path / "none.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """Root may read all files, so that it is a file that needs another's rights."""
    file = tmp_path / "loop.yaml"
    file.symlink_to(file)
    with pytest.raises(ConfigError, match="cannot be read: too many levels of symbolic links"):
        load(file)


def test_a_pipe_that_nobody_writes_to_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="the file is empty"):
        load(tmp_path / "pipe")


def test_aliases_that_multiply_beyond_all_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a lower bound, for the real one takes seconds to reach."""
    monkeypatch.setattr(document, "MOST_PARTS", 5000)
    backends = ", ".join(['{address: "h:1"}'] * 100)
    text = f"{LISTEN}upstream:\n  a: {{route: {{host: a}}, backends: &b [{backends}]}}\n"
    text += "".join(f"  u{n}: {{route: {{host: h{n}}}, backends: *b}}\n" for n in range(100))
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    (problem,) = caught.value.problems
    assert problem.text == (
        "the file says more than 5000 things, its aliases written out; split it"
    )
    assert problem.line == 3


def test_a_file_without_end() -> None:
    with pytest.raises(ConfigError, match="/dev/zero is larger than 16 MiB"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x7fELF\x02\x01", "not valid YAML: the character \\x7f is not allowed (line 1)"),
        ("version: 1\n".encode("utf-16"), "not UTF-8 text: octet 0xff (line 1)"),
        (
            "version: 1\n".encode("utf-16-le"),
            "not valid YAML: the character \\x00 is not allowed (line 1)",
        ),
    ],
    ids=["program", "UTF-16", "UTF-16 without mark"],
)
def test_files_that_are_something_else(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "spooky.yaml").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "spooky.yaml")
    assert str(caught.value) == message


def test_octets_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "spooky.yaml"
    file.write_bytes(b"version: 1\nuser: \xff\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == "not UTF-8 text: octet 0xff (line 2)"


def test_no_case_is_there_twice() -> None:
    assert len({broken.name for broken in TABLE}) == len(TABLE) >= 30
