"""Networks that lose, double, reorder and drop what is too large: every octet arrives all the same.

Three stacks of clients download and upload at once, each over connections of its own.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.backends import Backend
from tests.e2e.clients import CLIENTS, Answer, Target
from tests.e2e.conftest import Spooky
from tests.e2e.content import KIB, MIB, content, digest
from tests.e2e.faulty_relay import Faults, FaultyRelay, faulty_path
from tests.e2e.h3_client import connect
from tests.e2e.spooky_process import SpookyProcess, upstream

pytestmark = pytest.mark.e2e

SMALL_MTU = 1200
"""What every path of QUIC carries, and no octet more."""


@pytest.fixture
def running(spooky: Spooky, asgi: Backend) -> SpookyProcess:
    return spooky({"worker_processes": 2, "upstream": {"asgi": upstream(asgi.address)}})


def _downloads(target: Target, length: int) -> Iterator[Callable[[], bool]]:
    for fetch in CLIENTS.values():

        def download(fetch: Callable[..., Answer] = fetch) -> bool:
            return fetch(target, "GET", f"/asgi/bytes?n={length}", b"").sha256 == digest(length)

        yield download


def _uploads(target: Target, length: int) -> Iterator[Callable[[], bool]]:
    for fetch in CLIENTS.values():

        def upload(fetch: Callable[..., Answer] = fetch) -> bool:
            return digest(length) in fetch(target, "POST", "/asgi/sha256", content(length)).text

        yield upload


def _transfer(running: SpookyProcess, relay: FaultyRelay, length: int) -> None:
    """Have all clients download and upload at once; AssertionError unless all hashes are right."""
    target = Target(relay.port, running.target.cert)
    work = [*_downloads(target, length), *_uploads(target, length)]
    with ThreadPoolExecutor(len(work)) as pool:
        assert all(pool.map(lambda one: one(), work))


@pytest.mark.parametrize(
    ("faults", "length", "seen"),
    [
        pytest.param(
            Faults(loss=0.05, late=0.05, double=0.05, mtu=SMALL_MTU),
            MIB,
            {"lost", "late", "doubled", "too large"},
            id="everything",
        ),
        pytest.param(Faults(loss=0.2), 128 * KIB, {"lost"}, id="loss-20"),
    ],
)
def test_all_arrives(running: SpookyProcess, faults: Faults, length: int, seen: set[str]) -> None:
    with faulty_path(running.port, faults) as relay:
        _transfer(running, relay, length)
    assert set(relay.counts) == {"passed", *seen}


@pytest.mark.long
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(loss=0.01), id="loss-1"),
        pytest.param(Faults(loss=0.05), id="loss-5"),
        pytest.param(Faults(loss=0.2), id="loss-20"),
        pytest.param(Faults(late=0.1), id="reordered"),
        pytest.param(Faults(double=0.1), id="doubled"),
        pytest.param(Faults(mtu=SMALL_MTU), id="mtu-1200"),
        pytest.param(Faults(mtu=1300), id="mtu-1300"),
        pytest.param(Faults(loss=0.2, late=0.1, double=0.1, mtu=SMALL_MTU), id="everything"),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_megabytes_arrive(running: SpookyProcess, faults: Faults, seed: int) -> None:
    with faulty_path(running.port, faults, seed) as relay:
        _transfer(running, relay, 2 * MIB)
    print(f"\n{faults} {dict(relay.counts)}")


def test_a_path_that_becomes_narrower(running: SpookyProcess) -> None:
    """Larger datagrams were found to pass; in the middle of it they do no more (RFC 8899 4.3)."""
    length = 3 * MIB

    async def scenario(relay: FaultyRelay) -> None:
        async with connect(relay.port) as client:
            exchange = client.open("GET", f"/asgi/bytes?n={length}")
            await client.until(lambda: exchange.received > MIB, "a part of it")
            relay.faults = Faults(mtu=1250)
            await client.over(exchange)
            assert exchange.hasher.hexdigest() == digest(length)

    with faulty_path(running.port, Faults()) as relay:
        asyncio.run(scenario(relay))
    assert relay.counts["too large"]
