"""What a worker keeps for its clients: past the bound the largest go, as many as need be."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, cast

import pytest

from spooky.bounds import Bound
from spooky.config.limits import Limits
from spooky.errors import H3Code
from spooky.shm.bounds import BoundTable
from spooky.worker.ballast import Ballast
from spooky.worker.client import Client
from spooky.worker.services import Services


class Holder:
    """A client as far as its memory goes."""

    def __init__(self, octets: int) -> None:
        self.octets = octets
        self.closed_with: int | None = None

    def held(self) -> int:
        return 0 if self.closed_with is not None else self.octets

    def close(self, code: int, reason: str) -> None:
        self.closed_with = code


class Scene:
    """A worker whose bound is 1,000 octets."""

    def __init__(self, *octets: int) -> None:
        self.holders = [Holder(count) for count in octets]
        cells = memoryview(bytearray(8 * BoundTable.cells_needed(1))).cast("q")
        self.table = BoundTable(cells, 1)
        services: Any = type("Shared", (), {})()
        services.limits = Limits(worker_buffers=1000)
        services.bounds = self.table.counts(0)
        services.loop = asyncio.new_event_loop()
        self.ballast = Ballast(
            lambda: cast("Iterable[Client]", set(self.holders)), cast("Services", services)
        )
        services.loop.close()

    def closed(self) -> list[int]:
        return [one.octets for one in self.holders if one.closed_with == H3Code.EXCESSIVE_LOAD]

    def counted(self) -> int:
        return self.table.totals()[Bound.WORKER_BUFFERS.name.lower()]


@pytest.mark.parametrize(
    ("octets", "closed"),
    [
        ((), []),
        ((400, 600), []),
        ((400, 601), [601]),
        ((300, 900, 200, 800), [900, 800]),
        ((10_000, 1), [10_000]),
        ((1, 1, 1, 997, 1), [997]),
    ],
)
def test_the_largest_go_until_the_rest_is_within(
    octets: tuple[int, ...], closed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(*octets)
    with caplog.at_level(logging.WARNING, "spooky.worker"):
        scene.ballast.look()
    assert scene.closed() == closed
    assert scene.counted() == len(closed)
    assert bool(caplog.records) == bool(closed)


def test_those_that_are_closed_already_count_no_more() -> None:
    scene = Scene(900, 800)
    scene.ballast.look()
    scene.ballast.look()
    assert scene.closed() == [900]
