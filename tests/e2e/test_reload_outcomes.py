"""What comes of a reload, good or bad: what the operator reads, and what clients notice.

A request is open the whole time, half of its content sent and echoed. A reload that comes to
nothing must not disturb its connection at all, and one that succeeds must let it finish.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e.backends import Backend
from tests.e2e.certificates import make_identity
from tests.e2e.conftest import Spooky
from tests.e2e.content import KIB, content, digest
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.operator import Said, readiness, reload, reload_by_file, rewrite
from tests.e2e.processes import free_port, wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 2
LENGTH = 64 * KIB
STAYS = "the old configuration stays"
SETTLED_S = 15.0


@pytest.fixture
def running(spooky: Spooky, asgi: Backend, tmp_path: Path) -> SpookyProcess:
    """A Spooky with a certificate of its own, which a test may take away."""
    folder = tmp_path / "own"
    folder.mkdir()
    own = make_identity(folder, "localhost")
    started = spooky(
        {
            "worker_processes": WORKERS,
            "drain_timeout": "30s",
            "upstream": {"one": upstream(asgi.address)},
            "listen": {"tls": {"cert": str(own.cert), "key": str(own.key)}},
        }
    )
    started.wait_until_serving(WORKERS)
    return started


async def _status(client: H3Client, path: str = "/asgi/status?code=204") -> int:
    return (await client.get(path)).status


async def _serves(port: int) -> bool:
    """Say whether a new connection gets an answer."""
    async with connect(port) as client:
        return await _status(client) == 204


@contextlib.asynccontextmanager
async def _open_request(port: int) -> AsyncIterator[H3Client]:
    """Keep a request open meanwhile; its content must come back whole."""
    data = content(LENGTH)
    async with connect(port) as client:
        exchange = client.open("POST", "/asgi/echo", end=False)
        client.send(exchange, data[: LENGTH // 2])
        await client.until(lambda: exchange.received == LENGTH // 2, "the first half")
        yield client
        assert not exchange.is_over, client.terminated
        client.send(exchange, data[LENGTH // 2 :], end=True)
        await client.over(exchange)
        assert (exchange.status, exchange.ended) == (200, True), client.terminated
        assert exchange.hasher.hexdigest() == digest(LENGTH)


def _meanwhile(running: SpookyProcess, act: Callable[[H3Client], Awaitable[None]]) -> None:
    """Do something while a request is open; the instance must serve afterwards."""

    async def scenario() -> None:
        async with _open_request(running.port) as client:
            await act(client)
        assert await _serves(running.port)

    asyncio.run(scenario())


async def _reload(running: SpookyProcess) -> Said:
    return await asyncio.to_thread(reload, running)


async def _reloads(running: SpookyProcess, generation: int, workers: int) -> None:
    """Reload, which must succeed."""
    said = await _reload(running)
    assert said == Said(0, f"reloaded: generation {generation}, {workers} workers\n")
    assert readiness(running)["generation"] == generation


async def _refused(running: SpookyProcess, client: H3Client, *reasons: str) -> None:
    """Reload, which must come to nothing, for these reasons."""
    before = readiness(running)
    said = await _reload(running)
    assert said.status == 1, said
    for text in (STAYS, *reasons):
        assert text in said.text, said
    assert readiness(running) == before
    assert await _status(client) == 204
    assert client.goaways == 0


# --- to no avail ------------------------------------------------------------------------------


def test_broken_file(running: SpookyProcess) -> None:
    """Whoever names the file is told at once, and the master never is."""
    good = running.file.read_text()

    async def act(client: H3Client) -> None:
        running.file.write_text(good.replace("upstream:", "upstrem:"))
        await _refused(running, client, "upstrem")
        said = await asyncio.to_thread(reload_by_file, running)
        assert said.status == 2, said
        assert "upstrem" in said.text, said
        running.file.write_text("listen: [")
        await _refused(running, client, "line")
        running.file.unlink()
        await _refused(running, client, running.file.name)
        running.file.write_text(good)
        await _reloads(running, 2, WORKERS)

    _meanwhile(running, act)


def test_certificate_that_vanished(running: SpookyProcess) -> None:
    cert = Path(running.settings["listen"]["tls"]["cert"])
    elsewhere = cert.with_suffix(".away")

    async def act(client: H3Client) -> None:
        os.rename(cert, elsewhere)
        await _refused(running, client, str(cert))
        assert await _serves(running.port)
        os.rename(elsewhere, cert)
        await _reloads(running, 2, WORKERS)

    _meanwhile(running, act)


def test_new_listener_whose_port_is_taken(running: SpookyProcess) -> None:
    listen = running.settings["listen"]

    async def act(client: H3Client) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
            rewrite(running, listen=[listen, {**listen, "port": port}])
            await _refused(running, client, str(port), "in use")
        await _reloads(running, 2, WORKERS)
        assert await _serves(port)

    _meanwhile(running, act)


# --- with success -----------------------------------------------------------------------------


def test_several_in_a_second(running: SpookyProcess) -> None:
    """Each of them ends, none harms another, and the last one wins."""

    async def act(client: H3Client) -> None:
        for _ in range(10):
            running.signal(signal.SIGHUP)
            await asyncio.sleep(0.1)  # the pace of an impatient operator
            assert await _serves(running.port)
        both = await asyncio.gather(_reload(running), _reload(running))
        assert [said.status for said in both] == [0, 0], both

    _meanwhile(running, act)
    last = readiness(running)
    assert 2 < last["generation"] <= 13
    wait_until(lambda: len(running.workers()) == WORKERS, SETTLED_S, "one generation alone")


def test_during_a_drain(running: SpookyProcess) -> None:
    """Three reloads pass while the first generation still has something to finish."""

    async def act(client: H3Client) -> None:
        first = running.workers()
        for generation in (2, 3, 4):
            await _reloads(running, generation, WORKERS)
            assert set(running.workers()) & set(first)

    _meanwhile(running, act)
    wait_until(lambda: len(running.workers()) == WORKERS, SETTLED_S, "one generation alone")


def test_other_numbers_of_workers(running: SpookyProcess) -> None:
    async def act(client: H3Client) -> None:
        for generation, workers in ((2, 4), (3, 1)):
            rewrite(running, worker_processes=workers)
            said = await _reload(running)
            assert said.status == 0, said
            assert said.text.startswith(f"reloaded: generation {generation}, {workers} worker")
            assert readiness(running)["workers"] == workers
            assert all([await _serves(running.port) for _ in range(12)])

    _meanwhile(running, act)
    wait_until(lambda: len(running.workers()) == 1, SETTLED_S, "one worker alone")


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_other_listeners(running: SpookyProcess) -> None:
    """Added, put in another order, taken away: what is open on each of them goes on."""
    first = running.settings["listen"]
    second = {**first, "port": free_port(socket.SOCK_DGRAM)}
    old, new = running.port, second["port"]

    async def scenario() -> None:
        async with _open_request(old):
            rewrite(running, listen=[first, second])
            await _reloads(running, 2, WORKERS)
            assert await _serves(old)
            assert await _serves(new)
            async with _open_request(new):
                rewrite(running, listen=[second, first])
                await _reloads(running, 3, WORKERS)
                assert await _serves(old)
                assert await _serves(new)
                rewrite(running, listen=[second])
                await _reloads(running, 4, WORKERS)
                assert await _serves(new)
        assert await _serves(new)

    asyncio.run(scenario())
    wait_until(lambda: _can_bind(old), SETTLED_S, "the port that is no longer listened on")


def test_other_backend(running: SpookyProcess, nghttpd: Backend) -> None:
    """What is under way finishes where it began; what comes goes to the new one."""
    former = running.settings["upstream"]

    async def act(client: H3Client) -> None:
        rewrite(running, upstream={"one": upstream(nghttpd.address)})
        await _reloads(running, 2, WORKERS)
        async with connect(running.port) as fresh:
            assert await _status(fresh, "/nghttpd/one") == 200
            assert await _status(fresh) == 404
        rewrite(running, upstream=former)
        await _reloads(running, 3, WORKERS)

    _meanwhile(running, act)
