"""Backends that come and go under the connections that clients have: nobody is sent away."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from spooky.shm.segment import attach_to
from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.operator import command, reload, rewrite
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import Settings, SpookyProcess, upstream

pytestmark = pytest.mark.e2e
log = logging.getLogger(__name__)

CONNECTIONS = 16
WORKERS = 4
SOON_S = 1.0
"""What is promised is 0.1 s; clients and workers share their processors with others here."""
PACE_S = 0.02
OLD, NEW = 204, 404
"""By their statuses the backends are told apart."""


async def tell(spooky: SpookyProcess, **command: str) -> dict[str, Any]:
    """Give a command on the control socket, without a process of its own."""
    path = Path(spooky.settings["pid"]).with_suffix(".sock")
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(json.dumps(command).encode() + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    return dict(answer)


class Caller:
    """A client that asks again and again on its one connection."""

    def __init__(self, client: H3Client) -> None:
        self.client = client
        self.answers: list[tuple[float, int]] = []
        """When each request was sent, and its status."""
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            sent = time.monotonic()
            answer = await self.client.get("/asgi/status?code=204")
            self.answers.append((sent, answer.status))
            await asyncio.sleep(PACE_S)

    def sent_to(self, backend: int, since: float) -> list[float]:
        """List when it was sent what that backend answered, in seconds after `since`."""
        return [sent - since for sent, status in self.answers if status == backend and sent > since]

    async def end(self) -> None:
        """Ask no more; what was asked is answered first."""
        count = len(self.answers)
        await self.client.until(lambda: len(self.answers) > count, "one answer more")
        self._task.cancel()
        statuses = {status for _, status in self.answers}
        assert statuses <= {OLD, NEW}, "a request was lost"
        assert self.client.terminated is None


async def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(PACE_S)


def start(
    spooky: Spooky, asgi: Backend, settings: Settings | None = None, **more: Any
) -> SpookyProcess:
    # A backup: it gets nothing as soon as there is another backend.
    backends = [{"id": "old", "address": asgi.address, "priority": 1}]
    one = {**upstream(asgi.address), "backends": backends, **more}
    return spooky({"worker_processes": WORKERS, "upstream": {"one": one}, **(settings or {})})


BALANCERS: tuple[dict[str, Any], ...] = (
    {},
    {"load_balancing": {"type": "least-connections", "bound": 200}},
    {"load_balancing": {"type": "maglev", "key": "cid"}, "session_persistence": {}},
)


@pytest.mark.parametrize("more", BALANCERS)
def test_every_connection_has_a_new_backend_at_once_and_loses_it_so(
    spooky: Spooky, asgi: Backend, nghttpd: Backend, more: dict[str, Any]
) -> None:
    running = start(spooky, asgi, **more)
    workers = running.workers()

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            callers = [
                Caller(await stack.enter_async_context(connect(running.port)))
                for _ in range(CONNECTIONS)
            ]
            await eventually(lambda: all(one.answers for one in callers), "all have been answered")
            add = {"action": "add", "backend": "one/new", "value": nghttpd.address}
            assert (await tell(running, **add))["ok"]
            added = time.monotonic()
            await eventually(
                lambda: all(len(one.sent_to(NEW, added)) > 5 for one in callers), "reached"
            )
            before = [sent for one in callers for sent in one.sent_to(OLD, added)]
            assert (await tell(running, action="remove", backend="one/new"))["ok"]
            removed = time.monotonic()
            await eventually(
                lambda: all(len(one.sent_to(OLD, removed)) > 5 for one in callers), "none left"
            )
            after = [sent for one in callers for sent in one.sent_to(NEW, removed)]
            log.info(
                "not yet to the new one, at most %.0f ms after it was added; still to it, at most "
                "%.0f ms after it was removed",
                max(before, default=0.0) * 1000,
                max(after, default=0.0) * 1000,
            )
            assert max(before, default=0.0) < SOON_S
            assert max(after, default=0.0) < SOON_S
            assert [one.client.goaways for one in callers] == [0] * CONNECTIONS
            for one in callers:
                await one.end()

    asyncio.run(scenario())
    assert running.workers() == workers
    wait_until(
        lambda: _names(running) == ["one/old"],
        10.0,
        "the end of its row",
    )


@pytest.mark.parametrize(("drain_timeout", "is_whole"), [("30s", True), ("500ms", False)])
def test_what_a_removed_backend_has_is_finished_in_the_drain_timeout(
    spooky: Spooky, asgi: Backend, nghttpd: Backend, drain_timeout: str, is_whole: bool
) -> None:
    running = start(spooky, asgi, {"drain_timeout": drain_timeout})
    assert _ctl(running, "add", "one/new", nghttpd.address) == 0
    assert _ctl(running, "remove", "one/new") == 0

    async def scenario() -> None:
        async with connect(running.port) as client:
            answer = await client.head(client.open("GET", "/asgi/slow?n=3000&chunk=100&pause=100"))
            assert (await tell(running, action="add", backend="one/new", value=nghttpd.address))[
                "ok"
            ]
            assert (await tell(running, action="remove", backend="one/old"))["ok"]
            assert _names(running) == ["one/old (removed)", "one/new"]
            await client.over(answer)
            assert answer.ended is is_whole
            assert client.goaways == 0

    asyncio.run(scenario())
    wait_until(
        lambda: _names(running) == ["one/new"],
        10.0,
        "the end of its row",
    )


def test_workers_that_drain_follow_as_well(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    running = start(spooky, asgi)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            callers = [
                Caller(await stack.enter_async_context(connect(running.port))) for _ in range(4)
            ]
            await eventually(lambda: all(one.answers for one in callers), "all have been answered")
            assert (await asyncio.to_thread(reload, running)).status == 0
            add = {"action": "add", "backend": "one/new", "value": nghttpd.address}
            assert (await tell(running, **add))["ok"]
            added = time.monotonic()
            await eventually(lambda: all(one.sent_to(NEW, added) for one in callers), "reached")
            assert (await tell(running, action="remove", backend="one/new"))["ok"]
            removed = time.monotonic()
            await eventually(
                lambda: all(len(one.sent_to(OLD, removed)) > 5 for one in callers), "none left"
            )
            late = [sent for one in callers for sent in one.sent_to(NEW, removed)]
            assert max(late, default=0.0) < SOON_S
            for one in callers:
                await one.end()

    asyncio.run(scenario())


def test_what_was_changed_outlives_a_worker_and_a_keeper(
    spooky: Spooky, asgi: Backend, nghttpd: Backend
) -> None:
    running = start(spooky, asgi)
    assert _ctl(running, "add", "one/new", nghttpd.address) == 0
    assert _ctl(running, "remove", "one/old") == 0
    for process in (*running.workers(), *running.children("keeper")):
        process.kill()
    gone, _ = psutil.wait_procs(running.workers(), timeout=0)
    wait_until(
        lambda: len(running.workers()) == WORKERS and len(running.children("keeper")) == 1,
        10.0,
        f"others in their place; gone: {gone}",
    )
    wait_until(lambda: _statuses(running) == {NEW}, 10.0, "the new backend alone")
    assert _ctl(running, "remove", "one/new") == 1, "it is the last one"
    assert _ctl(running, "add", "one/old", asgi.address) == 0
    assert _ctl(running, "remove", "one/new") == 0
    wait_until(lambda: _statuses(running) == {OLD}, 10.0, "the old backend alone")


def test_a_file_that_speaks_of_it_ends_a_removal(
    spooky: Spooky, asgi: Backend, nghttpd: Backend
) -> None:
    running = start(spooky, asgi)
    one = running.settings["upstream"]["one"]
    (old,) = one["backends"]
    new = {"id": "new", "address": nghttpd.address}
    assert _ctl(running, "add", "one/new", nghttpd.address) == 0
    assert _ctl(running, "remove", "one/old") == 0
    rewrite(running, upstream={"one": {**one, "backends": [new]}})
    assert reload(running).status == 0
    wait_until(lambda: _statuses(running) == {NEW}, 10.0, "the file's backend")
    # The file has by now what was added, and no more what was removed.
    rewrite(running, upstream={"one": {**one, "backends": [old]}})
    assert reload(running).status == 0
    wait_until(lambda: _statuses(running) == {OLD}, 10.0, "the file's backend")


def _names(running: SpookyProcess) -> list[str]:
    backends = attach_to(running.program.process.pid).backends
    return [backends.row(number).name for number in backends.taken()]


def _ctl(running: SpookyProcess, *arguments: str) -> int:
    return command("ctl", "-c", str(running.file), *arguments).status


def _statuses(running: SpookyProcess) -> set[int]:
    async def ask() -> set[int]:
        found = set()
        for _ in range(6):
            async with connect(running.port) as client:
                found |= {(await client.get("/asgi/status?code=204")).status for _ in range(3)}
        return found

    return asyncio.run(ask())
