"""Backends that operators add and remove: made real for the generations that there are.

A keeper leaves the change in shared memory. The master gives what is new its rows, revises the
blueprints, so that a worker that is replaced has it too, and publishes the number of the change:
from then on every process carries it out by itself, without a new generation.

The rule: what was removed keeps its rows until each process has said that it has carried out the
change, for until then somebody may write to them.
"""

import logging
from collections.abc import Iterable
from typing import Final

from spooky.config.model import Config
from spooky.config.shared_limits import rate_limits, shared_limits
from spooky.errors import StartupError
from spooky.master.blueprint import Blueprint, Changes, Estate, identities_of
from spooky.shm.instance import Cell, Change

log = logging.getLogger(__name__)

REMOVED: Final = " (removed)"
"""What follows the name of a backend whose last requests are being finished."""


class Leaving:
    """What nobody is to have any more, by the number of the change that took it away."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._since

    def note(self, before: Iterable[str], after: Iterable[str], number: int) -> None:
        """Take in a change, by what there was before and is after it."""
        kept = set(after)
        left = {name: since for name, since in self._since.items() if name not in kept}
        self._since = left | {name: number for name in before if name not in kept}

    def not_yet(self, followed: int) -> list[str]:
        """List what some process may still have, where all have carried out `followed`."""
        self._since = {name: since for name, since in self._since.items() if since > followed}
        return list(self._since)

    def is_due(self, followed: int) -> bool:
        """Say whether there is something that nobody has any more."""
        return any(since <= followed for since in self._since.values())


class Revision:
    """The changes of one master's blueprints."""

    def __init__(self, estate: Estate, blueprints: dict[int, Blueprint]) -> None:
        """Take the blueprints by their generations; they are replaced in place."""
        self._estate = estate
        self._memory = estate.memory
        self._blueprints = blueprints
        self._backends = Leaving()
        self._limits = Leaving()

    def take(self, changes: Changes) -> bool:
        """Carry changes into all blueprints; False where that cannot be, and nothing is changed."""
        instance = self._memory.instance
        instance.begin_change(Change.BACKENDS)
        try:
            revised = {
                number: self._estate.revise(blueprint, number, changes)
                for number, blueprint in self._blueprints.items()
            }
        except StartupError as error:
            log.error("backends stay as they are: %s", error)
            instance.end_change(Change.BACKENDS, str(error), succeeded=False)
            instance.set(Cell.CHANGES_REFUSED, changes.number)
            return False
        self._note_what_leaves(revised, changes.number)
        self._blueprints.update(revised)
        self._estate.changes = changes
        return True

    def publish(self) -> None:
        """Have all processes carry out the changes that were taken."""
        instance = self._memory.instance
        instance.set(Cell.CHANGES, self._estate.changes.number)
        instance.end_change(Change.BACKENDS, "", succeeded=True)

    def _note_what_leaves(self, revised: dict[int, Blueprint], number: int) -> None:
        before, after = _configs(self._blueprints), _configs(revised)
        self._backends.note(identities_of(before), identities_of(after), number)
        self._limits.note(_limits_of(before), _limits_of(after), number)

    # --- rows -------------------------------------------------------------------------------

    def may_release(self) -> bool:
        """Say whether there are rows that were waited for."""
        if self._backends.is_empty and self._limits.is_empty:
            return False
        followed = self._memory.processes.followed()
        return self._backends.is_due(followed) or self._limits.is_due(followed)

    def release(self) -> None:
        """Free the rows of backends and limits that no process has any more.

        What is added or removed has no rate limits of its own: theirs go with a generation.
        """
        followed = self._memory.processes.followed()
        configs = _configs(self._blueprints)
        backends = [*identities_of(configs), *self._backends.not_yet(followed)]
        self._memory.release_backends(backends)
        self._memory.limits.release({*_limits_of(configs), *self._limits.not_yet(followed)})
        rates = {name for config in configs for name in rate_limits(config)}
        self._memory.rate_counts.release(rates)

    def name_the_leaving(self) -> None:
        """Say in the rows of what was removed that it was."""
        followed = self._memory.processes.followed()
        for number in self._memory.backends.find(self._backends.not_yet(followed)).values():
            row = self._memory.backends.row(number)
            row.rename(row.name.removesuffix(REMOVED) + REMOVED)


def _configs(blueprints: dict[int, Blueprint]) -> list[Config]:
    return [blueprint.config for blueprint in blueprints.values()]


def _limits_of(configs: Iterable[Config]) -> set[str]:
    return {name for config in configs for name in shared_limits(config)}
