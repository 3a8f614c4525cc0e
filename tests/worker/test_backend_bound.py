"""What a backend gets at most, as each worker sees it."""

from dataclasses import replace

import pytest

from spooky.config.admission import BackendLimits
from spooky.errors import Kind
from spooky.shm.limits import LimitTable
from spooky.worker.backend_bound import BackendBound, part_of
from tests.e2e.backends import Backend
from tests.worker.pool_probe import (
    LIMITS,
    SETTINGS,
    both_loops,
    get,
    pooled,
    run,
    scripted,
    serving,
    until,
)


def a_table() -> LimitTable:
    size = LimitTable.cells_needed(2, 1) * 8
    table = LimitTable(memoryview(bytearray(size)).cast("Q"), 2, 1)
    table.assign({"backend": 0})
    return table


def bounds(limits: BackendLimits) -> tuple[BackendBound, BackendBound]:
    table = a_table()
    return (BackendBound(limits, table.row(0, 0)), BackendBound(limits, table.row(0, 1)))


@pytest.mark.parametrize(
    ("own", "others", "room"), [(0, 3, True), (1, 3, False), (3, 0, True), (0, 4, False)]
)
def test_what_is_in_flight_counts_over_all_workers(own: int, others: int, room: bool) -> None:
    here, there = bounds(BackendLimits(max_in_flight=4))
    there.publish(others, 0)
    assert here.has_room(own, 0, has_stream=True) is room


@pytest.mark.parametrize(
    ("own", "others", "has_stream", "room"),
    [(0, 1, False, True), (1, 1, False, False), (0, 2, False, False), (0, 2, True, True)],
)
def test_who_waits_counts_only_for_who_would_wait(
    own: int, others: int, has_stream: bool, room: bool
) -> None:
    here, there = bounds(BackendLimits(max_queued=2))
    there.publish(9, others)
    assert here.has_room(5, own, has_stream=has_stream) is room


@pytest.mark.parametrize(
    ("most", "workers", "parts"),
    [(5, 2, [3, 2]), (4, 4, [1, 1, 1, 1]), (1, 3, [1, 1, 1]), (10, 3, [4, 3, 3])],
)
def test_connections_are_dealt_out(most: int, workers: int, parts: list[int]) -> None:
    assert [part_of(most, workers, index) for index in range(workers)] == parts


@both_loops
def test_a_pool_tells_what_it_has_whatever_becomes_of_it(loop_name: str) -> None:
    """One has the only stream, one waits and leaves, one is too many; then the pool is closed."""
    seen: list[tuple[int, int]] = []

    async def test() -> None:
        table = a_table()
        limits = replace(LIMITS, backend_connections=1, backend_streams=1)

        def note() -> None:
            use = table.row(0, 1).others()
            seen.append((use.in_flight, use.waiting))

        async with serving(scripted(SETTINGS)) as port:
            async with pooled(port, limits=limits) as pool:
                pool.bound = BackendBound(BackendLimits(max_in_flight=2), table.row(0, 0))
                first, second, third = get(), get(), get()
                first.start(pool)
                await until(lambda: first.stream is not None, "a stream")
                ticket = second.start(pool)
                assert not pool.has_room()
                third.start(pool)
                assert await third.wait() is Kind.OVERLOADED
                note()
                ticket.cancel()
                ticket.cancel()
                assert pool.has_room()
                note()
            note()

    run(test(), loop_name)
    assert seen == [(2, 1), (1, 0), (0, 0)]


@both_loops
def test_a_pool_counts_streams_until_they_end(nghttpd: Backend, loop_name: str) -> None:
    async def test() -> None:
        table = a_table()
        async with pooled(nghttpd.port) as pool:
            pool.bound = BackendBound(BackendLimits(max_in_flight=9), table.row(0, 0))
            exchanges = [get("/nghttpd/64k") for _ in range(5)]
            for exchange in exchanges:
                exchange.start(pool)
            assert table.row(0, 1).others().in_flight == 5
            for exchange in exchanges:
                await exchange.wait()
            await until(lambda: table.row(0, 1).others().in_flight == 0, "nothing in flight")

    run(test(), loop_name)
