"""What counts as a bound that was reached, and how the log tells of it."""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import pytest

from spooky.bounds import Bound
from spooky.errors import Kind
from spooky.protocol.messages import Closed
from spooky.shm.bounds import BoundCounts, BoundTable
from spooky.worker.reached import BoundLog, note_close, note_failure


@pytest.fixture
def counts() -> BoundCounts:
    cells = memoryview(bytearray(8 * BoundTable.cells_needed(1))).cast("Q")
    return BoundTable(cells, 1).counts(0)


def _found(counts: BoundCounts) -> list[Bound]:
    return [bound for bound, times in counts.all().items() if times]


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        (Kind.HEADERS_TOO_LARGE, [Bound.REQUEST_HEADER_BYTES]),
        (Kind.TOO_MANY_HEADERS, [Bound.REQUEST_HEADER_COUNT]),
        (Kind.HEADERS_TIMEOUT, [Bound.REQUEST_HEADER_TIMEOUT]),
        (Kind.CLIENT_TIMEOUT, [Bound.IDLE_TIMEOUT]),
        (Kind.BAD_REQUEST, []),
        (Kind.CLIENT_GONE, []),
    ],
)
def test_failures(counts: BoundCounts, kind: Kind, bound: list[Bound]) -> None:
    note_failure(counts, kind)
    assert _found(counts) == bound


@pytest.mark.parametrize(
    ("closed", "bound"),
    [
        (Closed(0, "idle timeout", by_peer=False), [Bound.CLIENT_IDLE_TIMEOUT]),
        (Closed(0, "idle timeout", by_peer=True), []),
        (Closed(0, "", by_peer=True), []),
        (Closed(4, "Too many streams open", by_peer=False), [Bound.STREAMS_PER_CONNECTION]),
        (Closed(4, "we have too many", by_peer=True), []),
    ],
)
def test_closes(counts: BoundCounts, closed: Closed, bound: list[Bound]) -> None:
    note_close(counts, closed)
    assert _found(counts) == bound


class Loop:
    """Runs what is due when it is told to."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.due.append((delay, callback))

    def turn(self) -> None:
        self.due.pop()[1]()


def test_one_line_a_second_for_each_bound(
    counts: BoundCounts, caplog: pytest.LogCaptureFixture
) -> None:
    counts.reached(Bound.HANDSHAKES, 50)  # By the process before this one.
    loop = Loop()
    BoundLog(counts, cast("asyncio.AbstractEventLoop", loop)).start()
    assert [delay for delay, _ in loop.due] == [1.0]
    with caplog.at_level(logging.INFO, "spooky.bounds"):
        counts.reached(Bound.CONNECTIONS, 3)
        counts.reached(Bound.STREAMS_PER_CONNECTION)
        counts.reached(Bound.CLIENT_IDLE_TIMEOUT, 7)
        loop.turn()
        loop.turn()
        counts.reached(Bound.CONNECTIONS)
        loop.turn()
    assert caplog.messages == [
        "bound reached: connections, 3 times",
        "bound reached: streams_per_connection, 1 times",
        "bound reached: connections, 1 times",
    ]
