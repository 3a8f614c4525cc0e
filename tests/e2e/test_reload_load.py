"""Reloads under load lose nothing: no request, no handshake, no connection, no long stream.

Run with -s to see the counts; a failure shows them as well.
"""

from pathlib import Path

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.reload_clients import Load
from tests.e2e.reload_load import Report, run
from tests.e2e.spooky_process import upstream

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKERS = 4
INTERVAL_S = 1.1
STREAMS = 20
"""Long streams at once, over all stacks."""


def _run(spooky: Spooky, asgi: Backend, nghttpd: Backend, reloads: int, folder: Path) -> Report:
    backends = {b.name: upstream(b.address, path=f"/{b.name}") for b in (asgi, nghttpd)}
    running = spooky(
        {"worker_processes": WORKERS, "upstream": backends, "drain_timeout": "30s"},
    )
    running.wait_until_serving(WORKERS)
    report = run(running, reloads, INTERVAL_S, Load(streams=7), folder)
    print(f"\n{report}")
    return report


def _check(report: Report, reloads: int) -> None:
    assert report.losses() == [], report
    assert len(report.reloads) == reloads, report
    # Less would say nothing.
    assert all(tally.requests > 20 * reloads for tally in report.tallies), report
    assert sum(n for seen, n in report.outlived().items() if seen >= 3) >= STREAMS, report


def test_twenty_reloads(spooky: Spooky, asgi: Backend, nghttpd: Backend, tmp_path: Path) -> None:
    _check(_run(spooky, asgi, nghttpd, 20, tmp_path), 20)
