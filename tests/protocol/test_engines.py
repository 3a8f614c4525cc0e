"""Engines are chosen by name, and libraries are read by who asks for them."""

import asyncio
import subprocess
import sys

import pytest

from spooky.config.engine import Engine
from spooky.config.load import load_text
from spooky.config.schema import schema
from spooky.keeper.checkup import plan_checkups
from spooky.keeper.probe_http import HttpProbe
from spooky.protocol.downstream_engines import ENGINES
from spooky.protocol.engines import DEFAULT, engine_named
from spooky.protocol.h2 import H2Engine
from spooky.protocol.lean_h2 import LeanEngine
from spooky.protocol.upstream import H2Limits
from spooky.worker.upstreams import make_upstreams
from tests.config.broken import LISTEN


@pytest.mark.parametrize(("name", "kind"), [("lean", LeanEngine), ("h2", H2Engine)])
def test_an_engine_by_its_name(name: str, kind: type) -> None:
    assert type(engine_named(name)(H2Limits())) is kind


def test_the_default_is_that_of_the_configuration() -> None:
    assert Engine().upstream == DEFAULT


def test_the_engines_towards_clients_are_those_of_the_configuration() -> None:
    named = schema()["properties"]["engine"]["properties"]["downstream"]["enum"]
    assert sorted(named) == sorted(ENGINES)
    assert Engine().downstream in ENGINES


def test_who_does_not_ask_for_h2_does_not_read_it() -> None:
    code = "import sys, spooky.worker.main, spooky.keeper.main; print('h2' in sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert told.strip() == "False"


UPSTREAM = """
upstream:
  web:
    route: {path_prefix: /}
    backends: [{address: "127.0.0.1:1"}]
    health_check: {path: /}
"""


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("", LeanEngine),
        ("engine: {upstream: lean}", LeanEngine),
        ("engine: {upstream: h2}", H2Engine),
    ],
)
def test_requests_and_probes_go_by_the_engine_that_is_asked_for(key: str, kind: type) -> None:
    config = load_text(LISTEN + UPSTREAM + key).config
    loop = asyncio.new_event_loop()
    [(_, backend, pool)] = make_upstreams(config, {}, loop, lambda: 0.5).pools()
    loop.close()
    assert type(pool._make_engine(H2Limits())) is kind
    checkup = plan_checkups(config, {})[backend.identity]
    assert checkup is not None
    assert isinstance(checkup.probe, HttpProbe)
    assert type(engine_named(checkup.probe.target.engine)(H2Limits())) is kind
