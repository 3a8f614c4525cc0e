"""The load of backends as the balancers of two workers see it, over real shared memory."""

import asyncio
from typing import cast

import pytest

from spooky.config.model import Backend
from spooky.errors import H2Code, Kind
from spooky.protocol.messages import (
    Body,
    Interim,
    Malformed,
    RequestHead,
    Reset,
    ResponseHead,
    Trailers,
)
from spooky.shm.segment import SharedMemory
from spooky.shm.traffic import TrafficColumn
from spooky.worker.attempt import Attempt
from spooky.worker.backend_stream import StreamEvent
from spooky.worker.connect import Endpoint
from spooky.worker.load import Load
from spooky.worker.pool import Pool
from spooky.worker.upstreams import Target
from tests.worker.pool_probe import LIMITS, TIMEOUTS

NAMES = ["http://a:80", "http://b:80", "http://c:80"]


def answer(memory: SharedMemory, process: int, place: int, seconds: float) -> None:
    cells = memory.traffic.row(process, memory.backends.assign(NAMES)[NAMES[place]])
    pool = cast("Pool", None)
    attempt = Attempt(Exchange(), Target(place, "b", NAMES[place], b"http", pool, None, cells), 0.0)
    attempt.sent_at = 100.0
    attempt.answered(100.0 + seconds)


def two_workers(*, is_timed: bool = False) -> tuple[SharedMemory, Load, Load]:
    memory = SharedMemory.create(16)
    rows = memory.backends.assign(NAMES)
    loads = []
    for process in (0, 1):
        memory.traffic.begin(process)
        load = Load(len(NAMES), is_timed=is_timed)
        load.attach(memory.traffic, process, [rows[name] for name in NAMES])
        loads.append(load)
    return memory, loads[0], loads[1]


def test_what_is_one_s_own_is_known_at_once_and_the_rest_at_the_next_look() -> None:
    memory, one, other = two_workers()
    for _ in range(3):
        one.took(1)
    other.took(1)
    other.took(2)
    assert [one.in_flight(place) for place in range(3)] == [0, 3, 0]
    one.look(memory.traffic, 0.0)
    assert [one.in_flight(place) for place in range(3)] == [0, 4, 1]
    assert one.total_in_flight() == 5
    one.gave(1)
    assert one.in_flight(1) == 3
    other.gave(2)
    one.look(memory.traffic, 0.02)
    assert (one.in_flight(2), one.total_in_flight()) == (0, 3)


def test_one_goes_on_from_what_another_knows() -> None:
    """Backends were removed and added: places have changed, and attempts are under way."""
    memory, one, other = two_workers(is_timed=True)
    one.took(0)
    one.took(2)
    other.took(2)
    answer(memory, 0, 2, 0.5)
    one.look(memory.traffic, 10.0)
    answer(memory, 0, 2, 0.1)
    one.look(memory.traffic, 10.02)
    known = one.latency(2)
    assert known > 0.4, "a peak is remembered, which a mean is not"
    rows = memory.backends.assign([NAMES[2], "http://d:80"])
    heir = Load(2, is_timed=True)
    heir.succeed(one, [2, None])
    heir.attach(memory.traffic, 0, [rows[NAMES[2]], rows["http://d:80"]])
    heir.look(memory.traffic, 10.02)
    assert [heir.in_flight(place) for place in (0, 1)] == [2, 0]
    assert [heir.latency(place) for place in (0, 1)] == [known, 0.0]
    one.gave(2)
    heir.look(memory.traffic, 10.04)
    assert heir.total_in_flight() == 1


def test_the_balancer_hears_of_each_change_and_of_nothing_else() -> None:
    memory, one, other = two_workers()
    heard: list[int] = []
    one.notice = heard.append
    one.took(0)
    other.took(2)
    one.look(memory.traffic, 0.0)
    one.look(memory.traffic, 0.02)
    one.gave(0)
    assert heard == [0, 2, 0]


def test_what_a_worker_had_is_forgotten_when_it_dies() -> None:
    memory, one, other = two_workers()
    other.took(1)
    memory.traffic.end_process(1, range(3))
    one.look(memory.traffic, 0.0)
    assert one.total_in_flight() == 0


def test_an_answer_counts_when_it_begins_and_a_clock_that_goes_back_takes_nothing() -> None:
    memory, _, _ = two_workers()
    for seconds in (0.25, -1.0):
        answer(memory, 0, 2, seconds)
    total = memory.traffic.total(memory.backends.assign(NAMES)[NAMES[2]])
    assert total.get(TrafficColumn.ANSWERS) == 2
    assert total.get(TrafficColumn.ANSWER_TIME_US) == 250_000


def test_latency_is_learnt_from_all_workers_and_fades() -> None:
    memory, one, _ = two_workers(is_timed=True)
    answer(memory, 1, 1, 0.2)
    answer(memory, 1, 1, 0.4)
    one.look(memory.traffic, 100.0)
    assert one.latency(1) == pytest.approx(0.3)
    assert one.latency(0) == 0.0
    one.look(memory.traffic, 110.0)
    assert one.latency(1) == pytest.approx(0.3 / 2.718281828)
    answer(memory, 0, 1, 0.9)
    one.look(memory.traffic, 110.0)
    assert one.latency(1) == pytest.approx(0.9)


class Exchange:
    """Takes what an attempt tells it."""

    def on_stream(self, attempt: Attempt) -> None:
        pass

    def on_no_stream(self, attempt: Attempt, kind: Kind, detail: str) -> None:
        pass

    def on_lost(self, attempt: Attempt, detail: str, unprocessed: bool) -> None:
        pass

    def on_event(self, attempt: Attempt, event: StreamEvent) -> None:
        pass


ENDS: dict[str, list[StreamEvent]] = {
    "a head alone": [ResponseHead(0, 204, [], end=True)],
    "content": [
        Interim(0, 103, []),
        ResponseHead(0, 200, [], end=False),
        Body(0, b"a", end=False, credit=1),
        Body(0, b"b", end=True, credit=1),
    ],
    "trailers": [ResponseHead(0, 200, [], end=False), Trailers(0, [])],
    "a reset": [ResponseHead(0, 200, [], end=False), Reset(0, 2)],
    "nonsense": [Malformed(0, "nonsense")],
}


def attempt_at(load: Load, pool: Pool) -> Attempt:
    attempt = Attempt(Exchange(), Target(1, "b", "http://b:80", b"http", pool, load), 0.0)
    attempt.start(RequestHead(0, b"GET", b"http", b"b", b"/", [], end=True))
    return attempt


@pytest.mark.parametrize("end", [*ENDS, "no stream", "lost", "given up"])
def test_an_attempt_counts_until_it_is_over_and_once(end: str) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        _, load, _ = two_workers()
        # No connection is made before this is over: all stays in the queue.
        pool = Pool(Endpoint(Backend("b", "127.0.0.1", 9)), LIMITS, TIMEOUTS, loop)
        attempt = attempt_at(load, pool)
        match end:
            case "no stream":
                attempt.on_no_stream(Kind.CONNECT_FAILED, "")
            case "lost":
                attempt.on_lost("", unprocessed=False)
            case "given up":
                attempt.cancel(H2Code.CANCEL)
            case _:
                for event in ENDS[end]:
                    assert load.in_flight(1) == 1
                    attempt.on_event(event)
        assert load.in_flight(1) == 0
        attempt.cancel(H2Code.CANCEL)
        assert load.total_in_flight() == 0
        await pool.close()

    asyncio.run(test())
