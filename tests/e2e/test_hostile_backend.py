"""Backends that mean harm: what their own requests come to, and that nobody else notices."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from spooky.shm.traffic import TrafficColumn
from tests.e2e.backend_rows import Rows
from tests.e2e.certificates import Identity
from tests.e2e.content import MIB
from tests.e2e.h3_client import Exchange, connect
from tests.e2e.hostile import (
    AFTER_THE_END,
    AFTER_THE_HEAD,
    BEFORE_THE_HEAD,
    RST_STREAM,
    Hostile,
    hostile_backend,
)
from tests.e2e.memory import MemoryWatch
from tests.e2e.processes import wait_until
from tests.e2e.recorder import Recorder, recording
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

MOST_GROWTH = 48 * MIB
CONTENT = 150_000


@dataclass(frozen=True)
class Front:
    """A Spooky, and what is behind it."""

    spooky: SpookyProcess
    hostile: Hostile
    good: Recorder


@pytest.fixture(scope="module", params=["lean", "h2"])
def attacked(
    request: pytest.FixtureRequest, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with hostile_backend() as hostile, recording() as good:
        settings = {
            "engine": {"upstream": request.param},
            "upstream": {
                "bad": upstream(hostile.address, path="/bad"),
                "good": upstream(good.address, path="/good"),
            },
        }
        folder = tmp_path_factory.mktemp(f"attacked-{request.param}")
        with running_spooky(settings, identity, folder) as running:
            yield Front(running, hostile, good)


def _attack(front: Front, name: str) -> Exchange:
    """Ask for an attack while another client is served, then for something harmless."""
    memory = MemoryWatch(front.spooky.workers())

    async def scenario() -> Exchange:
        async with connect(front.spooky.port) as victim, connect(front.spooky.port) as bystander:
            exchange = victim.open("GET", f"/bad/{name}")
            while not exchange.is_over:
                assert (await bystander.get("/good")).status == 200
            # The same client, the same backend.
            assert (await victim.get("/bad/fine")).status == 200
            assert (await bystander.get("/good")).status == 200
            return exchange

    exchange = asyncio.run(scenario())
    assert memory.sample() < MOST_GROWTH, str(memory)
    front.spooky.check_log()
    return exchange


def _failures(front: Front) -> int:
    return Rows(front.spooky).counted("bad/b0", TrafficColumn.FAILURES)


def _is_blamed(front: Front, name: str, before: int) -> None:
    """AssertionError unless the failure is the backend's in the counts and in the access log."""
    wait_until(lambda: _failures(front) > before, 5.0, "a failure that counts")
    log = front.spooky.access_log
    wait_until(lambda: f"/bad/{name}" in log.read_text(), 5.0, "an access line")
    [line] = [line for line in log.read_text().splitlines() if f'"/bad/{name}"' in line]
    assert '"backend":"b0"' in line or front.hostile.address in line, line
    assert '"detail":"' in line, line


@pytest.mark.parametrize("name", BEFORE_THE_HEAD)
def test_an_attack_before_the_head_is_answered_with_502(attacked: Front, name: str) -> None:
    before, connections = _failures(attacked), attacked.hostile.connections
    exchange = _attack(attacked, name)
    assert (exchange.status, exchange.ended) == (502, True)
    assert attacked.hostile.connections - connections <= 5
    _is_blamed(attacked, name, before)


@pytest.mark.parametrize("name", AFTER_THE_HEAD)
def test_an_attack_after_the_head_is_no_whole_response(attacked: Front, name: str) -> None:
    before = _failures(attacked)
    exchange = _attack(attacked, name)
    assert exchange.reset is not None or exchange.status == 502
    _is_blamed(attacked, name, before)


@pytest.mark.parametrize("name", AFTER_THE_END)
def test_an_attack_behind_a_response_costs_nobody_anything(attacked: Front, name: str) -> None:
    exchange = _attack(attacked, name)
    assert (exchange.status, exchange.ended) == (200, True)


def test_the_log_says_why_a_connection_was_ended(attacked: Front) -> None:
    _attack(attacked, "push")
    wait_until(lambda: "its connection was ended: " in attacked.spooky.log(), 5.0, "a warning")


def test_content_in_frames_of_an_octet_holds_up_nobody(attacked: Front) -> None:
    """It never ends, either, until the client has enough of it."""
    if attacked.spooky.settings["engine"]["upstream"] == "h2":
        pytest.skip("the reference takes half a second for a read of such frames")
    [worker] = attacked.spooky.workers()

    async def scenario() -> tuple[Exchange, int]:
        served = 0
        async with (
            asyncio.timeout(60),
            connect(attacked.spooky.port) as victim,
            connect(attacked.spooky.port) as bystander,
        ):
            spent = sum(worker.cpu_times()[:2])
            exchange = victim.open("GET", "/bad/tiny")
            await victim.head(exchange)
            while exchange.received < CONTENT:
                assert (await bystander.get("/good")).status == 200
                served += 1
            spent = sum(worker.cpu_times()[:2]) - spent
            print(f"\n{CONTENT} octets: {spent:.2f} s of CPU, {served} other answers")
            resets = attacked.hostile.frames[RST_STREAM]
            victim.stop(exchange, 0x10C)
            assert (await bystander.get("/good")).status == 200
        wait_until(lambda: attacked.hostile.frames[RST_STREAM] > resets, 5.0, "its reset")
        return exchange, served

    exchange, served = asyncio.run(scenario())
    assert not exchange.ended
    assert served
