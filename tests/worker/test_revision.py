"""A worker takes and lets go of backends, over real shared memory and sockets."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spooky.config import overlay
from spooky.config.admission import BackendLimits
from spooky.config.model import Backend, Config, Route, Upstream
from spooky.config.overlay import Entry, Overlay
from spooky.config.shared_limits import shared_limits
from spooky.errors import H2Code, Kind
from spooky.names import Names
from spooky.shm.instance import Cell
from spooky.shm.processes import Column
from spooky.shm.segment import SharedMemory
from spooky.worker.load import Lookout
from spooky.worker.membership import Membership
from spooky.worker.revision import Parts, Revision
from spooky.worker.traffic import BackendTraffic
from spooky.worker.trials import tried_rows
from spooky.worker.upstreams import make_upstreams
from tests.worker.pool_probe import Exchange, make_head, run, serving, until
from tests.worker.test_upstreams import WIDE_OPEN

CALL = cast("Any", None)


def backend(port: int) -> Backend:
    return Backend(f"b{port}", "127.0.0.1", port)


class Setting:
    """A worker's backends, and the master's and keeper's part in what becomes of them."""

    def __init__(self, *ports: int, drain_timeout: float = 30.0) -> None:
        loop = asyncio.get_running_loop()
        limits = BackendLimits(max_in_flight=10)
        backends = tuple(backend(port) for port in ports)
        upstream = Upstream("api", (Route(),), backends, backend_limits=limits)
        self.config = Config((), (upstream,), drain_timeout=drain_timeout)
        self.memory = memory = SharedMemory.create(8)
        rows = memory.backends.assign([one.identity for one in upstream.backends])
        spec = SimpleNamespace(
            slot=0,
            index=0,
            generation=1,
            config=self.config,
            own=self.config,
            changes=0,
            backend_rows=rows,
            client_contexts={},
            memory=memory,
        )
        upstreams = make_upstreams(self.config, {}, loop, lambda: 0.5)
        (self.group,) = upstreams.groups
        tried = tried_rows(memory.backends, rows, 0, 1)
        parts = Parts(
            upstreams,
            BackendTraffic(memory.traffic, 0, rows, upstreams.pools()),
            Membership(upstreams.groups, memory.backends, tried, loop),
            Lookout(upstreams.groups, memory.traffic, 0, rows, loop),
            Names(self.config.dns, (), loop),
        )
        self.revision = Revision(cast("Any", spec), parts, tried, loop)
        self.changes = Overlay()

    def leave(self, changes: Overlay) -> int:
        """Do what a keeper does."""
        self.changes = changes
        return self.memory.notes.write(overlay.write(changes))

    def admit(self, number: int) -> None:
        """Do what a master does."""
        config = overlay.lay_over(self.changes, self.config)
        self.memory.backends.assign([one.identity for one in config.upstream[0].backends])
        self.memory.limits.assign(shared_limits(config))
        self.memory.instance.set(Cell.CHANGES, number)

    def change(self, change: Callable[[Entry], Overlay], port: int) -> None:
        """Have it carried out by the worker."""
        self.admit(self.leave(change(Entry("api", backend(port)))))
        self.revision.look()

    def picked(self) -> set[str]:
        found = (self.group.pick(CALL, []) for _ in range(20))
        return {target.id for target in found if target is not None}

    def followed(self) -> int:
        self.revision.look()
        return self.memory.processes.row(0).get(Column.FOLLOWS)


def test_what_was_not_admitted_is_not_there() -> None:
    async def test() -> None:
        setting = Setting(1)
        number = setting.leave(Overlay().with_added(Entry("api", backend(2))))
        assert (setting.followed(), setting.picked()) == (0, {"b1"})
        setting.admit(number)
        # Another one was left meanwhile, and nobody knows yet what comes of it.
        later = setting.leave(setting.changes.with_added(Entry("api", backend(3))))
        assert (setting.followed(), setting.picked()) == (0, {"b1"})
        setting.admit(later)
        assert (setting.followed(), setting.picked()) == (2, {"b1", "b2", "b3"})
        assert all(pool.bound is not None for pool in setting.group.pools[1:])
        setting.change(setting.changes.with_removed, 1)
        assert setting.picked() == {"b2", "b3"}
        await until(lambda: setting.followed() == 3, "that nothing is left to do")
        await setting.revision.close()

    run(test())


@pytest.mark.parametrize("drain_timeout", [30.0, 0.1])
def test_who_has_requests_holds_up_the_number(drain_timeout: float) -> None:
    async def test() -> None:
        async def says_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(WIDE_OPEN)
            await asyncio.get_running_loop().create_future()

        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(says_nothing))
            setting = Setting(1, port, drain_timeout=drain_timeout)
            pool = setting.group.pools[1]
            exchange = Exchange(make_head(b"GET", "/"))
            exchange.start(pool)
            await until(lambda: pool.stats().in_flight == 1, "a stream")
            setting.change(setting.changes.with_removed, port)
            assert setting.picked() == {"b1"}
            if drain_timeout > 1:
                setting.change(setting.changes.with_added, 2)
                assert setting.followed() == 0, "of the first one something is left"
                setting.change(setting.changes.with_added, port)
                assert setting.group.pools[1] is pool, "it is taken back as it is"
                assert setting.followed() == 3
                setting.change(setting.changes.with_removed, port)
                assert setting.followed() == 3
                assert exchange.stream is not None
                exchange.stream.cancel(H2Code.CANCEL)
            await until(lambda: setting.followed() == setting.memory.notes.number, "its end")
            assert pool.stats().connections == 0
            late = Exchange(make_head(b"GET", "/"))
            late.start(pool)
            assert await late.wait() is Kind.DRAINING
            await setting.revision.close()

    run(test())
