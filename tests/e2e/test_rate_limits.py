"""Rate limits by the real program: the bound over all workers, the fields, reloads and deaths."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from spooky.protocol.cid import slot_of
from tests.e2e.backends import Backend
from tests.e2e.conftest import Spooky
from tests.e2e.h3_client import Exchange, H3Client, connect
from tests.e2e.operator import reload, rewrite, status
from tests.e2e.processes import START_S, wait_until
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

WORKERS = 4
PATH = "/asgi/headers"
WAIT_S = 10.0


def start(spooky: Spooky, backend: Backend, workers: int, *limits: dict[str, Any]) -> SpookyProcess:
    settings = {
        "worker_processes": workers,
        "upstream": {"one": upstream(backend.address)},
        "rate_limits": list(limits),
    }
    running = spooky(settings)
    running.wait_until_serving(workers)
    return running


def ask(running: SpookyProcess, *keys: str | None) -> list[Exchange]:
    """Send a request for each API key, one after the other, on one connection."""

    async def run() -> list[Exchange]:
        async with connect(running.port) as client:
            return [
                await client.get(PATH, [(b"x-api-key", key.encode())] if key else [])
                for key in keys
            ]

    return asyncio.run(run())


def statuses(found: list[Exchange]) -> Counter[int]:
    return Counter(one.status for one in found)


def connections(
    running: SpookyProcess, count: int, work: Callable[[H3Client], Coroutine[Any, Any, None]]
) -> set[int]:
    """Do work on so many connections at a time; return the slots that these had."""
    slots = set()

    async def one() -> None:
        async with connect(running.port) as client:
            slots.add(slot_of(client.server_cid))
            await work(client)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())

    asyncio.run(run())
    return slots


def test_a_limit_over_all_workers_keeps_its_bound(spooky: Spooky, nghttpd: Backend) -> None:
    rate, burst, span_s = 50, 20, 3.0
    limit = {"name": "all", "key": "all", "rate": f"{rate}/s", "burst": burst}
    running = start(spooky, nghttpd, WORKERS, limit)
    counts: Counter[int] = Counter()
    begin = time.monotonic()

    async def work(client: H3Client) -> None:
        while time.monotonic() < begin + span_s:
            batch = [client.open("GET", "/nghttpd/one") for _ in range(5)]
            for exchange in batch:
                counts[(await client.over(exchange)).status] += 1

    slots = connections(running, 16, work)
    took = time.monotonic() - begin
    offered = sum(counts.values())
    print(f"\noffered {offered / took:.0f}/s over {len(slots)} workers: {counts} in {took:.2f} s")
    assert len(slots) > 1
    assert offered > 2 * rate * took
    assert set(counts) == {200, 429}
    assert counts[200] <= burst + rate * took + WORKERS - 1
    assert counts[200] >= 0.7 * rate * span_s


def test_what_a_client_is_told(spooky: Spooky, asgi: Backend) -> None:
    limit = {"name": "api", "key": "header:X-Api-Key", "rate": "3/m", "headers": "always"}
    running = start(spooky, asgi, 1, limit)
    found = ask(running, *["a"] * 4, "b", None)
    assert [one.status for one in found] == [200, 200, 200, 429, 200, 200]
    for one in found[:-1]:
        assert one.header(b"ratelimit-policy") == b'"api";q=3;w=60'
    assert found[-1].header(b"ratelimit") is None
    assert [one.header(b"ratelimit") for one in found[:3]] == [
        b'"api";r=2;t=40',
        b'"api";r=1;t=20',
        b'"api";r=0;t=20',
    ]
    assert found[4].header(b"ratelimit") == b'"api";r=2;t=40'
    refused = found[3]
    retry_after = refused.header(b"retry-after")
    assert retry_after in {b"19", b"20"}
    assert refused.header(b"ratelimit") == b'"api";r=0;t=' + retry_after
    assert refused.kept.startswith(b"429 Too Many Requests\n")
    line = running.access_records(6)[3]
    assert line["status"] == 429
    assert line["error"] == "rate_limited"
    assert line["detail"].startswith("api, for ")
    assert line["backend"] is None


def test_reloads_and_deaths_give_nobody_a_fresh_burst(spooky: Spooky, asgi: Backend) -> None:
    bucket = {"name": "bucket", "key": "header:x-api-key", "rate": "5/h"}
    running = start(spooky, asgi, 2, bucket)
    assert statuses(ask(running, *["a"] * 5)) == {200: 5}
    assert reload(running).status == 0
    assert statuses(ask(running, *["a"] * 3, "b")) == {429: 3, 200: 1}
    before = {worker.pid for worker in running.workers()}
    for worker in running.workers():
        worker.kill()

    def replaced() -> bool:
        now = {worker.pid for worker in running.workers()}
        return len(now) == 2 and not now & before and running.is_ready()

    wait_until(replaced, START_S, "two other workers")
    assert statuses(ask(running, *["a"] * 3, *["b"] * 5)) == {429: 4, 200: 4}
    rewrite(running, rate_limits=[{**bucket, "rate": "6/h"}])
    assert reload(running).status == 0
    assert statuses(ask(running, *["a"] * 7)) == {200: 6, 429: 1}


def test_early_requests_wait_for_their_turn(spooky: Spooky, asgi: Backend) -> None:
    limit = {"name": "pace", "rate": "10/s", "burst": 5, "algorithm": "leaky-bucket"}
    running = start(spooky, asgi, 1, limit)
    took: list[float] = []
    found: list[Exchange] = []

    async def work(client: H3Client) -> None:
        begin = time.monotonic()
        open_ = [client.open("GET", PATH) for _ in range(9)]
        client.reset(open_[4], 0x10C)
        client.stop(open_[4], 0x10C)
        for exchange in open_[:4] + open_[5:]:
            found.append(await client.over(exchange))
            took.append(time.monotonic() - begin)

    connections(running, 1, work)
    assert statuses(found) == {200: 5, 429: 3}
    assert took[3] > 0.29
    # It left while it waited; the others kept their turns.
    assert 0.49 < took[4] < 2
    wait_until(lambda: status(running)["workers"][0]["in_flight"] == 0, WAIT_S, "nothing held")


def test_a_dry_run_refuses_nothing(spooky: Spooky, asgi: Backend) -> None:
    limit = {"name": "try", "rate": "2/h", "algorithm": "sliding-window", "dry_run": True}
    strict = {"name": "strict", "rate": "9/h", "path_prefix": "/asgi"}
    running = start(spooky, asgi, 1, limit, strict)
    assert statuses(ask(running, *[None] * 10)) == {200: 9, 429: 1}
    wanted = {
        "refused": 1,
        "spared": 8,
        "limits": [
            {"name": "strict", "admitted": 9, "refused": 1, "spared": 0},
            {"name": "try", "admitted": 2, "refused": 0, "spared": 8},
        ],
    }
    wait_until(lambda: status(running)["rate_limits"] == wanted, WAIT_S, "counts")
    said = [json.loads(line)["message"] for line in running.log().splitlines()]
    assert "rate limit try (dry run): a request of 127.0.0.1 is over it" in said


def test_limits_of_all_routes_are_those_of_own_answers_too(spooky: Spooky, asgi: Backend) -> None:
    one = {"name": "one", "key": "header:x-api-key", "rate": "2/h", "headers": "always"}
    pace = {"name": "pace", "path_prefix": "/paced", "rate": "10/s", "burst": 2}
    running = spooky(
        {
            "worker_processes": 1,
            "upstream": {"one": upstream(asgi.address, path="/asgi")},
            "rate_limits": [
                one,
                {"name": "upstreams", "key": "upstream", "rate": "1/h"},
                {**pace, "algorithm": "leaky-bucket"},
            ],
            "routes": [
                {"path_prefix": "/moved", "redirect": {"path": "/asgi"}},
                {
                    "path_prefix": "/paced",
                    "respond": {"body": "said"},
                    "rate_limits": [{"name": "own", "key": "all", "rate": "3/h"}],
                    "response_headers": {"set": {"x-frame-options": "DENY"}},
                },
            ],
        }
    )
    found: list[Exchange] = []
    took: list[float] = []

    async def work(client: H3Client) -> None:
        key = [(b"x-api-key", b"a")]
        found.extend([await client.get("/moved", key) for _ in range(3)])
        begin = time.monotonic()
        paced = [client.open("POST", "/paced", end=False) for _ in range(4)]
        for exchange in paced:
            client.send(exchange, bytes(10), end=True)
        # One that waits for its turn leaves; the next one keeps its own.
        client.reset(paced[1], 0x10C)
        client.stop(paced[1], 0x10C)
        for exchange in (paced[0], *paced[2:]):
            found.append(await client.over(exchange))
            took.append(time.monotonic() - begin)

    connections(running, 1, work)
    assert [one.status for one in found] == [302, 302, 429, 200, 200, 429]
    assert [one.header(b"ratelimit") for one in found[:2]] == [
        b'"one";r=1;t=1800',
        b'"one";r=0;t=1800',
    ]
    assert found[3].kept == found[4].kept == b"said"
    assert found[5].header(b"x-frame-options") == b"DENY"
    assert took[0] < 0.1 < took[1] < 2
    line = running.access_records(7)[2]
    assert (line["status"], line["upstream"], line["error"]) == (429, None, "rate_limited")
    wait_until(lambda: status(running)["workers"][0]["in_flight"] == 0, WAIT_S, "nothing held")


def test_backends_share_requests_until_none_may_have_more(
    spooky: Spooky, nghttpd: Backend, asgi: Backend
) -> None:
    limit = {"name": "each", "key": "backend", "rate": "3/h"}
    settings = {
        "worker_processes": 2,
        "upstream": {"one": upstream(nghttpd.address, asgi.address, rate_limits=[limit])},
    }
    running = spooky(settings)
    running.wait_until_serving(2)
    found = ask(running, *[None] * 8)
    assert Counter(one.status == 429 for one in found) == {False: 6, True: 2}
    records = running.access_records(8)
    assert Counter(one["backend"] for one in records if one["backend"]) == {"b0": 3, "b1": 3}
    refused = found[-1]
    assert refused.header(b"retry-after") in {b"1199", b"1200"}
    assert records[-1]["error"] == "rate_limited"


def test_a_route_has_a_limit_of_its_own(spooky: Spooky, asgi: Backend) -> None:
    limit = {"name": "headers", "key": "all", "rate": "2/h"}
    route = [{"path_prefix": "/"}, {"path_prefix": PATH, "rate_limits": [limit]}]
    running = spooky({"upstream": {"one": {**upstream(asgi.address), "route": route}}})
    running.wait_until_serving(1)

    async def run() -> list[int]:
        async with connect(running.port) as client:
            return [(await client.get(path)).status for path in (PATH, PATH, PATH, "/asgi/echo")]

    assert [status == 429 for status in asyncio.run(run())] == [False, False, True, False]
