"""Who may send what to a backend whose breaker is half open."""

import asyncio
from collections import Counter
from typing import Any, cast

from spooky.config.model import Backend, Route, Upstream
from spooky.policy.balance.turns import RoundRobin
from spooky.shm.backend_cells import BackendColumn, Breaker, pack_trials, unpack_trials
from spooky.shm.segment import SharedMemory
from spooky.worker.connect import Endpoint
from spooky.worker.membership import Membership
from spooky.worker.pool import Pool
from spooky.worker.repetition import make_repetition
from spooky.worker.trials import tried_rows
from spooky.worker.upstreams import Arrangement, Target, UpstreamGroup
from tests.worker.pool_probe import LIMITS, TIMEOUTS, until

BACKENDS = tuple(Backend(f"b{port}", "127.0.0.1", port) for port in (1, 2))
WORKERS = 2


class Workers:
    """Two workers that look at the same rows."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.memory = SharedMemory.create(16)
        rows = self.memory.backends.assign([backend.identity for backend in BACKENDS])
        self.row = self.memory.backends.row(rows[BACKENDS[1].identity])
        self.groups = []
        self.memberships = []
        for index in range(WORKERS):
            pools = [Pool(Endpoint(backend), LIMITS, TIMEOUTS, loop) for backend in BACKENDS]
            # An upstream each, and one that has the same backends.
            both = [
                UpstreamGroup(
                    upstream,
                    Arrangement(BACKENDS, pools, RoundRobin([1, 1], lambda: 0.5)),
                    make_repetition(upstream, WORKERS, 0.0, lambda: 0.5),
                )
                for upstream in (Upstream(name, (Route(),), BACKENDS) for name in ("one", "two"))
            ]
            seen = tried_rows(self.memory.backends, rows, index, WORKERS)
            membership = Membership(both, self.memory.backends, seen, loop)
            self.memberships.append(membership)
            self.groups += both

    def picked(self, times: int = 100) -> Counter[str]:
        call = cast("Any", None)
        found = (group.pick(call, []) for group in self.groups for _ in range(times))
        return Counter("none" if target is None else target.id for target in found)

    def open(self) -> None:
        self.row.set(BackendColumn.BREAKER, Breaker.OPEN)

    def half_open(self, number: int, trials: int) -> None:
        self.row.set(BackendColumn.TRIALS, pack_trials(number, trials))
        self.row.set(BackendColumn.BREAKER, Breaker.HALF_OPEN)

    def follow(self) -> None:
        for membership in self.memberships:
            membership.start()
            membership.stop()


def test_a_round_is_one_cell() -> None:
    assert unpack_trials(pack_trials(7, 3)) == (7, 3)
    assert unpack_trials(pack_trials(2**32 + 1, 1_000_000)) == (1, 1_000_000)


def test_all_workers_together_send_as_many_as_a_round_has() -> None:
    async def test() -> None:
        workers = Workers(asyncio.get_running_loop())
        for number in (1, 2, 3):
            workers.open()
            workers.follow()
            assert workers.picked()["b2"] == 0
            workers.half_open(number, 3)
            workers.follow()
            assert workers.picked() == {"b1": 397, "b2": 3}
            workers.follow()
            assert workers.picked() == {"b1": 400}, "it is the same round"
        workers.row.set(BackendColumn.BREAKER, Breaker.CLOSED)
        workers.follow()
        assert workers.picked() == {"b1": 200, "b2": 200}

    asyncio.run(test())


def test_a_round_may_follow_a_round() -> None:
    async def test() -> None:
        workers = Workers(asyncio.get_running_loop())
        workers.half_open(1, 2)
        workers.follow()
        assert workers.picked()["b2"] == 2
        workers.half_open(2, 2)
        workers.follow()
        assert workers.picked()["b2"] == 2

    asyncio.run(test())


def test_without_a_trial_there_is_no_backend() -> None:
    async def test() -> None:
        workers = Workers(asyncio.get_running_loop())
        workers.half_open(1, 1)
        workers.follow()
        call = cast("Any", None)
        first = Target(0, "b1", BACKENDS[0].identity, b"http", workers.groups[0].pools[0], None)
        picks = [group.pick(call, [first]) for group in workers.groups for _ in range(3)]
        assert sum(pick is not None for pick in picks) == 1

    asyncio.run(test())


def test_a_worker_follows_by_itself() -> None:
    async def test() -> None:
        workers = Workers(asyncio.get_running_loop())
        for membership in workers.memberships:
            membership.start()
        workers.open()
        await until(lambda: workers.picked()["b2"] == 0, "nothing picked")
        workers.half_open(1, 5)
        trials: Counter[str] = Counter()

        def all_made() -> bool:
            trials.update(workers.picked())
            return trials["b2"] == 5

        await until(all_made, "all trials")
        for membership in workers.memberships:
            membership.stop()

    asyncio.run(test())
