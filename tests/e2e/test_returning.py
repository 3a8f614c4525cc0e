"""Clients that come back: to another worker, after a reload, after an upgrade, in a flood."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from curl_cffi import CurlOpt, requests
from curl_cffi.const import CurlHttpVersion

from tests.e2e import steering as modes
from tests.e2e.backends import Backend
from tests.e2e.clients import curl, curl_options
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Memory, connect
from tests.e2e.operator import command, reload, status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

EACH = 6


def _start(spooky: Spooky, backend: Backend, workers: int = 4, **more: object) -> SpookyProcess:
    one = {"one": upstream(backend.address)}
    return spooky({"worker_processes": workers, "upstream": one, **more})


def _intake(running: SpookyProcess, key: str) -> int:
    return int(status(running)["intake"][key])


async def _visit(running: SpookyProcess, memory: Memory) -> tuple[bool, bool]:
    """Say whether the session was resumed, and whether a proof of the address was asked for."""
    async with connect(running.port, memory=memory) as client:
        assert (await client.get("/asgi/status?code=204")).status == 204
        await client.until(lambda: bool(memory.tickets and memory.tokens), "ticket and token")
        return client.resumed, client.retried


@modes.both
def test_a_session_goes_on_at_any_worker(spooky: Spooky, asgi: Backend, steering: str) -> None:
    running = _start(spooky, asgi, steering=steering)
    memory = Memory()

    async def visits(count: int) -> list[bool]:
        return [(await _visit(running, memory))[0] for _ in range(count)]

    assert asyncio.run(visits(1)) == [False]
    first = list(memory.tickets)
    assert asyncio.run(visits(EACH)) == [True] * EACH
    assert reload(running).status == 0
    assert asyncio.run(visits(EACH)) == [True] * EACH
    assert command("-s", "upgrade", "-p", str(running.settings["pid"])).status == 0
    assert asyncio.run(visits(EACH)) == [True] * EACH
    # The first ticket of all is as good as the newest.
    memory.tickets[:] = first
    assert asyncio.run(visits(1)) == [True]
    resumed = 3 * EACH + 1
    wait_until(lambda: _intake(running, "handshakes_resumed") == resumed, 5.0, "the count")
    said = command("status", "-p", str(running.settings["pid"])).text
    assert f"connections opened {resumed + 1}, resumed {resumed}" in said


def test_libcurl_resumes(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi)
    url = f"https://localhost:{running.port}/asgi/status?code=204"
    with requests.Session(
        http_version=CurlHttpVersion.V3ONLY,
        verify=str(running.target.cert),  # type: ignore[arg-type]
        curl_options={**curl_options(running.port), CurlOpt.FORBID_REUSE: 1},
    ) as session:
        for _ in range(3):
            assert session.get(url).status_code == 204
    wait_until(lambda: _intake(running, "handshakes_resumed") == 2, 5.0, "the count")


# --- addresses --------------------------------------------------------------------------------


def first_flight() -> bytes:
    """Make the first datagram of a client that will not be heard of again."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    client = QuicConnection(configuration=configuration)
    client.connect(("127.0.0.1", 1), 0.0)
    return bytes(client.datagrams_to_send(0.0)[0][0])


@contextlib.contextmanager
def _flood(running: SpookyProcess, count: int) -> Iterator[None]:
    """Leave so many handshakes half open."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            sock.sendto(first_flight(), ("127.0.0.1", running.port))
        wait_until(lambda: _intake(running, "connections_opened") >= count, 5.0, "the flood")
        yield


def test_a_proof_is_asked_for_in_a_flood_and_not_of_who_was_there(
    spooky: Spooky, asgi: Backend
) -> None:
    running = _start(spooky, asgi, 1, limits={"retry_handshakes": 3})
    known, stranger = Memory(), Memory()
    assert asyncio.run(_visit(running, known)) == (False, False)
    token = known.tokens[-1]
    with _flood(running, 4):
        pass
    assert asyncio.run(_visit(running, known)) == (True, False), "it brings a token"
    assert asyncio.run(_visit(running, stranger)) == (False, True)
    assert curl(running.target, "GET", "/asgi/status?code=204").status == 204
    known.tokens[:] = [token]
    assert asyncio.run(_visit(running, known)) == (True, True), "a token is good once"
    assert _intake(running, "retries_sent") >= 3


def test_a_token_is_good_after_a_reload_and_an_upgrade(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi, 2, limits={"retry": "always"})
    memory = Memory()
    assert asyncio.run(_visit(running, memory)) == (False, True)
    assert reload(running).status == 0
    assert asyncio.run(_visit(running, memory)) == (True, False)
    assert command("-s", "upgrade", "-p", str(running.settings["pid"])).status == 0
    assert asyncio.run(_visit(running, memory)) == (True, False)
