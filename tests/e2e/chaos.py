"""Users who ask without a pause for thought, and what becomes of them while a backend is sick.

It counts; what is tolerable is the test's to say.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.e2e.h3_client import connect

USERS = 6
PAUSE_S = 0.02
ANSWER_S = 10.0


@dataclass(slots=True)
class Tally:
    """What users saw in one phase."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0


@dataclass(slots=True)
class Row:
    """One phase: how a backend was made sick, and what came of it."""

    phase: str
    tally: Tally
    sick_first: int
    """Tries with the sick backend in the first second."""
    sick_after: int
    """Tries with it from then on, until it was well again."""
    back_s: float
    """From its being well again to its first answer."""


class Users:
    """All users; `tally` is that of the phase that goes on."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self._stop = asyncio.Event()
        self.tally = Tally()

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Have all of them ask until the block ends."""
        async with asyncio.TaskGroup() as group:
            for _ in range(USERS):
                group.create_task(self._ask())
            try:
                yield
            finally:
                self._stop.set()

    async def _ask(self) -> None:
        async with connect(self._port) as client:
            while not self._stop.is_set():
                began, tally = time.monotonic(), self.tally
                tally.requests += 1
                try:
                    exchange = await client.over(client.open("GET", self._path), ANSWER_S)
                    if exchange.status != 200 or not exchange.ended:
                        tally.failures[f"status {exchange.status}"] += 1
                except AssertionError:
                    tally.failures["no answer"] += 1
                tally.slowest_s = max(tally.slowest_s, time.monotonic() - began)
                await asyncio.sleep(PAUSE_S)


def table(rows: list[Row]) -> str:
    """Print what happened in each phase."""
    lines = ["phase          requests  failed  slowest  sick: 1st second  later  back after"]
    lines += [
        f"{row.phase:14} {row.tally.requests:8}  {row.tally.failures.total():6}  "
        f"{row.tally.slowest_s:5.2f} s  {row.sick_first:16}  {row.sick_after:5}  "
        f"{row.back_s:8.2f} s"
        for row in rows
    ]
    return "\n".join(lines)
