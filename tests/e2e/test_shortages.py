"""What the machine may be short of: descriptors, space for logs, time. Spooky serves on."""

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest

from tests.e2e.backends import Backend, start_hypercorn
from tests.e2e.certificates import Identity
from tests.e2e.clients import curl
from tests.e2e.conftest import Spooky
from tests.e2e.content import MIB, digest
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

STOPPED_S = 3.0
SPACE = "64k"
WITHOUT_SPACE = (
    f'mount -t tmpfs -o size={SPACE} none "$0" && '
    '{ cat /dev/zero > "$0/filler"; :; } 2>/dev/null; exec "$@"'
)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Backend]:
    """A backend that nobody has a connection to."""
    with start_hypercorn(tmp_path) as backend:
        yield backend


def _limit_descriptors(pid: int, most: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))


def _lowest_free(pid: int) -> int:
    """The number of the next descriptor, beyond which a limit leaves none."""
    used = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in count() if number not in used)


async def _statuses(client: H3Client, *paths: str) -> list[int]:
    exchanges = [client.open("GET", path) for path in paths]
    return [(await client.over(exchange)).status for exchange in exchanges]


def test_out_of_descriptors(spooky: Spooky, asgi: Backend, other: Backend) -> None:
    """Who needs none is served; a backend that there is none for is not taken for dead."""
    routes = {"a": upstream(asgi.address, path="/a"), "b": upstream(other.address, path="/b")}
    running = spooky({"upstream": routes})
    [worker] = running.workers()
    good, bad = "/a/status?code=204", "/b/status?code=204"

    async def scenario() -> None:
        async with connect(running.port) as client:
            assert await _statuses(client, good) == [204]
            before = worker.num_fds()
            _limit_descriptors(worker.pid, _lowest_free(worker.pid))
            assert await _statuses(client, *[bad] * 5, good) == [503] * 5 + [204]
            async with connect(running.port) as another:
                assert await _statuses(another, good) == [204]
            assert worker.num_fds() == before
            _limit_descriptors(worker.pid, 1024)
            assert await _statuses(client, bad) == [204]

    asyncio.run(scenario())
    assert running.workers() == [worker]
    log = running.log()
    assert log.count("cannot connect: too many open files") == 1
    assert "ejected" not in log
    errors = [record["error"] for record in running.access_records(9)]
    assert sorted(filter(None, errors)) == ["overloaded"] * 5


@pytest.fixture
def on_a_full_disk(identity: Identity, asgi: Backend, tmp_path: Path) -> Iterator[SpookyProcess]:
    """A Spooky with its logs on a disk of its own that is full."""
    disk, folder = tmp_path / "disk", tmp_path / "spooky"
    disk.mkdir()
    folder.mkdir()
    log = {"file": str(disk / "spooky.log"), "access": str(disk / "access.log")}
    settings = {"log": log, "upstream": {"asgi": upstream(asgi.address)}}
    prefix = ("unshare", "--mount", "sh", "-c", WITHOUT_SPACE, str(disk))
    with running_spooky(settings, identity, folder, prefix) as running:
        yield running


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
def test_no_space_for_logs(on_a_full_disk: SpookyProcess) -> None:
    running = on_a_full_disk
    root = f"/proc/{running.program.process.pid}/root"
    access = Path(root + running.settings["log"]["access"])
    log = Path(root + running.settings["log"]["file"])
    for _ in range(3):
        assert curl(running.target, "GET", "/asgi/status?code=204").status == 204
    running.signal(signal.SIGHUP)
    wait_until(lambda: len(running.workers()) == 1 and running.is_ready(), 10.0, "the reload")
    assert access.stat().st_size == log.stat().st_size == 0
    (access.parent / "filler").unlink()
    assert curl(running.target, "GET", "/asgi/status?code=205").status == 205
    wait_until(lambda: b'"status":205' in access.read_bytes(), 5.0, "an access line")
    running.signal(signal.SIGUSR1)
    wait_until(lambda: b"reopened" in log.read_bytes(), 5.0, "a line of the log")


def test_a_worker_that_stands_still_for_a_while(spooky: Spooky, asgi: Backend) -> None:
    """To it the clock jumps: every timer is late at once, and nothing has been heard of anybody."""
    length = 8 * MIB
    running = spooky({"upstream": {"asgi": upstream(asgi.address)}})
    [worker] = running.workers()

    async def scenario() -> None:
        async with connect(running.port) as client, connect(running.port) as idle:
            exchange = client.open("GET", f"/asgi/bytes?n={length}")
            await client.until(lambda: exchange.received > MIB, "a part of it")
            worker.suspend()
            await asyncio.sleep(STOPPED_S)
            assert not exchange.is_over
            worker.resume()
            await client.over(exchange)
            assert exchange.hasher.hexdigest() == digest(length)
            assert await _statuses(idle, "/asgi/status?code=204") == [204]

    asyncio.run(scenario())
    assert psutil.pid_exists(worker.pid)
    assert running.workers() == [worker]
