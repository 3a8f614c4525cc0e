"""The prober over a real shared memory: who may write, and what a keeper finds there."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from spooky.config.dns import Dns
from spooky.config.dns import DnsServer as ConfiguredServer
from spooky.config.model import Backend, Config, HealthCheck, Upstream
from spooky.handover import KeeperSpec
from spooky.keeper.prober import Prober
from spooky.shm.backend_cells import BackendColumn, Health
from spooky.shm.backends import BackendRow
from spooky.shm.clock import now_ms
from spooky.shm.instance import Serving
from spooky.shm.segment import SharedMemory
from tests.e2e.dns_server import DnsServer
from tests.e2e.processes import free_port
from tests.keeper import well_or_not
from tests.keeper.well_or_not import answering, serving

FAST = HealthCheck(
    type="tcp", interval=0.1, timeout=2.0, failure_threshold=2, cooldown=0.1, max_cooldown=0.2
)


class Keepers:
    """An instance's shared memory, and the keepers that run on it."""

    def __init__(self, *upstreams: Upstream) -> None:
        self.memory = SharedMemory.create(16)
        self.config = Config(listen=(), upstream=upstreams)
        every = [backend.identity for one in upstreams for backend in one.backends]
        self._numbers = self.memory.backends.assign(dict.fromkeys(every))
        self.serve(1)

    def serve(self, generation: int) -> None:
        self.memory.instance.promote(Serving(generation, 0, 1), now_ms())

    def row(self, backend: Backend) -> BackendRow:
        return self.memory.backends.row(self._numbers[backend.identity])

    def health(self, backend: Backend) -> Health:
        return Health(self.row(backend).get(BackendColumn.HEALTH))

    @asynccontextmanager
    async def keeper(self, generation: int, config: Config | None = None) -> AsyncIterator[None]:
        spec = KeeperSpec(
            row=256,
            generation=generation,
            config=config or self.config,
            own=config or self.config,
            changes=0,
            backend_rows=self._numbers,
            client_contexts={},
            admin=None,
            wake_fd=-1,
            control=None,
            ready_fd=-1,
            memory=self.memory,
        )
        self.spec, self.prober = spec, Prober(spec)
        task = asyncio.create_task(self.prober.run())
        yield
        assert not task.done() or task.result()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def upstream(name: str, *backends: Backend, check: HealthCheck | None = FAST) -> Upstream:
    return Upstream(name, (), backends, health_check=check)


def at(port: int, name: str = "b0") -> Backend:
    return Backend(name, "127.0.0.1", port)


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert condition(), what


def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def changes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "backend " in record.getMessage()]


def test_each_change_is_written_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        first = await asyncio.start_server(take, "127.0.0.1", 0)
        port = int(first.sockets[0].getsockname()[1])
        backend = at(port)
        keepers = Keepers(upstream("web", backend))
        row = keepers.row(backend)
        async with keepers.keeper(1):
            await until(lambda: keepers.health(backend) is Health.HEALTHY, "healthy")
            assert row.reason == "took a connection"
            before = row.get(BackendColumn.HEALTH_SINCE_MS)
            assert 0 < before <= now_ms()
            first.close()
            await until(lambda: keepers.health(backend) is Health.UNHEALTHY, "unhealthy")
            assert row.reason == "connection refused"
            assert row.get(BackendColumn.HEALTH_SINCE_MS) > before
            await until(lambda: row.probe_counts.setbacks >= 2, "more probes that fail")
            second = await asyncio.start_server(take, "127.0.0.1", port)
            await until(lambda: keepers.health(backend) is Health.RECOVERING, "recovering")
            assert row.reason == "connection refused"
            await until(lambda: keepers.health(backend) is Health.HEALTHY, "healthy again")
            second.close()
        name = f"backend web/b0 127.0.0.1:{port} is"
        assert changes(caplog) == [
            f"{name} healthy: took a connection",
            f"{name} degraded: connection refused",
            f"{name} unhealthy: connection refused (2 probes in a row)",
            f"{name} recovering: took a connection",
            f"{name} healthy: took a connection (2 probes in a row)",
        ]

    asyncio.run(scenario())


