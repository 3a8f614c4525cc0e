"""A socket that a service manager has bound, and four workers that share it."""

import sys
from pathlib import Path

import pytest

from tests.e2e.backends import Backend
from tests.e2e.certificates import Identity
from tests.e2e.clients import curl
from tests.e2e.operator import command, reload, rewrite, status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import running_spooky, upstream

pytestmark = pytest.mark.e2e

PREFIX = [sys.executable, "-m", "tests.e2e.activated"]
WORKERS = 4
REQUESTS = 40


@pytest.mark.parametrize("may_join", [True, False])
def test_a_passed_socket_serves_all_workers(
    identity: Identity,
    tmp_path: Path,
    asgi: Backend,
    monkeypatch: pytest.MonkeyPatch,
    *,
    may_join: bool,
) -> None:
    """Where no other socket may join it, one worker reads it and hands over to the others."""
    if may_join:
        monkeypatch.setenv("REUSEPORT", "1")
    settings = {"worker_processes": WORKERS, "upstream": {"one": upstream(asgi.address)}}
    with running_spooky(settings, identity, tmp_path, PREFIX) as running:
        for _ in range(2):
            for _ in range(REQUESTS):
                assert curl(running.target, "GET", "/asgi/status?code=204").status == 204
            wait_until(
                lambda: all(one["requests"] for one in status(running)["workers"]),
                5.0,
                "requests for all workers",
            )
            assert reload(running).status == 0
        # What came with the socket is known to the master that takes over, too.
        rewrite(running, worker_processes=WORKERS + 1)
        pid = str(running.settings["pid"])
        assert command("-s", "upgrade", "-p", pid).text.endswith(f"{WORKERS + 1} workers\n")
        assert curl(running.target, "GET", "/asgi/status?code=204").status == 204
        shared = "no socket can be added to those passed" in running.log()
        assert shared is not may_join
        assert (status(running)["intake"]["datagrams_handed_over"] > REQUESTS) is not may_join
