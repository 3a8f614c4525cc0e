"""The keeper as a process, under a real master."""

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

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