def test_of_two_keepers_the_one_of_the_serving_generation_probes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    backend = at(free_port())
    keepers = Keepers(upstream("web", backend))

    async def scenario() -> None:
        async with keepers.keeper(1), keepers.keeper(2):
            await until(lambda: keepers.health(backend) is Health.UNHEALTHY, "unhealthy")
            keepers.serve(2)
            counts = keepers.row(backend).probe_counts
            await until(lambda: keepers.row(backend).probe_counts.setbacks > counts.setbacks, "on")
            keepers.serve(3)
            # Whoever is under way may end; then nobody writes any more.
            await asyncio.sleep(0.3)
            counts = keepers.row(backend).probe_counts
            await asyncio.sleep(0.5)
            assert keepers.row(backend).probe_counts == counts

    asyncio.run(scenario())
    assert len(changes(caplog)) == 2, "the second keeper knows what the first one found"


def test_a_keeper_looks_whether_it_serves_before_it_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spooky.keeper.prober.LOOK_S", 60.0)
    backend = at(free_port())
    keepers = Keepers(upstream("web", backend))

    async def scenario() -> None:
        async with keepers.keeper(1):
            await until(lambda: keepers.health(backend) is Health.UNHEALTHY, "unhealthy")
            keepers.serve(2)
            counts = keepers.row(backend).probe_counts
            await asyncio.sleep(0.5)
            assert keepers.row(backend).probe_counts == counts

    asyncio.run(scenario())


def test_a_keeper_goes_on_where_the_one_before_it_was_ended() -> None:
    backend = at(free_port())
    check = replace(FAST, cooldown=30.0, max_cooldown=60.0, failure_threshold=3)
    keepers = Keepers(upstream("web", backend, check=check))
    row = keepers.row(backend)

    async def scenario() -> None:
        async with keepers.keeper(1):
            await until(lambda: row.probe_counts.failures == 2, "two failures")
        async with keepers.keeper(1):
            await until(lambda: keepers.health(backend) is Health.UNHEALTHY, "unhealthy")
        assert row.probe_counts.failures == 3
        due = row.get(BackendColumn.PROBE_DUE_MS)
        assert due > now_ms() + 20_000
        seen = row.read(slice(BackendColumn.HEALTH, BackendColumn.PROBE_DUE_MS + 1))
        async with keepers.keeper(1):
            await asyncio.sleep(0.3)
        assert row.read(slice(BackendColumn.HEALTH, BackendColumn.PROBE_DUE_MS + 1)) == seen

    asyncio.run(scenario())


def test_a_backend_of_several_upstreams_is_probed_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with serving() as port:
            check = HealthCheck(path="/text", interval=60, timeout=1)
            backend = at(port)
            one, two = upstream("a", backend, check=check), upstream("b", backend, check=check)
            keepers = Keepers(upstream("none", backend, check=None), one, two)
            well_or_not.seen.clear()
            async with keepers.keeper(1):
                await until(lambda: keepers.health(backend) is Health.HEALTHY, "healthy")
            assert len(well_or_not.seen) == 1
            told = f"backend none/b0, a/b0, b/b0 127.0.0.1:{port} is healthy"
            assert changes(caplog) == [f"{told}: answered with status 200"]

    asyncio.run(scenario())


def test_who_is_not_probed_any_more_is_not_out_for_ever() -> None:
    backend = at(free_port())
    keepers = Keepers(upstream("web", backend))

    async def scenario() -> None:
        async with keepers.keeper(1):
            await until(lambda: keepers.health(backend) is Health.UNHEALTHY, "unhealthy")
        keepers.serve(2)
        unprobed = replace(keepers.config, upstream=(upstream("web", backend, check=None),))
        async with keepers.keeper(2, unprobed):
            await until(lambda: keepers.health(backend) is Health.UNKNOWN, "unknown")
            assert keepers.row(backend).reason == ""

    asyncio.run(scenario())


