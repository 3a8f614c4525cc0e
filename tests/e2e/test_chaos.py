"""Five backends under load, of which one after the other falls sick: no client notices.

Two of nghttpd, one of them behind a relay that breaks, another nghttpd, Caddy, and Hypercorn with
moods. Each sick one is out within a second and comes back by itself.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spooky.shm.segment import SharedMemory, attach_to
from spooky.shm.traffic import TrafficColumn
from tests.e2e import moody
from tests.e2e.backends import Backend, start_backend, start_caddy, start_on
from tests.e2e.chaos import Row, Tally, Users, table
from tests.e2e.conftest import Spooky
from tests.e2e.processes import wait_until
from tests.e2e.tcp_relay import TcpRelay, Way, relay_to

pytestmark = pytest.mark.e2e

FILE = "hello"
SICK_S = 3.0
OUT_S = 1.0
"""A backend that fails gets no request after this time."""
BACK_S = 6.0
"""Its probes, its ejection and its breaker are over by then."""

SETTINGS: dict[str, Any] = {
    "route": {"path_prefix": "/"},
    "retries": {
        "attempts": 3,
        "per_try_timeout": "300ms",
        "on": ["connect-failure", "refused-stream", "connection-lost", "reset", "per-try-timeout"],
        "statuses": [502, 503, 504],
        "budget": {"ratio": 0.5, "minimum": 100},
    },
    "passive_health": {
        "consecutive_connect_failures": 2,
        "consecutive_timeouts": 2,
        "consecutive_resets": 2,
        "consecutive_5xx": 2,
        "ejection_time": "1s",
    },
    "health_check": {
        "path": f"/{FILE}",
        "interval": "250ms",
        "timeout": "200ms",
        "failure_threshold": 2,
        "success_threshold": 2,
        "cooldown": "500ms",
        "max_cooldown": "1s",
    },
}


@dataclass(slots=True)
class Stage:
    """All backends, and how each of them falls sick."""

    one: Backend
    two: Backend
    relay: TcpRelay
    mood: Path
    restart: Callable[[], None]

    def feel(self, mood: str) -> None:
        """Put the moody one in a mood."""
        self.mood.write_text(mood)

    def signal(self, backend: Backend, number: int) -> None:
        os.kill(backend.program.process.pid, number)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[Stage, dict[str, str]]]:
    site = tmp_path / "site"
    site.mkdir()
    (site / FILE).write_bytes(moody.CONTENT)
    mood = tmp_path / "mood"
    mood.write_text("well")

    def nghttpd(port: int) -> list[str]:
        return ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", str(site), str(port)]

    def hypercorn(port: int) -> list[str]:
        return [sys.executable, "-m", "tests.e2e.moody", str(port), str(mood)]

    with ExitStack() as stack:
        one, two, three = (
            stack.enter_context(start_backend(name, tmp_path, nghttpd))
            for name in ("one", "two", "three")
        )
        moody_one = stack.enter_context(start_backend("moody", tmp_path, hypercorn))
        caddy = stack.enter_context(start_caddy(site, tmp_path, one.port))
        relay = stack.enter_context(relay_to(three.port))

        def restart() -> None:
            stack.enter_context(start_on(one.port, "one again", tmp_path, nghttpd(one.port)))

        addresses = {
            "one": one.address,
            "two": two.address,
            "relayed": f"127.0.0.1:{relay.port}",
            "moody": moody_one.address,
            "caddy": caddy.address,
        }
        yield Stage(one, two, relay, mood, restart), addresses


def _tries(memory: SharedMemory, name: str) -> int:
    """Count the tries with a backend; what users wait for is not among them yet."""
    rows = {memory.backends.row(row).name: row for row in memory.backends.taken()}
    return memory.traffic.total(rows[f"all/{name}"]).get(TrafficColumn.REQUESTS)


@dataclass(frozen=True, slots=True)
class Phase:
    """How a backend falls sick, and how it is made well again."""

    name: str
    backend: str
    falls_sick: Callable[[Stage], None]
    is_cured: Callable[[Stage], None]


PHASES = (
    Phase("kill", "one", lambda s: s.signal(s.one, signal.SIGKILL), lambda s: s.restart()),
    Phase(
        "stop",
        "two",
        lambda s: s.signal(s.two, signal.SIGSTOP),
        lambda s: s.signal(s.two, signal.SIGCONT),
    ),
    Phase(
        "slow",
        "moody",
        lambda s: s.feel("slow 5"),
        lambda s: s.feel("well"),
    ),
    Phase(
        "5xx",
        "moody",
        lambda s: s.feel("fail 503"),
        lambda s: s.feel("well"),
    ),
    Phase(
        "resets",
        "relayed",
        lambda s: s.relay.turn(Way.RESETS),
        lambda s: s.relay.turn(Way.PASSES),
    ),
    Phase(
        "half-open",
        "relayed",
        lambda s: s.relay.turn(Way.SILENT),
        lambda s: s.relay.turn(Way.PASSES),
    ),
)


async def _play(memory: SharedMemory, stage: Stage, phase: Phase, users: Users) -> Row:
    """Go through one phase; AssertionError when the backend does not come back."""

    def tries() -> int:
        return _tries(memory, phase.backend)

    users.tally = tally = Tally()
    before = tries()
    await asyncio.to_thread(phase.falls_sick, stage)
    await asyncio.sleep(OUT_S)
    first = tries()
    await asyncio.sleep(SICK_S - OUT_S)
    last = tries()
    await asyncio.to_thread(phase.is_cured, stage)
    cured = time.monotonic()
    await asyncio.to_thread(wait_until, lambda: tries() > last + 1, BACK_S, "its return")
    return Row(phase.name, tally, first - before, last - first, time.monotonic() - cured)


def test_no_client_notices_a_sick_backend(
    spooky: Spooky, stage: tuple[Stage, dict[str, str]]
) -> None:
    things, addresses = stage
    backends = [{"id": name, "address": address} for name, address in addresses.items()]
    running = spooky(
        {"worker_processes": 2, "upstream": {"all": {**SETTINGS, "backends": backends}}}
    )

    memory = attach_to(running.program.process.pid)

    async def scenario() -> list[Row]:
        users = Users(running.port, f"/{FILE}")
        async with users.asking():
            return [await _play(memory, things, phase, users) for phase in PHASES]

    rows = asyncio.run(scenario())
    print(f"\n{table(rows)}")
    assert [dict(row.tally.failures) for row in rows] == [{}] * len(PHASES), table(rows)
    assert all(row.sick_after == 0 for row in rows), table(rows)


def test_one_that_is_well_is_enough(spooky: Spooky, stage: tuple[Stage, dict[str, str]]) -> None:
    """Four of five fall sick at once, each in its own way, and so many tries find the fifth."""
    things, addresses = stage
    backends = [{"id": name, "address": address} for name, address in addresses.items()]
    budget = {"ratio": 5, "minimum": 100}
    settings = {**SETTINGS, "retries": {**SETTINGS["retries"], "attempts": 5, "budget": budget}}
    running = spooky(
        {"worker_processes": 2, "upstream": {"all": {**settings, "backends": backends}}}
    )
    memory = attach_to(running.program.process.pid)
    sick = {phase.backend: phase for phase in PHASES if phase.name != "half-open"}

    async def scenario() -> tuple[Tally, dict[str, int], dict[str, int]]:
        users = Users(running.port, f"/{FILE}")
        async with users.asking():
            for phase in sick.values():
                await asyncio.to_thread(phase.falls_sick, things)
            await asyncio.sleep(2 * OUT_S)
            first = {name: _tries(memory, name) for name in addresses}
            await asyncio.sleep(OUT_S)
            last = {name: _tries(memory, name) for name in addresses}
        return users.tally, first, last

    tally, first, last = asyncio.run(scenario())
    assert not tally.failures, tally
    asked = {name for name in addresses if last[name] > first[name]}
    assert asked == addresses.keys() - sick.keys()
    things.signal(things.two, signal.SIGCONT)
