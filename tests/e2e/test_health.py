"""Backends that are probed: who is not well gets no requests, and gets them again in its time."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from spooky.shm.segment import attach_to
from spooky.shm.traffic import TrafficColumn
from tests.e2e.backends import Backend, nghttpd_command, start_nghttpd, start_on
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import connect
from tests.e2e.operator import command, reload, rewrite
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

INTERVAL_S, TIMEOUT_S, THRESHOLD, COOLDOWN_S = 0.4, 0.3, 2, 0.5
CHECK: dict[str, Any] = {
    "path": "/nghttpd/one",
    "interval": "400ms",
    "timeout": "300ms",
    "failure_threshold": THRESHOLD,
    "success_threshold": 2,
    "cooldown": "500ms",
    "max_cooldown": "1s",
}
OUT_S = INTERVAL_S * THRESHOLD + TIMEOUT_S
SLACK_S = 0.6
"""For a machine that is busy, and for the look at it."""
BACK_S = 1.1 * 1.0 + TIMEOUT_S + INTERVAL_S
"""The longest cooldown with its jitter, and one interval between two probes."""
SEEN_S = 10.0


@pytest.fixture
def pair(site: Path, tmp_path: Path) -> Iterator[list[Backend]]:
    """Two backends; what a test starts in the place of one of them is ended, too."""
    with start_nghttpd(site, tmp_path) as one, start_nghttpd(site, tmp_path) as two:
        both = [one, two]
        yield both
        for backend in both:
            backend.program.kill()


class Seen:
    """What shared memory has of a backend, as `spooky status` would show it."""

    def __init__(self, spooky: SpookyProcess, name: str = "web/b1") -> None:
        self._memory = attach_to(spooky.program.process.pid)
        rows = {self._memory.backends.row(one).name: one for one in self._memory.backends.taken()}
        self._number = rows[name]
        self.row = self._memory.backends.row(self._number)

    @property
    def health(self) -> str:
        return self.row.health.name.lower()

    @property
    def requests(self) -> int:
        """The attempts that are over, whatever came of them."""
        return self._memory.traffic.total(self._number).get(TrafficColumn.REQUESTS)

    @property
    def in_flight(self) -> int:
        return self._memory.traffic.total(self._number).get(TrafficColumn.IN_FLIGHT)


def logged(spooky: SpookyProcess, state: str, name: str = "web/b1") -> int:
    """How often it was logged that a backend is in a state."""
    return sum(
        f"backend {name} " in line and f" is {state}" in line for line in spooky.log().splitlines()
    )


def until_logged(spooky: SpookyProcess, state: str, times: int = 1) -> None:
    wait_until(lambda: logged(spooky, state) >= times, SEEN_S, f"{state}, {times} times")


def start_again(backend: Backend, site: Path, folder: Path) -> Backend:
    port = backend.port
    return start_on(port, "again", folder, nghttpd_command(site, port))


@contextmanager
def timed(limit_s: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < limit_s + SLACK_S, f"{took:.2f} s, {limit_s:.2f} s are allowed"


async def ask(port: int, times: int) -> None:
    async with connect(port) as client:
        for _ in range(times):
            assert (await client.get("/nghttpd/one")).status == 200


def requests_to_b1(spooky: SpookyProcess, times: int = 10) -> int:
    """Make requests; return how many of them, and of attempts at them, the backend got."""
    seen = Seen(spooky)
    before = seen.requests
    asyncio.run(ask(spooky.port, times))
    wait_until(lambda: seen.in_flight == 0, SEEN_S, "all of them entered")
    return seen.requests - before


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_who_does_not_answer_gets_no_requests_until_it_does(
    spooky: Spooky, site: Path, tmp_path: Path, pair: list[Backend], way: signal.Signals
) -> None:
    both = upstream(*(one.address for one in pair), health_check=CHECK)
    running = spooky({"worker_processes": 2, "upstream": {"web": both}})
    until_logged(running, "healthy")
    assert requests_to_b1(running) == 5

    with timed(OUT_S):
        pair[1].program.process.send_signal(way)
        until_logged(running, "unhealthy")
    assert requests_to_b1(running) == 0
    why = "connection refused" if way is signal.SIGKILL else "no answer within 300ms"
    assert Seen(running).row.reason == why

    with timed(BACK_S):
        if way is signal.SIGKILL:
            pair[1].program.wait(5)
            pair[1] = start_again(pair[1], site, tmp_path)
        else:
            pair[1].program.process.send_signal(signal.SIGCONT)
        until_logged(running, "healthy", 2)
    assert requests_to_b1(running) == 5
    # Each change once, for two workers and for as many probes as there were.
    states = ("unhealthy", "recovering", "degraded")
    assert [logged(running, state) for state in states] == [1, 1, 1]


def test_another_content_takes_it_out(
    spooky: Spooky, site: Path, tmp_path: Path, pair: list[Backend]
) -> None:
    folder = tmp_path / "own" / "nghttpd"
    folder.mkdir(parents=True)
    (folder / "one").write_text("x")
    (folder / "state").write_text("all is well")
    (tmp_path / "own" / "mime.types").touch()
    (site / "nghttpd" / "state").write_text("all is well")
    own = start_nghttpd(tmp_path / "own", tmp_path)
    with own:
        check = {**CHECK, "path": "/nghttpd/state", "body_regex": "^all .* well"}
        web = upstream(pair[0].address, own.address, health_check=check)
        running = spooky({"worker_processes": 1, "upstream": {"web": web}})
        until_logged(running, "healthy")
        (folder / "state").write_text("not at all!")
        until_logged(running, "unhealthy")
        assert "not in the 11 octets of its answer" in Seen(running).row.reason
        assert requests_to_b1(running) == 0
        (folder / "state").write_text("all is well")
        until_logged(running, "healthy", 2)
        assert requests_to_b1(running) == 5


def test_a_command_takes_it_out(spooky: Spooky, tmp_path: Path, pair: list[Backend]) -> None:
    flag = tmp_path / "b1"
    flag.touch()
    (tmp_path / "b0").touch()
    check = {key: value for key, value in CHECK.items() if key != "path"}
    probe = ["/bin/sh", "-c", 'test -e "$0/$SPOOKY_BACKEND_ID"', str(tmp_path)]
    check |= {"type": "command", "command": probe}
    web = upstream(*(one.address for one in pair), health_check=check)
    running = spooky({"worker_processes": 1, "upstream": {"web": web}})
    until_logged(running, "healthy")
    flag.unlink()
    until_logged(running, "unhealthy")
    assert Seen(running).row.reason == "/bin/sh ended with status 1"
    assert requests_to_b1(running) == 0
    flag.touch()
    until_logged(running, "healthy", 2)
    assert requests_to_b1(running) == 5


def test_neither_a_reload_nor_the_keepers_death_forgets_it(
    spooky: Spooky, pair: list[Backend]
) -> None:
    check = {**CHECK, "cooldown": "1m", "max_cooldown": "2m"}
    web = upstream(*(one.address for one in pair), health_check=check)
    running = spooky({"worker_processes": 1, "upstream": {"web": web}})
    until_logged(running, "healthy")
    pair[1].program.kill()
    until_logged(running, "unhealthy")

    keeper = running.children("keeper")[0]
    keeper.kill()
    wait_until(lambda: is_replaced(running, keeper), SEEN_S, "another keeper")
    assert Seen(running).health == "unhealthy"

    rewrite(running, upstream={"web": {**web, "timeouts": {"connect": "1s"}}})
    keeper = running.children("keeper")[0]
    assert reload(running).status == 0
    wait_until(lambda: is_replaced(running, keeper), SEEN_S, "the keeper of the new generation")
    assert Seen(running).health == "unhealthy"
    assert requests_to_b1(running) == 0
    assert logged(running, "unhealthy") == 1
    shown = command("status", "-p", str(running.settings["pid"])).text
    assert re.search(r"^web/b1: unhealthy for .* s: connection refused$", shown, re.MULTILINE)

    # Who is not to be probed any more is taken as any other.
    del web["health_check"]
    rewrite(running, upstream={"web": web})
    assert reload(running).status == 0
    wait_until(lambda: Seen(running).health == "unknown", SEEN_S, "unknown")
    assert requests_to_b1(running) > 0


def is_replaced(running: SpookyProcess, keeper: psutil.Process) -> bool:
    return any(one.pid != keeper.pid for one in running.children("keeper"))
