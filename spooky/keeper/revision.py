"""What a keeper goes by while operators add and remove backends, and what it does by it.

Probes, judges and what is told of upstreams take other backends while they run, and go on with
those that stay.

The rule: the number of the changes is told to the master only when nobody here goes by older ones,
for the rows of what was removed are given to others after that.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, Final

from spooky.config import overlay
from spooky.handover import KeeperSpec
from spooky.keeper.eligibility import Eligibility
from spooky.keeper.outliers import Outliers
from spooky.keeper.prober import Prober
from spooky.shm.instance import Cell
from spooky.shm.processes import Column

INTERVAL_S: Final = 0.02


class Revision:
    """The keeper's specification, as of the last changes."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._spec = spec

    def current(self) -> KeeperSpec:
        """Return the specification as it is now."""
        spec, memory = self._spec, self._spec.memory
        admitted = memory.instance.get(Cell.CHANGES)
        if admitted != spec.changes and (note := memory.notes.read()).number == admitted:
            changes = overlay.read(note.text).as_of(spec.generation)
            config = overlay.lay_over(changes, spec.own, spec.client_contexts)
            every = (one.identity for upstream in config.upstream for one in upstream.backends)
            rows = memory.backends.find(list(dict.fromkeys(every)))
            self._spec = replace(spec, config=config, changes=admitted, backend_rows=rows)
        return self._spec

    def is_in_charge(self) -> bool:
        """Say whether this is the keeper of the generation that serves."""
        return self._spec.memory.instance.serving().generation == self._spec.generation

    async def until_in_charge(self) -> None:
        """Wait until it is."""
        # Another process writes it, which tells nobody.
        while not self.is_in_charge():  # noqa: ASYNC110
            await asyncio.sleep(INTERVAL_S)

    async def until_not_in_charge(self) -> None:
        """Wait until it is no more."""
        while self.is_in_charge():  # noqa: ASYNC110 - as above
            await asyncio.sleep(INTERVAL_S)

    async def until_other_than(self, spec: KeeperSpec) -> None:
        """Wait until a specification is not the current one any more."""
        while self.current() is spec:  # noqa: ASYNC110 - as above
            await asyncio.sleep(INTERVAL_S)


def duties(revision: Revision) -> Iterator[Coroutine[Any, Any, None]]:
    """List what is done for the backends over and over, none of which ends by itself."""
    spec = revision.current()
    spec.memory.processes.row(spec.row).set(Column.FOLLOWS, spec.changes)
    eligibility = Eligibility(spec.config, spec.memory.backends, spec.backend_rows)
    outliers = Outliers(spec.config, spec.memory, spec.backend_rows)
    prober = Prober(spec)
    yield eligibility.watch()
    yield outliers.run()
    yield prober.run()
    yield _follow(revision, spec, (eligibility, outliers), prober)


async def _follow(
    revision: Revision,
    spec: KeeperSpec,
    watchers: tuple[Eligibility, Outliers],
    prober: Prober,
) -> None:
    """Give them all other backends when there are others than those of `spec`."""
    row = spec.memory.processes.row(spec.row)
    while True:
        await revision.until_other_than(spec)
        spec = revision.current()
        for watcher in watchers:
            watcher.follow(spec.config, spec.backend_rows)
        prober.follow(spec)
        row.set(Column.FOLLOWS, spec.changes)
