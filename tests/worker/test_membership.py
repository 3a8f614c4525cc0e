"""What the rows of the backends say, as an upstream's balancer hears it."""

import asyncio
from collections import Counter
from typing import Any, cast

import pytest

from spooky.config.model import Backend, Route, Upstream
from spooky.policy.balance import make_balancer
from spooky.shm.backends import BackendColumn, Breaker, Duty, Health
from spooky.shm.segment import SharedMemory
from spooky.worker.connect import Endpoint
from spooky.worker.membership import Membership
from spooky.worker.pool import Pool
from spooky.worker.upstreams import UpstreamGroup
from tests.worker.pool_probe import LIMITS, TIMEOUTS, until

BACKENDS = tuple(Backend(f"b{port}", "127.0.0.1", port) for port in (1, 2, 3))
CALL = cast("Any", None)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (BackendColumn.HEALTH, Health.UNHEALTHY),
        (BackendColumn.DUTY, Duty.DRAINING),
        (BackendColumn.DUTY, Duty.OUT),
        (BackendColumn.BREAKER, Breaker.OPEN),
    ],
)
def test_a_backend_that_is_out_is_not_picked_until_it_is_back(
    column: BackendColumn, value: int
) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        memory = SharedMemory.create(16)
        rows = memory.backends.assign([backend.identity for backend in BACKENDS])
        upstream = Upstream("one", (Route(),), BACKENDS)
        pools = [Pool(Endpoint(backend), LIMITS, TIMEOUTS, loop) for backend in BACKENDS]
        group = UpstreamGroup(
            upstream, pools, lambda weights: make_balancer("round-robin", weights, lambda: 0.5)
        )
        membership = Membership([group], memory.backends, rows, loop)
        row = memory.backends.row(rows[BACKENDS[1].identity])

        def picked() -> set[str]:
            found = (group.pick(CALL, []) for _ in range(600))
            return set(Counter(target.id for target in found if target is not None))

        async def becomes(wanted: set[str]) -> None:
            await until(lambda: picked() == wanted, f"{wanted} picked")

        membership.start()
        assert picked() == {"b1", "b2", "b3"}
        row.set(column, value)
        await becomes({"b1", "b3"})
        row.set(column, 0)
        await becomes({"b1", "b2", "b3"})
        membership.stop()

    asyncio.run(test())
