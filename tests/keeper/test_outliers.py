"""What the keeper makes of the counts of all workers, as the rows and the log have it."""

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import replace

import pytest

from spooky.config.failing import NO_PASSIVE_HEALTH, CircuitBreaker, PassiveHealth
from spooky.config.model import Backend, Config, Route, Upstream
from spooky.keeper.outliers import INTERVAL_S, Outliers
from spooky.policy.breaker import State
from spooky.shm.backend_cells import BackendColumn, Breaker, unpack_trials
from spooky.shm.backends import BackendRow
from spooky.shm.instance import Cell
from spooky.shm.segment import SharedMemory
from spooky.shm.traffic import TrafficColumn

BACKENDS = tuple(Backend(f"b{port}", "127.0.0.1", port) for port in (1, 2, 3))
UPSTREAM = Upstream("web", (Route(),), BACKENDS)
BREAKER = CircuitBreaker(consecutive_failures=2, open_time=5)
WORKERS = (0, 3)


class Instance:
    """Workers that count, and a keeper that judges."""

    def __init__(self, *upstreams: Upstream) -> None:
        self.memory = SharedMemory.create(16)
        backends = [backend for one in upstreams for backend in one.backends]
        identities = list(dict.fromkeys(backend.identity for backend in backends))
        self.numbers = self.memory.backends.assign(identities)
        for backend in backends:
            self.row(backend).describe(f"web/{backend.id}", 100, 1)
        for worker in WORKERS:
            self.memory.traffic.begin(worker)
        self.now_ms = 1_000_000
        self.keep(*upstreams)

    def keep(self, *upstreams: Upstream) -> None:
        """Start a keeper, in place of the one that there was."""
        config = Config(listen=(), upstream=upstreams)
        self.outliers = Outliers(config, self.memory, self.numbers)
        self.outliers.look(self.now_ms / 1000)

    def row(self, backend: Backend) -> BackendRow:
        return self.memory.backends.row(self.numbers[backend.identity])

    def count(self, backend: Backend, *columns: TrafficColumn, worker: int = 0) -> None:
        cells = self.memory.traffic.row(worker, self.numbers[backend.identity])
        for column in (*columns, TrafficColumn.REQUESTS):
            cells[column] += 1

    def look(self, seconds: float = 0.05) -> None:
        self.now_ms += round(seconds * 1000)
        self.outliers.look(self.now_ms / 1000)

    def fail(self, backend: Backend, times: int = 3) -> None:
        """Fail to connect, once in each look, in one worker after the other."""
        for number in range(times):
            worker = WORKERS[number % len(WORKERS)]
            self.count(backend, TrafficColumn.CONNECT_FAILURES, worker=worker)
            self.look()

    def away(self) -> list[str]:
        column = BackendColumn.EJECTED_UNTIL_MS
        return [backend.id for backend in BACKENDS if self.row(backend).get(column)]


