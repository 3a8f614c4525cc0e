"""Masters that follow each other, faster than the clients of the first one are done."""

import asyncio

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.operator import Said, command, status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

OCTETS = 60 * 1024
SLOW = f"/asgi/slow?n={OCTETS}&chunk=1024&pause=200"
"""12 s: longer than two starts of the program."""


@pytest.fixture
def running(spooky: Spooky, asgi: Backend) -> SpookyProcess:
    settings = {"worker_processes": 2, "drain_timeout": "30s"}
    return spooky({**settings, "upstream": {"one": upstream(asgi.address)}})


def _upgrade(running: SpookyProcess) -> Said:
    return command("-s", "upgrade", "-p", str(running.settings["pid"]))


def _generations(running: SpookyProcess) -> dict[int, str]:
    return {one["generation"]: one["state"] for one in status(running)["generations"]}


def test_the_first_master_drains_beside_its_successors_successor(running: SpookyProcess) -> None:
    """Its slots are nobody else's until its last client is gone."""

    async def scenario() -> Exchange:
        async with connect(running.port) as client:
            slow = client.open("GET", SLOW)
            await client.until(lambda: slow.received > 0, "the response to begin")
            for generation in (2, 3):
                said = await asyncio.to_thread(_upgrade, running)
                assert said == Said(0, f"upgraded: generation {generation}, 2 workers\n")
            assert await asyncio.to_thread(_generations, running) == {1: "draining", 3: "serving"}
            async with connect(running.port) as other:
                assert (await other.get("/asgi/status?code=204")).status == 204
            return await client.over(slow, 30.0)

    exchange = asyncio.run(scenario())
    assert (exchange.status, exchange.received, exchange.ended) == (200, OCTETS, True)
    wait_until(lambda: _generations(running) == {3: "serving"}, 10.0, "the first one's end")
    said = command("-s", "reload", "-p", str(running.settings["pid"]))
    assert said == Said(0, "reloaded: generation 4, 2 workers\n")
    assert {one["slot"] for one in status(running)["workers"]} >= {0, 1}, "given back"


def test_a_program_that_cannot_start_changes_nothing(running: SpookyProcess) -> None:
    before = running.workers()
    running.file.write_text("nonsense: 1\n")
    said = _upgrade(running)
    assert said.status == 1
    assert "the old configuration stays" in said.text
    assert "nonsense: unknown key" in said.text
    assert running.workers() == before
    assert running.is_ready()
