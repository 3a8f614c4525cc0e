"""All of it without any privilege: Spooky as a user without rights and without capabilities.

Only a test run as root can become that user; as anybody else, every other test is this one.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.e2e import steering as modes
from tests.e2e.backends import Backend
from tests.e2e.certificates import make_identity
from tests.e2e.conftest import Spooky
from tests.e2e.migration import MOVES, address_change, by_aioquic, port_change
from tests.e2e.reload_clients import Load
from tests.e2e.reload_load import run
from tests.e2e.spooky_process import Settings, SpookyProcess, running_spooky, upstream

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed"),
]

NOBODY = 65534
WORKERS = 4
RELOADS = 5
PREFIX = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
)


@pytest.fixture
def as_nobody() -> Iterator[Spooky]:
    """Start Spooky as a user without rights, in a folder of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        identity = make_identity(folder, "localhost")
        for path in (folder, identity.cert, identity.key):
            os.chown(path, NOBODY, NOBODY)

        def start(settings: Settings) -> SpookyProcess:
            return stack.enter_context(running_spooky(settings, identity, folder, PREFIX))

        yield start


def _start(start: Spooky, steering: str, *backends: Backend) -> SpookyProcess:
    settings = {"worker_processes": WORKERS, "drain_timeout": "30s", "steering": steering}
    routes = {b.name: upstream(b.address, path=f"/{b.name}") for b in backends}
    running = start({**settings, "upstream": routes})
    running.wait_until_serving(WORKERS)
    master = psutil.Process(running.program.process.pid)
    for process in (master, *master.children(recursive=True)):
        status = Path(f"/proc/{process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert fields["Uid"].split() == [str(NOBODY)] * 4
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    return running


@modes.both
def test_reloads(as_nobody: Spooky, asgi: Backend, nghttpd: Backend, steering: str) -> None:
    running = _start(as_nobody, steering, asgi, nghttpd)
    report = run(running, RELOADS, 1.0, Load(kept=2, streams=2))
    print(f"\n{steering} steering\n{report}")
    assert report.losses() == [], report
    assert len(report.reloads) == RELOADS


@modes.both
def test_migrations(as_nobody: Spooky, asgi: Backend, steering: str) -> None:
    running = _start(as_nobody, steering, asgi)

    async def scenario() -> list[str]:
        moves = (port_change, address_change) * 3
        outcomes = await asyncio.gather(*(by_aioquic(running, move) for move in moves))
        assert all(outcome.moves == MOVES for outcome in outcomes)
        return [outcome.problem for outcome in outcomes if outcome.problem]

    assert asyncio.run(scenario()) == []