def test_failures_of_all_workers_add_up_and_eject(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    instance = Instance(UPSTREAM)
    instance.fail(BACKENDS[1], 2)
    assert instance.away() == []
    instance.fail(BACKENDS[1], 1)
    assert instance.away() == ["b2"]
    assert instance.row(BACKENDS[1]).get(BackendColumn.EJECTIONS) == 1
    instance.look(9.9)
    assert instance.away() == ["b2"]
    instance.look(0.1)
    assert instance.away() == []
    assert [record.getMessage() for record in caplog.records] == [
        "backend web/b2 http://127.0.0.1:2: ejected for 10 s (time 1): 3 connect failures in a row",
        "backend web/b2 http://127.0.0.1:2: gets requests again: its time away is over",
    ]


def test_a_success_in_any_worker_ends_the_row() -> None:
    instance = Instance(UPSTREAM)
    for _ in range(5):
        instance.fail(BACKENDS[1], 2)
        instance.count(BACKENDS[1], TrafficColumn.SUCCESSES, worker=WORKERS[1])
        instance.look()
    assert instance.away() == []


@pytest.mark.parametrize(
    ("column", "key"),
    [
        (TrafficColumn.CONNECT_FAILURES, "consecutive_connect_failures"),
        (TrafficColumn.TIMEOUTS, "consecutive_timeouts"),
        (TrafficColumn.RESETS, "consecutive_resets"),
        (TrafficColumn.ERROR_RESPONSES, "consecutive_5xx"),
    ],
)
def test_each_kind_has_a_key_of_its_own(column: TrafficColumn, key: str) -> None:
    for limit, away in ((2, ["b1"]), (0, [])):
        passive = replace(NO_PASSIVE_HEALTH, **{key: limit})
        instance = Instance(replace(UPSTREAM, passive_health=passive))
        for _ in range(2):
            instance.count(BACKENDS[0], column)
            instance.look()
        assert instance.away() == away


def test_a_slow_backend_is_ejected() -> None:
    passive = PassiveHealth(latency_factor=3, minimum_requests=5, minimum_backends=3, window=1)
    instance = Instance(replace(UPSTREAM, passive_health=passive))
    for _ in range(5):
        for backend, answer_us in zip(BACKENDS, (10_000, 12_000, 90_000), strict=True):
            cells = instance.memory.traffic.row(0, instance.numbers[backend.identity])
            cells[TrafficColumn.ANSWER_TIME_US] += answer_us
            cells[TrafficColumn.ANSWERS] += 1
            instance.count(backend, TrafficColumn.SUCCESSES)
    instance.look(1.0)
    assert instance.away() == ["b3"]


def test_another_keeper_goes_on_from_the_rows() -> None:
    instance = Instance(UPSTREAM)
    instance.fail(BACKENDS[0])
    instance.keep(UPSTREAM)
    assert instance.away() == ["b1"]
    instance.look(10)
    assert instance.away() == []
    instance.keep(UPSTREAM)
    instance.fail(BACKENDS[0])
    assert instance.row(BACKENDS[0]).get(BackendColumn.EJECTIONS) == 2
    instance.look(19)
    assert instance.away() == ["b1"], "twice the time, the second time"


def test_what_a_configuration_does_not_judge_is_clear() -> None:
    instance = Instance(replace(UPSTREAM, circuit_breaker=BREAKER))
    instance.fail(BACKENDS[0])
    assert instance.away() == ["b1"]
    assert instance.row(BACKENDS[0]).get(BackendColumn.BREAKER) == Breaker.OPEN
    instance.keep(replace(UPSTREAM, passive_health=NO_PASSIVE_HEALTH))
    assert instance.away() == []
    assert instance.row(BACKENDS[0]).get(BackendColumn.BREAKER) == Breaker.CLOSED
    instance.fail(BACKENDS[0], 9)
    assert instance.away() == []


def test_a_backend_of_two_upstreams_is_away_in_both() -> None:
    """And counts as away in both: only one of the two of the second upstream may be."""
    second = replace(UPSTREAM, name="other", backends=BACKENDS[1:])
    instance = Instance(UPSTREAM, second)
    instance.fail(BACKENDS[1])
    assert instance.away() == ["b2"]
    instance.fail(BACKENDS[2], 9)
    assert instance.away() == ["b2"]


def test_the_words_of_the_breaker_are_those_of_the_row() -> None:
    assert {one.name: int(one) for one in State} == {one.name: int(one) for one in Breaker}


def test_a_breaker_opens_tries_and_closes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    passive = NO_PASSIVE_HEALTH
    instance = Instance(replace(UPSTREAM, passive_health=passive, circuit_breaker=BREAKER))
    row = instance.row(BACKENDS[2])
    instance.fail(BACKENDS[2], 2)
    assert row.get(BackendColumn.BREAKER) == Breaker.OPEN
    instance.look(5)
    assert row.get(BackendColumn.BREAKER) == Breaker.HALF_OPEN
    assert unpack_trials(row.get(BackendColumn.TRIALS)) == (1, 3)
    instance.fail(BACKENDS[2], 1)
    assert row.get(BackendColumn.BREAKER) == Breaker.OPEN
    assert row.get(BackendColumn.BREAKER_OPENINGS) == 2
    # Another keeper knows that it is the second time.
    instance.keep(replace(UPSTREAM, passive_health=passive, circuit_breaker=BREAKER))
    instance.look(9)
    assert row.get(BackendColumn.BREAKER) == Breaker.OPEN
    instance.look(1)
    assert unpack_trials(row.get(BackendColumn.TRIALS)) == (2, 3)
    for worker in WORKERS:
        instance.count(BACKENDS[2], TrafficColumn.SUCCESSES, worker=worker)
    instance.look()
    assert row.get(BackendColumn.BREAKER) == Breaker.CLOSED
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "circuit breaker open for 5 s: 2 failures in a row",
        "circuit breaker half open: to try again",
        "circuit breaker open for 10 s: a trial failed",
        "circuit breaker half open: to try again",
        "circuit breaker closed: 2 trials succeeded",
    ]


def test_only_the_keeper_of_the_serving_master_judges() -> None:
    instance = Instance(UPSTREAM)
    cells = instance.memory.traffic.row(0, instance.numbers[BACKENDS[0].identity])

    async def fails_for(seconds: float) -> bool:
        """Fail to connect for so long, or until it is ejected."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not instance.away():
                    cells[TrafficColumn.CONNECT_FAILURES] += 1
                    cells[TrafficColumn.REQUESTS] += 1
                    await asyncio.sleep(INTERVAL_S / 2)
        return bool(instance.away())

    async def test() -> None:
        task = asyncio.create_task(instance.outliers.run())
        assert not await fails_for(INTERVAL_S * 8)
        instance.memory.instance.set(Cell.MASTER_PID, os.getppid())
        assert await fails_for(10.0)
        task.cancel()

    asyncio.run(test())
