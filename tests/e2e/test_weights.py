"""Weights, backups, zones, panic and slow start, as the requests are spread by them."""

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest

from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import connect
from tests.e2e.operator import command, status
from tests.e2e.processes import wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

SOON_S = 2.0
log = logging.getLogger(__name__)


def start(
    spooky: Spooky, asgi: Backend, nghttpd: Backend, *more: dict[str, Any], **rules: Any
) -> SpookyProcess:
    """Start with the backends `one` and `two`, each with its own settings."""
    addresses = (asgi.address, nghttpd.address)
    backends = [
        {"id": name, "address": address, **own}
        for name, address, own in zip(("one", "two"), addresses, more, strict=True)
    ]
    zone = rules.pop("zone", None)
    group = {**upstream(asgi.address), "backends": backends, **rules}
    return spooky({"upstream": {"web": group}, **({"zone": zone} if zone else {})})


def ctl(running: SpookyProcess, *arguments: str) -> None:
    said = command("ctl", "-c", str(running.file), *arguments)
    assert said.status == 0, said


def served(running: SpookyProcess, requests: int = 20) -> list[int]:
    """Count who answers; they do with different statuses."""

    async def ask() -> Counter[int]:
        async with connect(running.port) as client:
            answers = [await client.get("/asgi/status?code=204") for _ in range(requests)]
        return Counter(answer.status for answer in answers)

    counts = asyncio.run(ask())
    assert counts.keys() <= {204, 404}
    return [counts[204], counts[404]]


def becomes(running: SpookyProcess, wanted: list[int]) -> None:
    wait_until(lambda: served(running) == wanted, SOON_S, f"{wanted}")


def uses(running: SpookyProcess) -> list[str]:
    return [one["use"] for one in status(running)["backends"]]


def test_no_weight_no_request(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    running = start(spooky, asgi, nghttpd, {"weight": 0}, {"weight": 1})
    assert served(running) == [0, 20]
    assert uses(running) == ["no_weight", "serving"]


def test_a_backup_takes_over_and_hands_back(
    spooky: Spooky, asgi: Backend, nghttpd: Backend
) -> None:
    running = start(spooky, asgi, nghttpd, {}, {"priority": 1})
    assert served(running) == [20, 0]
    assert uses(running) == ["serving", "standby"]
    ctl(running, "health", "web/one", "down")
    becomes(running, [0, 20])
    assert uses(running) == ["unhealthy", "serving"]
    ctl(running, "health", "web/one", "auto")
    becomes(running, [20, 0])
    ctl(running, "disable", "web/one")
    becomes(running, [0, 20])
    said = "upstream web: backends of priority"
    wait_until(lambda: running.log().count(f"{said} 1 are needed") == 2, SOON_S, "it is logged")
    assert running.log().count(f"{said} 0 suffice again") == 1


def test_the_own_zone_comes_first(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    running = start(spooky, asgi, nghttpd, {"zone": "a"}, {"zone": "b"}, zone="b")
    assert served(running) == [0, 20]
    assert uses(running) == ["other_zone", "serving"]
    ctl(running, "health", "web/two", "down")
    becomes(running, [20, 0])


def test_a_panic_ignores_health(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    running = start(spooky, asgi, nghttpd, {}, {})
    ctl(running, "health", "web/one", "down")
    becomes(running, [0, 20])
    ctl(running, "health", "web/two", "down")
    becomes(running, [10, 10])
    assert uses(running) == ["panic", "panic"]
    ctl(running, "disable", "web/two")
    becomes(running, [20, 0])
    assert "less than 1 % of it is well, its health is ignored" in running.log()


def test_slow_start(spooky: Spooky, asgi: Backend, nghttpd: Backend) -> None:
    running = start(spooky, asgi, nghttpd, {}, {}, slow_start="4s")
    assert served(running) == [10, 10]
    ctl(running, "disable", "web/one")
    becomes(running, [0, 20])
    ctl(running, "enable", "web/one")
    shares: list[int] = []

    def is_whole() -> bool:
        shares.append(served(running, 40)[0])
        return shares[-1] == 20

    wait_until(is_whole, 8.0, "its whole weight again")
    log.info("of 40 requests: %s", shares)
    begun = [share for share in shares if share]
    assert begun[0] <= 12
    assert len(set(begun)) >= 3
