"""One timer for many deadlines, on real event loops, and a clock that the test may move."""

import asyncio
import random
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from spooky.worker.timers import Timers

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
Scenario = Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Run a scenario on an event loop, for at most ten seconds."""

    def run_on(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            loop = runner.get_loop()
            runner.run(asyncio.wait_for(scenario(loop), 10))

    return run_on


class Connection:
    """Something with a deadline; it notes when it expired."""

    def __init__(self, deadline: float | None) -> None:
        self.timer_at: float | None = None
        self.at = deadline
        self.expired: list[float] = []
        self.done = asyncio.Event()
        self.then: Callable[[float], None] = lambda _now: None

    def deadline(self) -> float | None:
        return self.at

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.at = None
        self.done.set()
        self.then(now)


def test_each_expires_once_and_not_before_its_time(run: Callable[[Scenario], None]) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        chance = random.Random(2)
        start = time.monotonic()
        connections = [Connection(start + chance.random() * 0.1) for _ in range(2000)]
        deadlines = [connection.at for connection in connections]
        for connection in connections:
            timers.schedule(connection)
        for connection in connections:
            await connection.done.wait()
        for connection, deadline in zip(connections, deadlines, strict=True):
            assert deadline is not None
            assert len(connection.expired) == 1
            assert connection.expired[0] >= deadline
            assert connection.timer_at is None

    run(scenario)


def test_a_deadline_that_grows_is_put_off_without_another_entry(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        start = time.monotonic()
        connection = Connection(start + 0.02)
        for step in range(100):
            connection.at = start + 0.02 + step / 1000
            timers.schedule(connection)
        assert len(timers._heap) == 1
        assert connection.timer_at == start + 0.02
        await connection.done.wait()
        assert len(connection.expired) == 1
        assert connection.expired[0] >= start + 0.119

    run(scenario)


def test_a_deadline_that_shrinks_is_kept(run: Callable[[Scenario], None]) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        start = time.monotonic()
        late, last = Connection(start + 5), Connection(start + 0.08)
        timers.schedule(late)
        timers.schedule(last)
        late.at = start + 0.02
        timers.schedule(late)
        await late.done.wait()
        assert start + 0.02 <= late.expired[0] < start + 2
        await last.done.wait()
        assert late.expired == late.expired[:1]

    run(scenario)


def test_the_entry_of_an_earlier_deadline_is_stale_once_it_expired(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        now = 1000.0
        timers = Timers(loop, lambda: now)
        connection = Connection(now + 50)
        timers.schedule(connection)
        connection.at = now
        timers.schedule(connection)
        await connection.done.wait()
        connection.at = now + 60
        timers.schedule(connection)
        now += 55
        other = Connection(1040.0)
        timers.schedule(other)
        await other.done.wait()
        assert connection.expired == [1000.0]
        assert len(timers._heap) == 1
        assert connection.timer_at == 1060.0

    run(scenario)


def test_deadlines_that_keep_shrinking_do_not_pile_up(run: Callable[[Scenario], None]) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        start = time.monotonic()
        busy = Connection(None)
        others = [Connection(start + 0.05 + number / 1000) for number in range(20)]
        for other in others:
            timers.schedule(other)
        for step in range(1000):
            busy.at = start + 30 - step / 1000
            timers.schedule(busy)
            assert len(timers._heap) <= len(others) + 1 + 65
        busy.at = start + 0.06
        timers.schedule(busy)
        for connection in [busy, *others]:
            await connection.done.wait()
            assert len(connection.expired) == 1
        assert start + 0.06 <= busy.expired[0] < start + 10

    run(scenario)


def test_what_is_discarded_neither_expires_nor_stays_alive(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        start = time.monotonic()
        connection, kept = Connection(start + 50), Connection(start + 0.05)
        timers.schedule(connection)
        timers.schedule(kept)
        connection.at = start + 0.02
        timers.schedule(connection)
        timers.discard(connection)
        timers.discard(connection)
        assert connection.timer_at is None
        await kept.done.wait()
        assert connection.expired == []
        gone = weakref.ref(connection)
        del connection
        assert gone() is None

    run(scenario)


def test_what_is_discarded_may_be_scheduled_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        connection = Connection(time.monotonic() + 0.01)
        timers.schedule(connection)
        timers.discard(connection)
        timers.schedule(connection)
        await connection.done.wait()
        assert len(connection.expired) == 1

    run(scenario)


def test_a_superseded_entry_keeps_nothing_alive(run: Callable[[Scenario], None]) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        connection = Connection(time.monotonic() + 50)
        timers.schedule(connection)
        connection.at = time.monotonic()
        timers.schedule(connection)
        await connection.done.wait()
        gone = weakref.ref(connection)
        del connection
        await until_next_turn(loop)
        assert gone() is None

    run(scenario)


async def until_next_turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let what runs in this turn of the loop come to its end."""
    turned = asyncio.Event()
    loop.call_soon(turned.set)
    await turned.wait()


def test_what_expires_may_ask_for_more(run: Callable[[Scenario], None]) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        connection = Connection(time.monotonic())
        done = asyncio.Event()

        def again(now: float) -> None:
            if len(connection.expired) == 5:
                done.set()
                return
            connection.at = now + 0.005
            timers.schedule(connection)

        connection.then = again
        timers.schedule(connection)
        await done.wait()
        gaps = [b - a for a, b in zip(connection.expired, connection.expired[1:], strict=False)]
        assert min(gaps) >= 0.005

    run(scenario)


def test_a_connection_that_is_over_when_its_time_comes_is_told(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        connection = Connection(time.monotonic() + 0.01)
        timers.schedule(connection)
        connection.at = None
        timers.schedule(connection)
        await connection.done.wait()
        assert len(connection.expired) == 1

    run(scenario)


def test_no_deadline_is_no_timer_and_none_is_left_after_close(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        timers = Timers(loop, time.monotonic)
        timers.schedule(Connection(None))
        assert timers._handle is None
        forgotten, control = Connection(time.monotonic() + 0.01), Connection(None)
        timers.schedule(forgotten)
        timers.close()
        control.at = time.monotonic() + 0.03
        Timers(loop, time.monotonic).schedule(control)
        await control.done.wait()
        assert forgotten.expired == []

    run(scenario)
