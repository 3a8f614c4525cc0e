"""Backends that operators add and remove, carried out by this worker while it serves.

Every 20 ms it looks at one cell of shared memory. Where that has another number, the changes are
laid over the worker's own file, and upstreams that come out with other backends are arranged
anew: what is new gets a pool and a place, what stays keeps its connections, and what is gone gets
no new request, finishes what it has, for the drain timeout at most, and is closed.

The rule: what is told to the master is the number of the last change of which nothing is left to
do, for the rows of what was removed are given to others after that.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spooky.config import overlay
from spooky.config.model import Backend, Upstream
from spooky.config.shared_limits import backend_limit
from spooky.handover import WorkerSpec
from spooky.names import Names
from spooky.shm.instance import Cell
from spooky.shm.processes import Column
from spooky.worker.admission_setup import confine
from spooky.worker.load import Lookout
from spooky.worker.membership import Membership
from spooky.worker.pool import Pool
from spooky.worker.traffic import BackendTraffic
from spooky.worker.trials import TriedRow, tried_rows
from spooky.worker.upstreams import UpstreamGroup, Upstreams, make_arrangement, make_pool

log = logging.getLogger(__name__)

INTERVAL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Parts:
    """What of the worker has to know who its backends are."""

    upstreams: Upstreams
    traffic: BackendTraffic
    membership: Membership
    lookout: Lookout
    names: Names


@dataclass(frozen=True, slots=True, eq=False)
class _Leaving:
    """A backend that was removed and finishes what it has, at most until `deadline` (loop time)."""

    upstream: str
    backend: Backend
    pool: Pool
    after: int
    """The last change before the one that removed it."""
    deadline: float


class Revision:
    """What this worker makes of the changes."""

    def __init__(
        self,
        spec: WorkerSpec,
        parts: Parts,
        tried: Mapping[str, TriedRow],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Take the parts, made for the backends of `spec`, and the views of their rows."""
        self._spec = spec
        self._parts = parts
        self._loop = loop
        self._memory = spec.memory
        self._row = spec.memory.processes.row(spec.slot)
        self._rows = dict(spec.backend_rows)
        self._tried = dict(tried)
        self._groups = {group.name: group for group in parts.upstreams.groups}
        self._number = spec.changes
        self._leaving: list[_Leaving] = []
        self._closing: dict[asyncio.Task[None], _Leaving] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on."""
        self._handle = self._loop.call_later(INTERVAL_S, self.start)
        self.look()

    def look(self) -> None:
        """Carry out what has changed."""
        admitted = self._memory.instance.get(Cell.CHANGES)
        if admitted != self._number:
            self._take(admitted)
        if self._leaving:
            self._see_off()
        last = [one.after for one in (*self._leaving, *self._closing.values())]
        self._row.set(Column.FOLLOWS, min(last, default=self._number))

    async def close(self) -> None:
        """Look no more, and close what was still to be finished."""
        if self._handle is not None:
            self._handle.cancel()
        await asyncio.gather(*self._closing, *(one.pool.close() for one in self._leaving))

    # --- another set of backends ------------------------------------------------------------

    def _take(self, admitted: int) -> None:
        note = self._memory.notes.read()
        if note.number != admitted:
            # Another one was left already, and will be admitted, or taken back, in a moment.
            return
        changes = overlay.read(note.text).as_of(self._spec.generation)
        config = overlay.lay_over(changes, self._spec.own, self._spec.client_contexts)
        for upstream in config.upstream:
            group = self._groups[upstream.name]
            if upstream.backends != group.backends:
                self._arrange(upstream, group)
        self._number = admitted

    def _arrange(self, upstream: Upstream, group: UpstreamGroup) -> None:
        """Have an upstream served by other backends."""
        pools = {
            backend.identity: pool
            for backend, pool in zip(group.backends, group.pools, strict=True)
        }
        self._learn([one.identity for one in upstream.backends])
        backends = tuple(one for one in upstream.backends if one.identity in self._rows)
        places = {backend.identity: place for place, backend in enumerate(group.backends)}
        arrangement = make_arrangement(
            upstream,
            backends,
            [pools.get(one.identity) or self._begin(upstream, one) for one in backends],
            random.random,
        )
        if arrangement.load is not None and group.load is not None:
            arrangement.load.succeed(group.load, [places.get(one.identity) for one in backends])
        staying = {backend.identity for backend in backends}
        gone = [one for one in group.backends if one.identity not in staying]
        group.arrange(arrangement)
        group.count_answers(self._parts.traffic.cells)
        self._parts.lookout.attach(group, self._rows)
        self._parts.membership.renew(group, self._tried)
        for backend in gone:
            self._retire(upstream.name, backend, pools[backend.identity])
        log.debug("upstream %s: now %s", group.name, ", ".join(one.id for one in backends))

    def _learn(self, identities: list[str]) -> None:
        """Look up the rows of backends that are new to this worker."""
        spec = self._spec
        fresh = [identity for identity in identities if identity not in self._rows]
        found = self._memory.backends.find(fresh)
        self._rows |= found
        workers = spec.config.worker_processes
        self._tried |= tried_rows(self._memory.backends, found, spec.index, workers)

    def _begin(self, upstream: Upstream, backend: Backend) -> Pool:
        """Make a pool, or take the one back that was to be closed."""
        for leaving in self._leaving:
            if (leaving.upstream, leaving.backend.identity) == (upstream.name, backend.identity):
                self._leaving.remove(leaving)
                self._parts.names.tell(backend.host, leaving.pool)
                return leaving.pool
        spec = self._spec
        context = spec.client_contexts.get(upstream.name)
        pool = make_pool(upstream, backend, context, spec.config.limits, self._loop)
        confine(spec, upstream, pool, self._memory.limits.find(backend_limit(upstream, backend)))
        self._parts.traffic.enrol(backend.identity, self._rows[backend.identity], pool)
        self._parts.names.tell(backend.host, pool)
        return pool

    # --- the end of a backend ---------------------------------------------------------------

    def _retire(self, upstream: str, backend: Backend, pool: Pool) -> None:
        self._parts.names.leave(backend.host, pool)
        deadline = self._loop.time() + self._spec.config.drain_timeout
        self._leaving.append(_Leaving(upstream, backend, pool, self._number, deadline))

    def _see_off(self) -> None:
        """Close those that are done, or whose time is up."""
        now = self._loop.time()
        for leaving in list(self._leaving):
            stats = leaving.pool.stats()
            if not (stats.in_flight or stats.queued) or now >= leaving.deadline:
                self._leaving.remove(leaving)
                task = self._loop.create_task(self._close(leaving))
                self._closing[task] = leaving
                task.add_done_callback(self._closing.pop)

    async def _close(self, leaving: _Leaving) -> None:
        await leaving.pool.close("the backend was removed")
        identity = leaving.backend.identity
        self._parts.traffic.dismiss(identity, leaving.pool)
        if not self._is_known(identity):
            # Its row may be another backend's from now on.
            del self._rows[identity], self._tried[identity]

    def _is_known(self, identity: str) -> bool:
        """Say whether any pool of a backend is left, or was made meanwhile."""
        there = (one.identity for group in self._groups.values() for one in group.backends)
        return identity in there or any(one.backend.identity == identity for one in self._leaving)
