"""Clients that flood a real Spooky: closed, counted in `spooky status`, and nobody else hurt."""

import asyncio
import json
from collections.abc import Callable

import pytest

from spooky.errors import H3Code
from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.operator import command
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

WAIT_S = 15.0


def counted(running: SpookyProcess) -> dict[str, int]:
    said = command("status", "-p", str(running.settings["pid"]), "--json")
    assert said.status == 0, said
    found: dict[str, int] = json.loads(said.text)["bounds"]
    return {name: times for name, times in found.items() if times}


def send_unknown_frames(client: H3Client) -> None:
    client.open_octets(b"\x21\x00" * 500, end=False)


def cancel(client: H3Client) -> None:
    client.stop(client.open("GET", "/asgi/hang"), H3Code.REQUEST_CANCELLED)


async def flood(port: int, act: Callable[[H3Client], None]) -> int:
    """Do it until the connection is closed, with what; another client is served all the while."""
    async with connect(port) as honest, connect(port) as client:
        async with asyncio.timeout(WAIT_S):
            while client.terminated is None:
                act(client)
                client.transmit()
                assert (await honest.get("/asgi/status?code=204")).status == 204
        assert honest.terminated is None
        return int(client.terminated.error_code)


@pytest.mark.parametrize(
    ("limits", "act", "bound"),
    [
        ({"control_frames": 1000}, send_unknown_frames, "control_frames"),
        ({"cancelled_requests": 1}, cancel, "cancelled_requests"),
    ],
    ids=["unknown frames", "rapid reset"],
)
def test_a_flood_is_closed_and_counted(
    spooky: Spooky,
    asgi: Backend,
    limits: dict[str, int],
    act: Callable[[H3Client], None],
    bound: str,
) -> None:
    running = spooky({"upstream": {"asgi": upstream(asgi.address, path="/asgi")}, "limits": limits})
    assert counted(running) == {}
    assert asyncio.run(flood(running.port, act)) == H3Code.EXCESSIVE_LOAD
    assert counted(running) == {bound: 1}


async def ask_and_take_nothing(port: int) -> int:
    """Ask for more than the worker may keep, and read none of it."""
    async with connect(port) as honest, connect(port, paced=True) as client:
        for _ in range(12):
            client.open("GET", "/asgi/bytes?n=3000000")
        await client.until(lambda: client.terminated is not None, "the end", WAIT_S)
        assert client.terminated is not None
        assert (await honest.get("/asgi/status?code=204")).status == 204
        return int(client.terminated.error_code)


def test_who_has_most_is_closed_past_a_workers_bound(spooky: Spooky, asgi: Backend) -> None:
    upstreams = {"asgi": upstream(asgi.address, path="/asgi")}
    running = spooky({"upstream": upstreams, "limits": {"worker_buffers": "1MiB"}})
    assert asyncio.run(ask_and_take_nothing(running.port)) == H3Code.EXCESSIVE_LOAD
    assert counted(running) == {"worker_buffers": 1}
