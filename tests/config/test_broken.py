import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from spooky.config.load import load, load_text
from spooky.errors import ConfigError
from tests.config import broken_files, broken_upstreams
from tests.config.broken import LISTEN, UPSTREAM, Broken

SCHEMA = Path(__file__).parents[2] / "config" / "spooky.schema.json"
TABLE = (*broken_files.TABLE, *broken_upstreams.TABLE)
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


def test_octets_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "spooky.yaml"
    file.write_bytes(b"version: 1\nuser: \xff\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == "not UTF-8 text: octet 0xff (line 2)"


def test_no_case_is_there_twice() -> None:
    assert len({broken.name for broken in TABLE}) == len(TABLE) >= 30
