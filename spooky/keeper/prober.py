"""The one prober for all workers: probes every backend in its time and writes what comes of it.

Owns the health of backends in shared memory, from where workers read it and a keeper after this one
goes on: state, counts and the time of the next probe are all there, so that neither a reload nor
the keeper's death forgets anything, or puts anything off.

A rule: two keepers may be there for a moment, in a reload or an upgrade. The one of the generation
that serves probes and writes, the other neither; each looks before it does.
"""

import asyncio
import logging
import random
from typing import Final, NoReturn

from spooky.handover import KeeperSpec
from spooky.keeper.checkup import Checkup, plan_checkups
from spooky.keeper.probe import examine
from spooky.names import Names
from spooky.policy.health import Standing, State, first_probe, judge, next_probe
from spooky.shm.backend_cells import BackendColumn, Health, ProbeCounts
from spooky.shm.backends import BackendRow
from spooky.shm.clock import now_ms

log = logging.getLogger(__name__)

PARALLEL: Final = 64
"""Probes that are under way at a time; beyond it they are late."""
PARALLEL_COMMANDS: Final = 16
"""Those among them that start a process."""
LOOK_S: Final = 0.05
"""Between two looks at whose turn it is to probe."""


class Prober:
    """The probes of one keeper."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._instance = spec.memory.instance
        self._generation = spec.generation
        self._room = asyncio.Semaphore(PARALLEL)
        self._costly_room = asyncio.Semaphore(PARALLEL_COMMANDS)
        self._table = spec.memory.backends
        self._checkups: dict[str, Checkup] = {}
        self._rows: dict[str, BackendRow] = {}
        self._group: asyncio.TaskGroup | None = None
        """Of the probes, while it is this keeper's turn."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._names = Names(spec.config.dns, (), asyncio.get_running_loop())
        self.follow(spec)

    def follow(self, spec: KeeperSpec) -> None:
        """Take other backends; those that stay are probed on as if nothing had happened."""
        plan = plan_checkups(spec.config, spec.client_contexts)
        self._rows = {identity: self._table.row(spec.backend_rows[identity]) for identity in plan}
        wanted = {identity: one for identity, one in plan.items() if one is not None}
        for identity, known in self._checkups.items():
            # The name says in which upstreams it is, and so by whose rules it is probed.
            if identity in wanted and wanted[identity].name == known.name:
                wanted[identity] = known
                continue
            self._names.leave(known.place.host, known.place)
            if task := self._tasks.pop(identity, None):
                task.cancel()
        for identity, one in wanted.items():
            if self._checkups.get(identity) is not one:
                self._names.tell(one.place.host, one.place)
        self._checkups = wanted
        self._probe_all()

    def _is_in_charge(self) -> bool:
        return self._instance.serving().generation == self._generation

    async def _until(self, *, in_charge: bool) -> None:
        # Another process writes it, which tells nobody.
        while self._is_in_charge() is not in_charge:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)

    async def run(self) -> NoReturn:
        """Probe whenever it is this keeper's turn, until cancelled."""
        self._names.start()
        try:
            while True:
                await self._until(in_charge=True)
                await self._probe_while_in_charge()
        finally:
            self._names.stop()

    async def _probe_while_in_charge(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._probe_all()
            await self._until(in_charge=False)
            self._group = None
            for task in self._tasks.values():
                task.cancel()
            self._tasks.clear()

    def _probe_all(self) -> None:
        """Begin to probe those that are not probed yet, if it is this keeper's turn."""
        if self._group is not None:
            self._forget_the_unprobed()
            for identity in self._checkups.keys() - self._tasks.keys():
                probing = self._attend(self._checkups[identity], self._rows[identity])
                self._tasks[identity] = self._group.create_task(probing)

    def _forget_the_unprobed(self) -> None:
        """Nobody would ever bring them back who were probed by an older configuration alone."""
        for identity, row in self._rows.items():
            if identity not in self._checkups and row.get(BackendColumn.HEALTH) != Health.UNKNOWN:
                _write(row, Standing(), 0, "")
                row.set(BackendColumn.HEALTH_SINCE_MS, 0)

    async def _attend(self, checkup: Checkup, row: BackendRow) -> None:
        """Probe one backend in its time, until it is another keeper's turn."""
        loop = asyncio.get_running_loop()
        await self._names.asked(checkup.place.host)
        standing = _read(row)
        was_due = row.get(BackendColumn.PROBE_DUE_MS) / 1000
        due = first_probe(standing, checkup.pace, was_due, loop.time(), random.random())
        room = self._costly_room if checkup.is_costly else self._room
        while True:
            await asyncio.sleep(due - loop.time())
            async with room:
                began = loop.time()
                passed, why = await examine(checkup.probe, checkup.timeout)
            if not self._is_in_charge():
                return
            before = standing
            if passed is None:
                log.warning("backend %s cannot be probed: %s", checkup.name, why)
            else:
                standing = judge(standing, checkup.pace, passed=passed)
            chance = random.random()
            due = next_probe(standing, checkup.pace, began, loop.time(), chance)
            _enter(row, before, standing, due, why)
            if standing.state is not before.state:
                _tell(checkup, standing, why)


# --- shared memory --------------------------------------------------------------------------------


def _read(row: BackendRow) -> Standing:
    counts = row.probe_counts
    state = State[Health(row.get(BackendColumn.HEALTH)).name]
    return Standing(state, counts.failures, counts.passes, counts.setbacks)


def _write(row: BackendRow, standing: Standing, due: float, why: str) -> None:
    row.explain(why)
    row.count_probes(ProbeCounts(standing.failures, standing.passes, standing.setbacks))
    row.set(BackendColumn.PROBE_DUE_MS, int(due * 1000))
    row.set(BackendColumn.HEALTH, Health[standing.state.name])


def _enter(row: BackendRow, before: Standing, standing: Standing, due: float, why: str) -> None:
    # What is told of one that is not well is what is wrong with it, also while it recovers.
    is_reason = standing.failures > 0 or standing.state is State.HEALTHY
    if standing.state is not before.state:
        row.set(BackendColumn.HEALTH_SINCE_MS, now_ms())
    _write(row, standing, due, why if is_reason else row.reason)


# --- the log --------------------------------------------------------------------------------------


def _tell(checkup: Checkup, standing: Standing, why: str) -> None:
    """Log that a backend's state has changed, and why."""
    level = logging.INFO if standing.passes else logging.WARNING
    in_a_row = max(standing.passes, standing.failures)
    count = f" ({in_a_row} probes in a row)" if in_a_row > 1 else ""
    state = standing.state.value
    log.log(level, "backend %s is %s: %s%s", checkup.name, state, why, count)
