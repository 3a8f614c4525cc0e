"""Which clients are found to read too slowly, and what is done to what."""

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spooky.bounds import Bound
from spooky.config.limits import Limits
from spooky.errors import H3Code
from spooky.protocol.messages import ALL_STREAMS
from spooky.shm.bounds import BoundTable
from spooky.worker import readers as readers_module
from spooky.worker.client import Client
from spooky.worker.readers import Readers
from spooky.worker.services import Services


class Reader:
    """A client connection, as far as it is looked at."""

    def __init__(self, held: dict[int, int], quiet_since: float = float("inf")) -> None:
        self.held = held
        self.quiet_since = quiet_since
        self.given_up: list[int] = []
        self.closed_with: int | None = None
        self.looks = 0

    def is_quiet_since(self, moment: float) -> bool:
        return self.quiet_since < moment

    def held_up(self) -> dict[int, int]:
        self.looks += 1
        return self.held

    def give_up(self, stream: int) -> None:
        self.given_up.append(stream)
        del self.held[stream]

    def close(self, code: int, reason: str) -> None:
        self.closed_with = code
        self.held = {}


class Loop:
    """Runs what is due when it is told that time has passed."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Any]] = []

    def call_later(self, delay: float, callback: Any) -> asyncio.TimerHandle:
        self.due.append((self.now + delay, callback))
        return cast("asyncio.TimerHandle", None)

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self.due and self.due[0][0] <= until:
            self.now, callback = self.due.pop(0)
            callback()
        self.now = until


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    loop = Loop()
    monkeypatch.setattr(readers_module, "time", SimpleNamespace(monotonic=lambda: loop.now))
    yield loop
    assert time.monotonic() != loop.now


def watch(loop: Loop, *clients: Reader, rate: int = 100) -> BoundTable:
    table = BoundTable(memoryview(bytearray(8 * BoundTable.cells_needed(1))).cast("Q"), 1)
    limits = Limits(response_rate=rate, rate_grace=5.0)
    services = SimpleNamespace(loop=loop, limits=limits, bounds=table.counts(0))
    found = {cast("Client", client) for client in clients}
    Readers(lambda: found, cast("Services", services)).start()
    return table


def test_a_stream_that_is_taken_too_slowly_is_given_up(loop: Loop) -> None:
    slow, quick = Reader({4: 300}), Reader({4: 3_000_000})
    table = watch(loop, slow, quick)
    loop.advance(8.0)
    assert slow.given_up == []
    loop.advance(2.0)
    assert (slow.given_up, quick.given_up) == ([4], [])
    assert table.totals()[Bound.RESPONSE_RATE.name.lower()] == 1


def test_a_connection_that_takes_nothing_at_all_is_closed(loop: Loop) -> None:
    stuck = Reader({ALL_STREAMS: 0})
    table = watch(loop, stuck)
    loop.advance(20.0)
    assert stuck.closed_with == H3Code.EXCESSIVE_LOAD
    assert table.totals()["response_rate"] == 1


def test_who_takes_all_there_is_begins_anew(loop: Loop) -> None:
    client = Reader({4: 0})
    watch(loop, client)
    for _ in range(10):
        client.held = {4: 0}
        loop.advance(4.0)
        client.held = {}
        loop.advance(1.0)
    assert client.given_up == []


def test_who_has_nothing_to_take_is_not_looked_at(loop: Loop) -> None:
    idle, busy = Reader({}, quiet_since=0.0), Reader({})
    watch(loop, idle, busy)
    loop.advance(10.0)
    assert idle.looks == 1
    assert busy.looks > 10


def test_what_waits_is_watched_after_its_request_is_over(loop: Loop) -> None:
    client = Reader({4: 0}, quiet_since=loop.now - 1)
    watch(loop, client)
    loop.advance(10.0)
    assert client.given_up == [4]


def test_no_bound(loop: Loop) -> None:
    client = Reader({4: 0})
    watch(loop, client, rate=0)
    loop.advance(100.0)
    assert client.looks == 0
