"""What a worker counts for each backend, and whom it charges with a failure."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

from spooky.config.limits import Limits
from spooky.config.model import Backend, Timeouts
from spooky.errors import CONSEQUENCES, Kind, Origin
from spooky.shm.segment import SharedMemory
from spooky.shm.traffic import BUCKETS, TrafficColumn
from spooky.worker.connect import Endpoint
from spooky.worker.observe import Observer, Outcome
from spooky.worker.pool import Pool
from spooky.worker.traffic import BackendTraffic
from tests.worker.test_observe import OUTCOME

SLOT = 4
ONE = Backend("one", "10.0.0.1", 80)
TWO = Backend("two", "10.0.0.2", 80)
SAME_AS_ONE = Backend("alias", "10.0.0.1", 80)
ROWS = {ONE.identity: 3, TWO.identity: 0}
GOOD = dataclasses.replace(OUTCOME, upstream="web", backend="one", identity=ONE.identity, retries=0)


class Counted:
    """A worker's traffic, and what others see of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.memory = SharedMemory.create(16)
        pools = [
            (upstream, backend, Pool(Endpoint(backend), Limits(), Timeouts(), loop))
            for upstream, backend in (("web", ONE), ("web", TWO), ("api", SAME_AS_ONE))
        ]
        self.traffic = BackendTraffic(self.memory.traffic, SLOT, ROWS, pools)

    def of(self, backend: Backend) -> dict[TrafficColumn, int]:
        total = self.memory.traffic.total(ROWS[backend.identity])
        return {
            column: total.get(column)
            for column in TrafficColumn
            if column is not TrafficColumn.LATENCY and total.get(column)
        }

    def latency(self) -> list[int]:
        return self.memory.traffic.total(ROWS[ONE.identity]).latency()


@pytest.fixture
def counted() -> Iterator[Counted]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield Counted(loop)


def test_an_answered_exchange(counted: Counted) -> None:
    counted.traffic.record(GOOD)
    assert counted.of(ONE) == {
        TrafficColumn.REQUESTS: 1,
        TrafficColumn.SUCCESSES: 1,
        TrafficColumn.OCTETS_IN: 1000,
        TrafficColumn.OCTETS_OUT: 20,
        TrafficColumn.BACKEND_TIME_US: 10_100,
    }
    assert counted.of(TWO) == {}


def test_upstreams_share_the_row_of_a_backend_that_both_have(counted: Counted) -> None:
    counted.traffic.record(GOOD)
    counted.traffic.record(
        dataclasses.replace(GOOD, upstream="api", backend="alias", identity=SAME_AS_ONE.identity)
    )
    assert counted.of(ONE)[TrafficColumn.REQUESTS] == 2


@pytest.mark.parametrize("kind", Kind)
def test_a_failure_is_charged_to_whose_fault_it_is(counted: Counted, kind: Kind) -> None:
    column = {
        Origin.BACKEND: TrafficColumn.FAILURES,
        Origin.CLIENT: TrafficColumn.CLIENT_FAILURES,
        Origin.SELF: TrafficColumn.OWN_FAILURES,
    }[CONSEQUENCES[kind].origin]
    failed = dataclasses.replace(GOOD, error=kind, status=CONSEQUENCES[kind].status)
    counted.traffic.record(failed)
    found = counted.of(ONE)
    charged = {
        column: found[column]
        for column in found
        if column.name.endswith("FAILURES") and column is not TrafficColumn.CONNECT_FAILURES
    }
    assert charged == {column: 1}
    assert not found.keys() & {TrafficColumn.SUCCESSES, TrafficColumn.ERROR_RESPONSES}


HOW = {
    TrafficColumn.CONNECT_FAILURES: {Kind.CONNECT_FAILED, Kind.CONNECT_TIMEOUT},
    TrafficColumn.TIMEOUTS: {
        Kind.RESPONSE_TIMEOUT,
        Kind.IDLE_TIMEOUT,
        Kind.TOTAL_TIMEOUT,
        Kind.TRY_TIMEOUT,
    },
    TrafficColumn.BAD_STATUSES: {Kind.BAD_STATUS},
    TrafficColumn.RESETS: {Kind.BACKEND_RESET, Kind.BACKEND_GONE, Kind.BAD_RESPONSE},
}


