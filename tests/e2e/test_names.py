"""A backend whose name moves to another address while it is in use."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import Spooky
from tests.e2e.dns_server import DnsServer
from tests.e2e.h3_client import connect
from tests.e2e.operator import command
from tests.e2e.processes import START_S, Program, free_port
from tests.e2e.spooky_process import upstream

pytestmark = pytest.mark.e2e

HOMES = ("127.0.0.1", "127.0.0.2")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A port with an nghttpd on each of two addresses, which says where it is."""
    number = free_port()
    with ExitStack() as stack:
        for home in HOMES:
            site = tmp_path / home
            site.mkdir()
            (site / "home").write_text(home)
            command = ["nghttpd", "--no-tls", "-a", home, "-d", str(site), str(number)]
            program = Program("nghttpd", command, tmp_path / f"{home}.log")
            stack.callback(program.kill)
            program.wait_until(lambda home=home: _accepts(home, number), START_S, "listening")  # type: ignore[misc]
        yield number


def _accepts(home: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((home, port)) == 0


def test_requests_follow_the_name(spooky: Spooky, port: int) -> None:
    with DnsServer() as server:
        server.records["home.test"] = [HOMES[0]]
        running = spooky(
            {
                "worker_processes": 2,
                "dns": {"servers": [f"127.0.0.1:{server.port}"], "min_ttl": "100ms"},
                "upstream": {"one": upstream(f"home.test:{port}")},
            }
        )

        async def where() -> str:
            async with connect(running.port) as client:
                return bytes((await client.get("/home")).kept).decode()

        async def scenario() -> None:
            for home in HOMES:
                server.records["home.test"] = [home]
                async with asyncio.timeout(10.0):
                    # Both workers: by many connections in a row.
                    in_a_row = 0
                    while in_a_row < 12:
                        in_a_row = in_a_row + 1 if await where() == home else 0
            server.is_silent = True
            assert await where() == HOMES[1]

        asyncio.run(scenario())
    assert f"the name home.test: now {HOMES[1]}, no more {HOMES[0]}" in running.log()


def test_a_backend_that_is_added_follows_its_name(spooky: Spooky, port: int) -> None:
    with DnsServer() as server:
        server.records["home.test"] = [HOMES[0]]
        backup = {"address": f"127.0.0.3:{port}", "priority": 1}
        running = spooky(
            {
                "dns": {"servers": [f"127.0.0.1:{server.port}"], "min_ttl": "100ms"},
                "upstream": {"one": {"route": {"path_prefix": "/"}, "backends": [backup]}},
            }
        )
        said = command("ctl", "-c", str(running.file), "add", "one/home", f"home.test:{port}")
        assert said.status == 0, said

        async def scenario() -> None:
            async with connect(running.port) as client:
                for home in HOMES:
                    server.records["home.test"] = [home]
                    async with asyncio.timeout(10.0):
                        while bytes((await client.get("/home")).kept).decode() != home:
                            pass

        asyncio.run(scenario())
