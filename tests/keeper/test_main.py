"""The keeper as a process, under a real master."""

import asyncio
import json
import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from spooky.config.model import Backend, Config, Upstream
from spooky.handover import KeeperSpec
from spooky.keeper.eligibility import Eligibility
from spooky.keeper.main import DRAIN_S, Keeper
from spooky.keeper.outliers import Outliers
from spooky.shm.backend_cells import BackendColumn
from spooky.shm.instance import Cell
from spooky.shm.segment import SharedMemory
from spooky.shm.traffic import TrafficColumn
from tests.master.running import Master, free_port, master, wait_for


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def is_alone(running: Master, title: str) -> bool:
    return [one for one in running.children() if one != "spooky: keeper"] == [title]


def test_readiness_follows_the_life_of_the_instance(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_STREAM)
    with master(
        tmp_path, admin_port=port, workers=1, behaviour="drains for ever", drain_timeout=20
    ) as running:
        running.is_up()
        assert get(port, "/health")[0] == 200
        assert get(port, "/ready") == (
            200,
            {"status": "ready", "generation": 1, "workers": 1, "workers_ready": 1},
        )
        running.send(signal.SIGTERM)
        wait_for(lambda: get(port, "/ready")[0] == 503, "not ready while it drains")
        assert get(port, "/ready")[1]["status"] == "stopping"
        assert get(port, "/health")[0] == 200
        running.send(signal.SIGTERM)
        assert running.ends() == 0


def test_a_reload_moves_readiness_to_the_new_generation(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_STREAM)
    with master(tmp_path, admin_port=port, workers=1) as running:
        running.is_up().send(signal.SIGHUP)
        running.says("generation 2 serves")
        wait_for(lambda: is_alone(running, "spooky: worker 0 (gen 2)"), "the old worker gone")
        # The socket stays open while the keeper is replaced, so no question is refused.
        status, said = wait_for(lambda: get(port, "/ready"), "an answer")
        assert (status, said["generation"]) == (200, 2)


def test_the_endpoint_may_be_switched_off(tmp_path: Path) -> None:
    with master(tmp_path, admin_port=0, workers=1) as running:
        assert "spooky: keeper" in running.is_up().children()
        assert "admin endpoint" not in running.stderr()


BACKENDS = (Backend("b0", "127.0.0.1", 1), Backend("b1", "127.0.0.1", 2))


def spec(admin: socket.socket | None = None) -> KeeperSpec:
    """What the keeper of this very process gets."""
    memory = SharedMemory.create(16)
    memory.instance.set(Cell.MASTER_PID, os.getppid())
    config = Config(listen=(), upstream=(Upstream("web", (), BACKENDS),))
    return KeeperSpec(
        row=256,
        generation=1,
        config=config,
        own=config,
        changes=0,
        backend_rows=memory.backends.assign([backend.identity for backend in BACKENDS]),
        client_contexts={},
        admin=admin,
        wake_fd=-1,
        control=None,
        ready_fd=os.open(os.devnull, os.O_WRONLY),
        memory=memory,
    )


@pytest.mark.parametrize("duty", [Outliers, Eligibility])
def test_a_fault_in_a_duty_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, duty: type[Any]
) -> None:
    """Else backends would be judged no more, and nobody would know."""

    def look(_self: object, _now: float) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(duty, "look", look)
    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(asyncio.wait_for(Keeper(spec()).serve(), 10))


def test_backends_are_judged_until_the_last_admin_connection_is_over() -> None:
    """Which a slow client puts off, and there is no other keeper until then."""

    async def scenario(admin: socket.socket) -> None:
        given = spec(admin)
        number = given.backend_rows[BACKENDS[0].identity]
        keeper = asyncio.create_task(Keeper(given).serve())
        port = admin.getsockname()[1]
        _, slow = await asyncio.open_connection("127.0.0.1", port)
        slow.write(b"GET /hea")
        await asyncio.to_thread(get, port, "/health")
        given.memory.traffic.begin(0)
        cells = given.memory.traffic.row(0, number)
        os.kill(os.getpid(), signal.SIGQUIT)
        async with asyncio.timeout(DRAIN_S):
            while not given.memory.backends.row(number).get(BackendColumn.EJECTED_UNTIL_MS):
                cells[TrafficColumn.CONNECT_FAILURES] += 1
                cells[TrafficColumn.REQUESTS] += 1
                await asyncio.sleep(0.02)
        assert not keeper.done()
        slow.close()
        assert await keeper == 0

    with socket.create_server(("127.0.0.1", 0)) as admin:
        asyncio.run(scenario(admin))
