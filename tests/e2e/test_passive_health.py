"""Backends that fail the requests of a real load, with several workers: who is asked, and when."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from spooky.shm.backend_cells import Breaker
from tests.e2e.backend_rows import Rows
from tests.e2e.backends import (
    Backend,
    make_site,
    nghttpd_command,
    start_hypercorn,
    start_nghttpd,
    start_on,
)
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.operator import command, reload
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

WORKERS = 2
CONNECTIONS = 8
PAUSE_S = 0.005
KNOWN_S = 1.0
"""Within this time a backend that died gets no more requests from anybody."""
SEEN_S = 8.0


class Load:
    """Clients that ask for a path again and again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.statuses: Counter[int] = Counter()
        self.slowest_s = 0.0

    async def answers(self, count: int) -> None:
        """Wait for so many more, so that what is under way now is over."""
        before = self.statuses.total()
        await becomes(lambda: self.statuses.total() >= before + count, f"{count} answers")

    async def ask(self, client: H3Client) -> None:
        while True:
            began = time.monotonic()
            self.statuses[(await client.get(self.path)).status] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def load(spooky: SpookyProcess, path: str) -> AsyncIterator[Load]:
    """Keep several connections busy until the block ends."""
    running = Load(path)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect(spooky.port)) for _ in range(CONNECTIONS)
        ]
        tasks = [asyncio.create_task(running.ask(client)) for client in clients]
        try:
            yield running
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in done), done


