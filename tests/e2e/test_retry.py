"""Clients that are asked to prove their address first (RFC 9000 section 8.1.2)."""

from collections.abc import Callable

import pytest

from tests.e2e import steering as modes
from tests.e2e.backends import Backend
from tests.e2e.clients import Answer, Target, aioquic, curl, qh3
from tests.e2e.conftest import Spooky
from tests.e2e.operator import reload, rewrite, status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

Client = Callable[[Target, str, str], Answer]
CLIENTS: tuple[Client, ...] = (curl, qh3, aioquic)
EACH = 4


def _start(spooky: Spooky, backend: Backend, **more: object) -> SpookyProcess:
    one = {"one": upstream(backend.address)}
    return spooky({"worker_processes": 4, "upstream": one, "limits": {"retry": "always"}, **more})


def _retries(running: SpookyProcess) -> int:
    return int(status(running)["intake"]["retries_sent"])


def _all_are_served(running: SpookyProcess) -> None:
    for client in CLIENTS:
        for _ in range(EACH):
            assert client(running.target, "GET", "/asgi/status?code=204").status == 204


@modes.both
def test_every_client_stack_proves_its_address(
    spooky: Spooky, asgi: Backend, steering: str
) -> None:
    """Whichever worker its second Initial reaches: the Retry's connection ID names one."""
    running = _start(spooky, asgi, steering=steering)
    _all_are_served(running)
    # A first flight of two datagrams may be answered twice.
    clients = len(CLIENTS) * EACH
    wait_until(lambda: _retries(running) >= clients, 5.0, "a Retry for each client")
    assert status(running)["intake"]["connections_opened"] == clients
    assert reload(running).status == 0
    _all_are_served(running)


def test_no_client_is_asked_once_a_reload_switched_it_off(spooky: Spooky, asgi: Backend) -> None:
    running = _start(spooky, asgi)
    rewrite(running, limits={"retry": "off"})
    assert reload(running).status == 0
    _all_are_served(running)
    assert _retries(running) == 0
