"""Reloads under load lose nothing: no request, no handshake, no connection, no long stream.

Run with -s to see the counts; a failure shows them as well.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e import steering as modes
from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.operator import Said, command
from tests.e2e.reload_clients import Load
from tests.e2e.reload_load import Report, run, upgrade
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 4
INTERVAL_S = 1.1
UPGRADES = 5
UPGRADE_INTERVAL_S = 2.0
STREAMS = 20
"""Long streams at once, over all stacks."""


def _start(start: Spooky, backends: Sequence[Backend], steering: str) -> SpookyProcess:
    settings = {"worker_processes": WORKERS, "drain_timeout": "30s", "steering": steering}
    routes = {b.name: upstream(b.address, path=f"/{b.name}") for b in backends}
    running = start({**settings, "upstream": routes})
    running.wait_until_serving(WORKERS)
    return running


def _run(start: Spooky, backends: Sequence[Backend], reloads: int, steering: str) -> Report:
    running = _start(start, backends, steering)
    report = run(running, reloads, INTERVAL_S, Load(streams=7))
    print(f"\n{steering} steering\n{report}")
    return report


def _check(report: Report, reloads: int) -> None:
    assert report.losses() == [], report
    assert len(report.reloads) == reloads, report
    # Less would say nothing.
    assert all(tally.requests > 5 * reloads for tally in report.tallies), report
    assert sum(n for seen, n in report.outlived().items() if seen >= 3) >= STREAMS, report


@modes.both
def test_twenty_reloads(spooky: Spooky, asgi: Backend, nghttpd: Backend, steering: str) -> None:
    _check(_run(spooky, (asgi, nghttpd), 20, steering), 20)


@pytest.mark.long
@modes.both
def test_hundred_reloads(spooky: Spooky, asgi: Backend, nghttpd: Backend, steering: str) -> None:
    _check(_run(spooky, (asgi, nghttpd), 100, steering), 100)


def test_upgrades(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    """The same with masters that follow each other."""
    running = _start(spooky, (asgi, nghttpd), "auto")
    report = run(running, UPGRADES, UPGRADE_INTERVAL_S, Load(streams=2), upgrade)
    print(f"\nupgrades\n{report}")
    assert report.losses() == [], report
    assert len(report.reloads) == UPGRADES
    last = int(Path(running.settings["pid"]).read_text())
    assert last != running.program.process.pid
    said = command("-s", "quit", "-p", running.settings["pid"])
    assert said == Said(0, f"process {last} has stopped\n")