def test_a_name_is_looked_up_where_requests_look_it_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        first = await asyncio.start_server(take, "127.0.0.1", 0)
        port = int(first.sockets[0].getsockname()[1])
        backend = Backend("b0", "home.test", port)
        keepers = Keepers(upstream("web", backend))
        with DnsServer() as server:
            # The last one has nobody.
            server.records["home.test"] = ["127.0.0.1", "127.0.0.9"]
            dns = Dns(servers=(ConfiguredServer("127.0.0.1", server.port),), min_ttl=0.1)
            async with keepers.keeper(1, replace(keepers.config, dns=dns)):
                await until(lambda: keepers.health(backend) is Health.HEALTHY, "healthy")
                server.records["home.test"] = ["127.0.0.9"]
                await until(lambda: keepers.health(backend) is Health.UNHEALTHY, "unhealthy")
        first.close()

    asyncio.run(scenario())
    states = [line.partition(" is ")[2].split(":")[0] for line in changes(caplog)]
    assert states == ["healthy", "degraded", "unhealthy"]


def test_slow_backends_do_not_hold_up_the_others() -> None:
    async def scenario() -> None:
        async with answering(b"") as port:
            hanging = HealthCheck(interval=5, timeout=5)
            slow = [Backend(f"s{n}", f"127.0.0.{n}", port) for n in range(2, 12)]
            well = at(port)
            keepers = Keepers(upstream("slow", *slow, check=hanging), upstream("web", well))
            async with keepers.keeper(1):
                await until(lambda: keepers.health(well) is Health.HEALTHY, "healthy")

    asyncio.run(scenario())


def test_no_more_commands_at_a_time_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spooky.keeper.prober.PARALLEL_COMMANDS", 2)
    most = 0

    class Counting:
        under_way = 0

        async def ask(self) -> str:
            nonlocal most
            Counting.under_way += 1
            most = max(most, Counting.under_way)
            await asyncio.sleep(0.02)
            Counting.under_way -= 1
            return "done"

    monkeypatch.setattr("spooky.keeper.checkup.CommandProbe", lambda *_: Counting())
    check = HealthCheck(type="command", command=("true",), interval=60, timeout=1)
    backends = [at(port, f"b{port}") for port in range(1, 8)]
    keepers = Keepers(upstream("web", *backends, check=check))

    async def scenario() -> None:
        async with keepers.keeper(1):
            for backend in backends:
                await until(lambda b=backend: keepers.health(b) is Health.HEALTHY, "healthy")  # type: ignore[misc]

    asyncio.run(scenario())
    assert most == 2


def test_a_fault_of_ours_costs_one_backend_its_health(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty:
        async def ask(self) -> str:
            raise AssertionError("a fault")

    monkeypatch.setattr("spooky.keeper.checkup.CommandProbe", lambda *_: Faulty())

    async def scenario() -> dict[str, Any]:
        async with answering(None) as port:
            bad, good = at(1, "bad"), at(port, "good")
            command = replace(FAST, type="command", command=("true",))
            keepers = Keepers(upstream("x", bad, check=command), upstream("y", good))
            async with keepers.keeper(1):
                await until(lambda: keepers.health(bad) is Health.UNHEALTHY, "unhealthy")
                await until(lambda: keepers.health(good) is Health.HEALTHY, "healthy")
            return {"reason": keepers.row(bad).reason}

    assert asyncio.run(scenario()) == {"reason": "AssertionError: a fault"}
    assert "a bug" in caplog.text


def test_backends_come_and_go_under_the_probes() -> None:
    async def scenario() -> None:
        servers = [await asyncio.start_server(take, "127.0.0.1", 0) for _ in range(3)]
        ports = [int(server.sockets[0].getsockname()[1]) for server in servers]
        one, two, three = (at(port, f"b{place}") for place, port in enumerate(ports))
        keepers = Keepers(upstream("web", one, two, three))
        async with keepers.keeper(1, Config((), (upstream("web", one, two),))):
            await until(lambda: keepers.health(two) is Health.HEALTHY, "healthy")
            assert keepers.health(three) is Health.UNKNOWN
            probing = keepers.prober._tasks[one.identity]
            others = Config((), (upstream("web", one, three),))
            keepers.prober.follow(replace(keepers.spec, config=others))
            await until(lambda: keepers.health(three) is Health.HEALTHY, "the new one is probed")
            assert keepers.prober._tasks[one.identity] is probing, "who stays is probed on"
            for server in servers:
                server.close()
            await until(lambda: keepers.health(one) is Health.UNHEALTHY, "still probed")
            await until(lambda: keepers.health(three) is Health.UNHEALTHY, "still probed")
            assert keepers.health(two) is Health.HEALTHY, "nobody asks it any more"

    asyncio.run(scenario())
