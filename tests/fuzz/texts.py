"""Harnesses of what people write: configuration files and commands of the control socket."""

import asyncio
import json
from collections.abc import Sequence
from functools import cache
from typing import cast

from spooky.config.document import decode
from spooky.config.dump import dump
from spooky.config.load import load_text
from spooky.config.model import Config
from spooky.errors import ConfigError, Problem
from spooky.keeper.control import LINE_BYTES
from tests.keeper.test_control import Setting

FILE = "fuzzed.yaml"


def config(data: bytes) -> None:
    """A file is a Config that can be written down, or problems that can be shown."""
    loaded, problems = read(data)
    assert (loaded is None) is bool(problems)
    assert all(str(problem).isprintable() for problem in problems)
    if loaded is not None:
        assert load_text(dump(loaded), FILE).config == loaded


def read(data: bytes) -> tuple[Config | None, Sequence[Problem]]:
    """Read a configuration, or what is wrong with it."""
    try:
        return load_text(decode(data, FILE), FILE).config, ()
    except ConfigError as error:
        return None, error.problems


@cache
def setting() -> Setting:
    """Make the shared memory of an instance, once."""
    return Setting()


class Answer:
    """Where the endpoint writes to."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def control(data: bytes) -> None:
    """Every line is answered by a line of JSON, and every connection is closed."""
    answer = Answer()
    asyncio.run(_ask(data, answer))
    assert answer.closed
    line = data.partition(b"\n")[0]
    assert answer.written or not data or len(line) + 1 > LINE_BYTES
    if answer.written:
        told = json.loads(answer.written)
        assert set(told) == {"ok", "text"}


async def _ask(data: bytes, answer: Answer) -> None:
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    reader.feed_data(data)
    reader.feed_eof()
    await setting().endpoint().serve(reader, cast("asyncio.StreamWriter", answer))