async def becomes(condition: Callable[[], bool], what: str) -> float:
    """Wait until something holds; return the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < SEEN_S, what
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def start(spooky: Spooky, backends: list[Backend], **more: Any) -> SpookyProcess:
    addresses = [backend.address for backend in backends]
    running = spooky(
        {"worker_processes": WORKERS, "upstream": {"web": upstream(*addresses, **more)}}
    )
    running.wait_until_serving(WORKERS)
    return running


def test_a_backend_that_dies_is_out_everywhere_and_back_when_it_is(
    spooky: Spooky, tmp_path: Path
) -> None:
    site = make_site(tmp_path)
    backends = [start_nghttpd(site, tmp_path) for _ in range(3)]
    running = start(spooky, backends, passive_health={"ejection_time": "4s"})
    rows, victim = Rows(running), backends[1]

    async def scenario() -> None:
        async with load(running, "/nghttpd/one") as users:
            await becomes(lambda: rows.counted("web/b1") > 50, "requests for all")
            victim.program.kill()
            took = await becomes(lambda: rows.is_ejected("web/b1"), "an ejection")
            print(f"\nejected {took * 1000:.0f} ms after its death")
            await asyncio.sleep(max(0.0, KNOWN_S - took))
            asked, others = rows.counted("web/b1"), rows.counted("web/b0")
            await becomes(lambda: rows.counted("web/b0") > others + 40, "requests for others")
            assert rows.is_ejected("web/b1")
            assert rows.counted("web/b1") == asked
            # A keeper that is killed forgets nothing.
            running.children("keeper")[0].kill()
            backends.append(
                start_on(victim.port, "nghttpd", tmp_path, nghttpd_command(site, victim.port))
            )
            await becomes(lambda: rows.counted("web/b1") > asked + 50, "requests for it again")
        # One that was lost with its connection may have been answered, so GET is sent again.
        assert set(users.statuses) == {200}, users.statuses

    try:
        asyncio.run(scenario())
    finally:
        for backend in backends:
            backend.program.kill()
    assert running.log().count("web/b1 http://127.0.0.1:" + str(victim.port) + ": ejected") == 1


def test_a_backend_that_says_nothing_any_more_is_spared_within_a_second(
    spooky: Spooky, tmp_path: Path
) -> None:
    """It is stopped: connections stay, and no probe, timeout or ejection has noticed anything."""
    site = make_site(tmp_path)
    with ExitStack() as stack:
        backends = [stack.enter_context(start_nghttpd(site, tmp_path)) for _ in range(3)]
        running = start(spooky, backends)
        rows, silent = Rows(running), backends[1].program.process

        async def scenario() -> None:
            async with load(running, "/nghttpd/one") as users:
                await becomes(lambda: rows.counted("web/b1") > 50, "requests for all")
                silent.send_signal(signal.SIGSTOP)
                await asyncio.sleep(KNOWN_S)
            # These have nothing to do with those who wait for it.
            asked = rows.counted("web/b0")
            async with load(running, "/nghttpd/one") as users:
                await users.answers(200)
                assert rows.counted("web/b0") > asked + 80
                assert users.slowest_s < KNOWN_S
            assert not rows.is_ejected("web/b1")
            silent.send_signal(signal.SIGCONT)
            again = rows.counted("web/b1")
            async with load(running, "/nghttpd/one"):
                await becomes(lambda: rows.counted("web/b1") > again + 20, "requests for it again")

        asyncio.run(scenario())


def test_a_backend_that_answers_500_is_ejected_where_that_counts(
    spooky: Spooky, nghttpd: Backend, asgi: Backend
) -> None:
    """For nghttpd the path is not there, which is an answer as good as any."""
    passive = {"consecutive_5xx": 5, "ejection_time": "20s"}
    running = start(spooky, [nghttpd, asgi], passive_health=passive)
    rows = Rows(running)

    async def scenario() -> None:
        async with load(running, "/asgi/status?code=500") as users:
            await becomes(lambda: rows.is_ejected("web/b1"), "an ejection")
            await users.answers(100)
            users.statuses.clear()
            await becomes(lambda: users.statuses[404] > 100, "answers of the other")
        assert set(users.statuses) == {404}

    asyncio.run(scenario())
    said = command("status", "-p", str(running.settings["pid"]))
    assert "unknown, ejected for" in said.text, said.text
    assert "ejected for 20 s (time 1): " in running.log()
    # It is still so after a reload, whose keeper is another one.
    assert reload(running).status == 0
    assert rows.is_ejected("web/b1")


def test_a_breaker_opens_lets_a_few_try_and_closes(spooky: Spooky, nghttpd: Backend) -> None:
    trials = 3
    breaker = {"open_time": "500ms", "trials": trials, "trial_successes": 2}
    more = {"passive_health": "off", "circuit_breaker": breaker}

    async def scenario(running: SpookyProcess, rows: Rows) -> None:
        async with load(running, "/asgi/status?code=500") as users:
            await becomes(lambda: rows.breaker("web/b1") == Breaker.OPEN, "an open breaker")
            await users.answers(50)
            asked = rows.counted("web/b1")
            await becomes(lambda: "half open" in running.log(), "trials")
            await becomes(lambda: running.log().count("a trial failed") == 2, "failed trials")
            await users.answers(50)
            # Two rounds; requests that both workers admit before the first answer is there.
            assert 2 <= rows.counted("web/b1") - asked <= 2 * trials
            assert users.statuses[404] > 100
            users.path = "/asgi/status?code=204"
            await becomes(lambda: rows.breaker("web/b1") == Breaker.CLOSED, "a closed breaker")
            users.statuses.clear()
            await becomes(lambda: users.statuses[204] > 50, "requests for both")

    folder = Path(nghttpd.program.output).parent
    with start_hypercorn(folder) as failing:
        running = start(spooky, [nghttpd, failing], **more)
        asyncio.run(scenario(running, Rows(running)))
    said = [line for line in running.log().splitlines() if "circuit breaker" in line]
    assert "circuit breaker open for 500 ms" in said[0] or "open for 0.5 s" in said[0], said[0]
    assert "trials succeeded" in said[-1]


@pytest.mark.parametrize(
    ("rule", "path", "why"),
    [
        ({"success_rate_stdev_factor": 1.2}, "/asgi/status?code=500", "of its requests succeed"),
        ({"latency_factor": 3}, "/asgi/status?code=200&wait=60", "it answers after"),
    ],
)
def test_a_backend_that_does_worse_than_the_others_is_ejected(
    spooky: Spooky, site: Path, tmp_path: Path, rule: dict[str, float], path: str, why: str
) -> None:
    """For nghttpd the paths are not there, which it says at once, and which is a success."""
    passive = {**rule, "window": "500ms", "minimum_requests": 5, "minimum_backends": 3}
    with ExitStack() as stack:
        well = [stack.enter_context(start_nghttpd(site, tmp_path)) for _ in range(2)]
        worse = stack.enter_context(start_hypercorn(tmp_path))
        running = start(spooky, [*well, worse], passive_health=passive)
        rows = Rows(running)

        async def scenario() -> None:
            async with load(running, path) as users:
                await becomes(lambda: rows.is_ejected("web/b2"), "an ejection")
                await users.answers(50)
                users.statuses.clear()
                await becomes(lambda: users.statuses[404] > 100, "answers of the others")
            assert set(users.statuses) == {404}

        asyncio.run(scenario())
    assert not rows.is_ejected("web/b0")
    assert not rows.is_ejected("web/b1")
    said = [line for line in running.log().splitlines() if "ejected for" in line]
    assert len(said) == 1, said
    assert why in said[0], said
