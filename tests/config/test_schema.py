import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from spooky.config.dump import dump
from spooky.config.load import load_text
from spooky.config.schema import schema, schema_text
from tests.config.broken import LISTEN, UPSTREAM

ROOT = Path(__file__).parents[2]
EXAMPLES = [pytest.param(p, id=p.name) for p in sorted((ROOT / "config").glob("*.yaml"))]


def keys(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key that the schema knows, wherever it is, with its own schema."""
    if isinstance(node, list):
        for item in node:
            yield from keys(item)
    elif isinstance(node, dict):
        if "additionalProperties" in node:
            yield from node.get("properties", {}).items()
        for item in node.values():
            yield from keys(item)


def test_the_schema_in_the_tree_is_what_the_declarations_say() -> None:
    stored = (ROOT / "config" / "spooky.schema.json").read_text()
    assert stored == schema_text(), "stale: run `make schema`"


def test_the_module_prints_it() -> None:
    command = [sys.executable, "-m", "spooky.config.schema"]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == schema_text()


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_key_is_described() -> None:
    known = list(keys(schema()))
    assert len({key for key, _ in known}) > 60
    assert [key for key, about in known if not about.get("description")] == []


@pytest.mark.parametrize("path", EXAMPLES)
def test_examples_are_valid(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), schema())


def test_what_is_dumped_is_valid() -> None:
    jsonschema.validate(yaml.safe_load(dump(load_text(LISTEN + UPSTREAM).config)), schema())


@pytest.mark.parametrize(
    "more",
    [
        "admin: off\nlog: {access: off, level: off}\n",
        "limits: {stream_window: 65536, connection_window: 1MiB}\ndrain_timeout: 0\n",
        "worker_processes: 4\nlimits:\nlog: {}\n",
    ],
)
def test_forms_that_the_loader_takes_are_valid(more: str) -> None:
    load_text(LISTEN + UPSTREAM + more)
    jsonschema.validate(yaml.safe_load(LISTEN + UPSTREAM + more), schema())


def test_the_reference_names_every_key_and_its_default() -> None:
    """A row of a table is `| `key` | type | default | meaning |`."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*)\|", text, re.MULTILINE)
    documented = {(key, default.strip(" `")) for key, default in rows}
    for key, about in keys(schema()):
        default = about.get("default")
        if default is None or isinstance(default, list | dict):
            assert key in {name for name, _ in documented}, key
        else:
            shown = json.dumps(default).strip('"')
            assert (key, shown) in documented, f"{key}: default {shown}"