@pytest.mark.parametrize("kind", Kind)
def test_a_failure_of_a_backend_is_counted_as_its_kind(counted: Counted, kind: Kind) -> None:
    expected = [column for column, kinds in HOW.items() if kind in kinds]
    assert bool(expected) == (CONSEQUENCES[kind].origin is Origin.BACKEND)
    counted.traffic.record(dataclasses.replace(GOOD, error=kind, answer_time=0.0))
    counted.traffic.record_retry(TWO.identity, kind)
    for backend in (ONE, TWO):
        assert [column for column in HOW if counted.of(backend).get(column)] == expected


def test_time_that_runs_out_during_an_answer_is_nobody_s(counted: Counted) -> None:
    counted.traffic.record(dataclasses.replace(GOOD, error=Kind.TOTAL_TIMEOUT))
    assert TrafficColumn.TIMEOUTS not in counted.of(ONE)


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (499, 0), (500, 1), (599, 1)])
def test_a_response_of_5xx_is_the_backend_s_own(counted: Counted, status: int, errors: int) -> None:
    counted.traffic.record(dataclasses.replace(GOOD, status=status))
    assert counted.of(ONE).get(TrafficColumn.ERROR_RESPONSES, 0) == errors
    assert counted.of(ONE).get(TrafficColumn.SUCCESSES, 0) == 1 - errors
    assert TrafficColumn.FAILURES not in counted.of(ONE)


def test_a_retry_is_charged_to_the_backend_that_failed(counted: Counted) -> None:
    observer = Observer(None, "plain", counted.traffic)
    observer.record_retry(TWO.identity, Kind.CONNECT_FAILED)
    observer.record(dataclasses.replace(GOOD, retries=1))
    assert counted.of(TWO) == {
        TrafficColumn.REQUESTS: 1,
        TrafficColumn.FAILURES: 1,
        TrafficColumn.CONNECT_FAILURES: 1,
        TrafficColumn.RETRIES: 1,
    }
    assert counted.of(ONE)[TrafficColumn.REQUESTS] == 1
    assert TrafficColumn.RETRIES not in counted.of(ONE)
    assert observer.take_count() == 1


def test_an_attempt_that_another_one_outran_is_a_request_and_no_failure(counted: Counted) -> None:
    Observer(None, "plain", counted.traffic).record_given_up(TWO.identity)
    assert counted.of(TWO) == {TrafficColumn.REQUESTS: 1}


@pytest.mark.parametrize(("upstream", "backend"), [("", ""), ("web", "")])
def test_what_reached_no_backend_counts_for_none(
    counted: Counted, upstream: str, backend: str
) -> None:
    nowhere = dataclasses.replace(GOOD, upstream=upstream, backend=backend, identity="")
    counted.traffic.record(nowhere)
    assert counted.of(ONE) == counted.of(TWO) == {}


def test_a_backend_that_is_gone_counts_no_more(counted: Counted) -> None:
    loop = asyncio.new_event_loop()
    more = Backend("more", "10.0.0.9", 80)
    pools = [Pool(Endpoint(more), Limits(), Timeouts(), loop) for _ in range(2)]
    for pool in pools:
        counted.traffic.enrol(more.identity, 5, pool)
    done = dataclasses.replace(GOOD, backend="more", identity=more.identity)
    counted.traffic.record(done)
    counted.traffic.dismiss(more.identity, pools[0])
    counted.traffic.record(done)
    counted.traffic.dismiss(more.identity, pools[1])
    # Who reads its answer slowly ends after the backend is gone, whose row is another's by then.
    counted.traffic.record(done)
    counted.traffic.record_retry(more.identity, Kind.BACKEND_GONE)
    counted.traffic.record_given_up(more.identity)
    assert counted.memory.traffic.total(5).get(TrafficColumn.REQUESTS) == 2
    loop.close()


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0000015, 0),
        (0.001, 0),
        (0.001002, 1),
        (0.003, 1),
        (0.05, 4),
        (60.0, BUCKETS - 2),
        (60.01, BUCKETS - 1),
        (1e6, BUCKETS - 1),
    ],
)
def test_the_latency_buckets(counted: Counted, seconds: float, bucket: int) -> None:
    outcome: Outcome = dataclasses.replace(GOOD, backend_duration=seconds)
    counted.traffic.record(outcome)
    assert counted.latency() == [int(place == bucket) for place in range(BUCKETS)]


def test_what_was_never_sent_has_no_latency(counted: Counted) -> None:
    never = dataclasses.replace(GOOD, backend_duration=0.0, error=Kind.CONNECT_FAILED)
    counted.traffic.record(never)
    assert counted.latency() == [0] * BUCKETS
