"""What the rows of the backends say, as an upstream's balancer hears it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from spooky.config.model import Backend, Route, Upstream
from spooky.policy.balance.turns import RoundRobin
from spooky.shm.backend_cells import BackendColumn, Breaker, Duty, Health
from spooky.shm.backends import BackendRow
from spooky.shm.clock import now_ms
from spooky.shm.segment import SharedMemory
from spooky.worker.connect import Endpoint
from spooky.worker.membership import Membership
from spooky.worker.pool import Pool
from spooky.worker.repetition import make_repetition
from spooky.worker.trials import tried_rows
from spooky.worker.upstreams import Arrangement, UpstreamGroup
from tests.worker.pool_probe import LIMITS, TIMEOUTS, until

BACKENDS = tuple(Backend(f"b{port}", "127.0.0.1", port) for port in (1, 2, 3))
CALL = cast("Any", None)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (BackendColumn.HEALTH, Health.UNHEALTHY),
        (BackendColumn.DUTY, Duty.DRAINING),
        (BackendColumn.DUTY, Duty.OUT),
        (BackendColumn.BREAKER, Breaker.OPEN),
        (BackendColumn.EJECTED_UNTIL_MS, 1),
    ],
)
def test_a_backend_that_is_out_is_not_picked_until_it_is_back(
    column: BackendColumn, value: int
) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        memory = SharedMemory.create(16)
        rows = memory.backends.assign([backend.identity for backend in BACKENDS])
        upstream = Upstream("one", (Route(),), BACKENDS)
        pools = [Pool(Endpoint(backend), LIMITS, TIMEOUTS, loop) for backend in BACKENDS]
        group = UpstreamGroup(
            upstream,
            Arrangement(
                BACKENDS, pools, RoundRobin([backend.weight for backend in BACKENDS], lambda: 0.5)
            ),
            make_repetition(upstream, 1, 0.0, lambda: 0.5),
        )
        membership = Membership(
            [group], memory.backends, tried_rows(memory.backends, rows, 0, 1), loop
        )
        row = memory.backends.row(rows[BACKENDS[1].identity])

        def picked() -> set[str]:
            found = (group.pick(CALL, []) for _ in range(600))
            return set(Counter(target.id for target in found if target is not None))

        async def becomes(wanted: set[str]) -> None:
            await until(lambda: picked() == wanted, f"{wanted} picked")

        membership.start()
        assert picked() == {"b1", "b2", "b3"}
        row.set(column, value)
        await becomes({"b1", "b3"})
        row.set(column, 0)
        await becomes({"b1", "b2", "b3"})
        membership.stop()

    asyncio.run(test())


def weights_heard(
    upstream: Upstream,
    zone: str | None,
    act: Callable[[list[BackendRow]], None],
    last: tuple[int, ...],
) -> list[tuple[int, ...]]:
    """List the weights that a balancer hears after somebody has acted on the rows, to `last`."""

    async def test() -> list[tuple[int, ...]]:
        loop = asyncio.get_running_loop()
        memory = SharedMemory.create(16)
        rows = memory.backends.assign([backend.identity for backend in upstream.backends])
        pools = [Pool(Endpoint(backend), LIMITS, TIMEOUTS, loop) for backend in upstream.backends]
        heard: list[tuple[int, ...]] = []

        class Listening(RoundRobin):
            def reweigh(self, weights: Sequence[int]) -> None:
                heard.append(tuple(weights))
                super().reweigh(weights)

        weights = [backend.weight for backend in upstream.backends]
        repetition = make_repetition(upstream, 1, 0.0, lambda: 0.5)
        arrangement = Arrangement(upstream.backends, pools, Listening(weights, lambda: 0.5))
        group = UpstreamGroup(upstream, arrangement, repetition)
        membership = Membership(
            [group], memory.backends, tried_rows(memory.backends, rows, 0, 1), loop, zone
        )
        membership.start()
        heard.clear()
        act([memory.backends.row(rows[backend.identity]) for backend in upstream.backends])
        await until(lambda: heard[-1:] == [last], f"{last}, heard {heard}")
        membership.stop()
        return heard

    return asyncio.run(test())


def unhealthy(*places: int) -> Callable[[list[BackendRow]], None]:
    def act(rows: list[BackendRow]) -> None:
        for place in places:
            rows[place].set(BackendColumn.HEALTH, Health.UNHEALTHY)

    return act


def came_back(seconds: float) -> Callable[[list[BackendRow]], None]:
    def act(rows: list[BackendRow]) -> None:
        rows[0].set(BackendColumn.LAST_ILL_MS, now_ms() - round(seconds * 1000))
        # What is looked at is health; the time alone is no news.
        rows[0].set(BackendColumn.HEALTH, Health.HEALTHY)

    return act


def three(*changes: dict[str, Any]) -> tuple[Backend, ...]:
    return tuple(replace(one, **change) for one, change in zip(BACKENDS, changes, strict=True))


@pytest.mark.parametrize(
    ("backends", "more", "zone", "act", "weights"),
    [
        (three({}, {}, {"priority": 1}), {}, None, unhealthy(0), (0, 100, 43)),
        (three({}, {}, {"priority": 1}), {}, None, unhealthy(0, 1), (0, 0, 100)),
        (three({"zone": "a"}, {}, {}), {}, "a", unhealthy(0), (0, 100, 100)),
        (BACKENDS, {}, None, unhealthy(0), (0, 100, 100)),
        (BACKENDS, {"panic_threshold": 30}, None, unhealthy(0, 1), (0, 0, 100)),
        # Nobody is well: all are asked, the backup with them.
        (three({}, {}, {"priority": 1}), {}, None, unhealthy(0, 1, 2), (100, 100, 100)),
        (BACKENDS, {"slow_start": 100.0}, None, came_back(52.0), (55, 100, 100)),
    ],
)
def test_weights_follow_the_rules(
    backends: tuple[Backend, ...],
    more: dict[str, Any],
    zone: str | None,
    act: Callable[[list[BackendRow]], None],
    weights: tuple[int, ...],
) -> None:
    upstream = Upstream("one", (Route(),), backends, **more)
    assert weights_heard(upstream, zone, act, weights) == [weights]


def test_a_slow_start_goes_on_though_nothing_else_happens() -> None:
    upstream = Upstream("one", (Route(),), BACKENDS[:2], slow_start=0.5)
    heard = [one for one, _ in weights_heard(upstream, None, came_back(0.0), (100, 100))]
    assert heard[0] < 50
    assert heard == sorted(set(heard))
    assert len(heard) > 5


def test_rows_are_read_only_when_one_of_them_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    deciding = BackendRow.deciding

    def count(row: BackendRow) -> list[int]:
        nonlocal reads
        reads += 1
        return deciding(row)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        memory = SharedMemory.create(16)
        rows = memory.backends.assign([backend.identity for backend in BACKENDS])
        upstream = Upstream("one", (Route(),), BACKENDS)
        pools = [Pool(Endpoint(backend), LIMITS, TIMEOUTS, loop) for backend in BACKENDS]
        group = UpstreamGroup(
            upstream,
            Arrangement(BACKENDS, pools, RoundRobin([1] * len(BACKENDS), lambda: 0.5)),
            make_repetition(upstream, 1, 0.0, lambda: 0.5),
        )
        membership = Membership(
            [group], memory.backends, tried_rows(memory.backends, rows, 0, 1), loop
        )
        monkeypatch.setattr(BackendRow, "deciding", count)
        for changes, found in ((0, 1), (0, 1), (1, 2), (0, 2)):
            row = memory.backends.row(rows[BACKENDS[0].identity])
            row.set(BackendColumn.WEIGHT_CUT, row.get(BackendColumn.WEIGHT_CUT) + changes)
            # What changes with each probe is nothing that a worker goes by.
            row.set(BackendColumn.PROBE_DUE_MS, row.get(BackendColumn.PROBE_DUE_MS) + 1)
            membership.start()
            membership.stop()
            assert reads == found * len(BACKENDS)

    asyncio.run(test())
