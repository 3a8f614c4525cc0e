"""Every way to balance, in two workers, before two quick backends and a slow one."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from spooky.shm.traffic import TrafficColumn
from tests.e2e.backend_rows import Rows
from tests.e2e.backends import start_hypercorn
from tests.e2e.certificates import Identity
from tests.e2e.h3_client import H3Client, connect
from tests.e2e.spooky_process import SpookyProcess, running_spooky, upstream

pytestmark = pytest.mark.e2e

SLOW_MS = 150
CONNECTIONS = 6
"""Enough for both workers to have some: all at one of them happens once in 32 times."""
ROUNDS = 12

BALANCING: dict[str, dict[str, object]] = {
    "round-robin": {},
    "random": {},
    "least-connections": {},
    "power-of-two": {},
    "ewma": {},
    "ring-hash": {"key": "header:x-user"},
    "rendezvous": {"key": "cookie:user"},
    "maglev": {"key": "query:user"},
    "sticky-cid": {},
    "ip-hash": {"bound": 100},
}


@pytest.fixture(scope="module")
def front(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpookyProcess]:
    """Spooky with an upstream for each way; `b2` is slow."""
    folder = tmp_path_factory.mktemp("balancing")
    with ExitStack() as stack:
        backends = [
            stack.enter_context(start_hypercorn(folder, **options))
            for options in ({}, {}, {"delay": SLOW_MS})
        ]
        upstreams = {
            name: upstream(
                *(backend.address for backend in backends),
                path=f"/{name}",
                load_balancing={"type": name, **more},
            )
            for name, more in BALANCING.items()
        }
        settings = {"worker_processes": 2, "upstream": upstreams}
        running = stack.enter_context(running_spooky(settings, identity, folder))
        running.wait_until_serving(2)
        yield running


def _served(running: SpookyProcess, users: list[list[str]], way: str) -> list[list[str]]:
    """Ask on a connection for each list, for its users one after another; say who answered."""
    before = _count(running.access_log)

    async def ask(client: H3Client, connection: int) -> None:
        for number, user in enumerate(users[connection]):
            fields = [
                (b"x-user", user.encode()),
                (b"cookie", f"a=b; user={user}".encode()),
                (b"x-request-id", f"{connection}-{number}".encode()),
            ]
            exchange = await client.get(f"/{way}/status?code=204&user={user}", fields)
            assert exchange.status == 204

    async def ask_all() -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(running.port)) for _ in users]
            await asyncio.gather(*(ask(client, number) for number, client in enumerate(clients)))

    asyncio.run(ask_all())
    records = running.access_records(before + sum(map(len, users)))[before:]
    backend = {record["request_id"]: record["backend"] for record in records}
    return [
        [backend[f"{connection}-{number}"] for number in range(len(mine))]
        for connection, mine in enumerate(users)
    ]


def _count(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


ANYBODY = [["joe"] * ROUNDS for _ in range(CONNECTIONS)]
EVERYBODY = [[f"user{number}" for number in range(ROUNDS)] for _ in range(CONNECTIONS)]


@pytest.mark.parametrize("way", ["round-robin", "random"])
def test_ways_that_do_not_look_use_all_alike(front: SpookyProcess, way: str) -> None:
    counts = Counter(name for names in _served(front, ANYBODY, way) for name in names)
    assert set(counts) == {"b0", "b1", "b2"}
    # Of 72 requests a third each, and by chance 24 with a deviation of 4.
    assert all(abs(count - 24) <= (3 if way == "round-robin" else 16) for count in counts.values())


@pytest.mark.parametrize("way", ["least-connections", "power-of-two", "ewma"])
def test_ways_that_look_spare_the_slow_backend(front: SpookyProcess, way: str) -> None:
    counts = Counter(name for names in _served(front, ANYBODY, way) for name in names)
    assert counts["b2"] < 24 / 2, counts
    assert min(counts["b0"], counts["b1"]) > 24 / 2, counts


def test_how_soon_answers_begin_is_counted_whatever_the_way(front: SpookyProcess) -> None:
    columns = (TrafficColumn.ANSWERS, TrafficColumn.ANSWER_TIME_US)

    def counted() -> list[list[int]]:
        # The backends are those of all upstreams, of which the file has this one first.
        rows = Rows(front)
        return [[rows.counted(f"ewma/b{n}", one) for one in columns] for n in range(3)]

    before = counted()
    names = Counter(name for mine in _served(front, ANYBODY[:2], "round-robin") for name in mine)
    grown = [
        [now - then for now, then in zip(*both, strict=True)]
        for both in zip(counted(), before, strict=True)
    ]
    assert [answers for answers, _ in grown] == [names[f"b{n}"] for n in range(3)]
    means = [time_us / answers / 1000 for answers, time_us in grown]
    assert means[2] >= SLOW_MS * 0.95
    assert 0 < min(means) < means[2] / 2


@pytest.mark.parametrize("way", ["ring-hash", "rendezvous", "maglev"])
def test_a_user_has_the_same_backend_in_both_workers(front: SpookyProcess, way: str) -> None:
    first, *others = _served(front, EVERYBODY, way)
    assert others == [first] * (CONNECTIONS - 1)
    # Where users go follows from the backends' ports, which are others each time.
    assert len(set(first)) > 1


def test_a_connection_keeps_its_backend(front: SpookyProcess) -> None:
    found = _served(front, [["joe", "jim", "jane"]] * 12, "sticky-cid")
    assert all(len(set(names)) == 1 for names in found)
    # All twelve at one backend of three happens once in 177,147 times.
    assert len({names[0] for names in found}) > 1


def test_a_bound_takes_a_popular_key_to_others_as_well(front: SpookyProcess) -> None:
    counts = Counter(name for names in _served(front, ANYBODY, "ip-hash") for name in names)
    # They all come from one address.
    assert len(counts) > 1
