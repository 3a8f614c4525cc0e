"""Masters that follow each other, faster than the clients of the first one are done."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.operator import Said, command, reload, rewrite, status
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
            slow = await _begin(client)
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


def test_a_former_master_does_not_steer(running: SpookyProcess) -> None:
    """Not when the one before it ends either, whose slots it had to spare until then."""

    async def scenario() -> None:
        async with connect(running.port) as first:
            await _begin(first)
            assert (await asyncio.to_thread(_upgrade, running)).status == 0
            async with connect(running.port) as second:
                await _begin(second)
                assert (await asyncio.to_thread(_upgrade, running)).status == 0
                first.close()
                await asyncio.to_thread(
                    wait_until, lambda: 1 not in _generations(running), 5.0, "the first one's end"
                )
                late = await asyncio.to_thread(_late, running)
                for _ in range(8):
                    async with connect(running.port) as other:
                        assert (await other.get("/asgi/status?code=204")).status == 204
                assert await asyncio.to_thread(_late, running) == late
                assert await asyncio.to_thread(_generations, running) == {
                    2: "draining",
                    3: "serving",
                }

    asyncio.run(scenario())


def _late(running: SpookyProcess) -> int:
    return int(status(running)["intake"]["late_initials"])


async def _begin(client: H3Client) -> Exchange:
    slow = client.open("GET", SLOW)
    await client.until(lambda: slow.received > 0, "the response to begin")
    return slow


def test_a_program_that_cannot_start_changes_nothing(running: SpookyProcess) -> None:
    before = running.workers()
    running.file.write_text("nonsense: 1\n")
    said = _upgrade(running)
    assert said.status == 1
    assert "the old program stays" in said.text
    assert "nonsense: unknown key" in said.text
    assert running.workers() == before
    assert running.is_ready()


def _at_once(running: SpookyProcess, *commands: str) -> list[Said]:
    pid = str(running.settings["pid"])
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda one: command("-s", one, "-p", pid), commands))


def test_wishes_at_one_time_are_each_told_the_truth(running: SpookyProcess) -> None:
    first = Path(running.settings["pid"]).read_text()
    said = _at_once(running, "reload", "upgrade", "upgrade", "reload")
    assert [one.status for one in said] == [0] * 4, said
    assert [one.text.split(":")[0] for one in said] == [
        "reloaded",
        "upgraded",
        "upgraded",
        "reloaded",
    ]
    assert Path(running.settings["pid"]).read_text() != first
    wait_until(lambda: len(_generations(running)) == 1, 10.0, "one generation")
    assert status(running)["master"]["last_reload_succeeded"]


def test_a_reload_during_an_upgrade_is_done_by_the_new_master(running: SpookyProcess) -> None:
    running.signal(signal.SIGUSR2)
    wait_until(lambda: "upgrading: starting a new master" in running.log(), 5.0, "the upgrade")
    rewrite(running, worker_processes=1)
    assert reload(running).text.endswith(", 1 worker\n")
    assert len(status(running)["workers"]) in {1, 3}, "those of the former master may drain"


def test_a_stop_ends_the_former_master_too(running: SpookyProcess) -> None:
    async def scenario() -> None:
        async with connect(running.port) as client:
            slow = await _begin(client)
            assert (await asyncio.to_thread(_upgrade, running)).status == 0
            pid = str(running.settings["pid"])
            said = await asyncio.to_thread(command, "-s", "stop", "-p", pid)
            assert said.status == 0
            assert running.program.wait(1.0) == 0
            await client.over(slow, 5.0)
            assert not slow.ended

    asyncio.run(scenario())


def test_what_only_a_new_start_changes_is_said(running: SpookyProcess) -> None:
    rewrite(running, steering="userspace", limits={"backend_rows": 512})
    assert _upgrade(running).status == 0
    for words in ("steering: still auto", "limits.backend_rows: still 256"):
        assert running.log().count(f"{words}; restart to change it") == 1
    rewrite(running, steering="auto", limits={})
    assert reload(running).status == 0
    assert running.log().count("restart to change it") == 2
