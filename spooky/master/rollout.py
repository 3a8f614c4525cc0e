"""Generations made real: read, admitted, placed, promoted, retired.

Owns the blueprints and what happens outside of the fleet's bookkeeping when a generation changes
its state: sockets, steering, shared memory, the word to the operator. It forks nothing and
decides nothing: `plan` says when, the arbiter calls.
"""

import logging
from operator import attrgetter
from typing import Final

from spooky import log as logs
from spooky.config.files import files_of
from spooky.config.model import Config
from spooky.errors import ConfigError, SpookyError, StartupError
from spooky.master.bind import Address
from spooky.master.blueprint import Blueprint, Estate, Program, Resolved
from spooky.master.notify import Notifier
from spooky.master.revision import Revision
from spooky.master.slots import Fleet, Generation
from spooky.master.sockets import Crew
from spooky.master.watch import Watch
from spooky.shm.clock import now_ms
from spooky.shm.instance import Change, Serving

log = logging.getLogger(__name__)

_FAILED: Final = {
    Change.RELOAD: ("reload", "configuration"),
    Change.UPGRADE: ("upgrade", "program"),
}


class Rollout:
    """The generations of one master."""

    def __init__(
        self,
        program: Program,
        fleet: Fleet,
        estate: Estate,
        notifier: Notifier,
        first: Config,
    ) -> None:
        """Take the `first` configuration, of which some things stay for the master's life."""
        self._program = program
        self._watch: Watch | None = None
        self._fleet = fleet
        self._estate = estate
        self._sockets = estate.sockets
        self._instance = estate.memory.instance
        self._notifier = notifier
        self._fixed = {"pid": first.pid, **estate.fixed}
        self._change = Change.UPGRADE if estate.was_left else Change.RELOAD
        """What the next generation comes by."""
        self.blueprints: dict[int, Blueprint] = {}
        self._revision = Revision(estate, self.blueprints)

    def open(self, blueprint: Blueprint) -> Generation:
        """Begin a generation; it gets its slots when there is room."""
        config = blueprint.config
        self._follow(config)
        generation = self._fleet.begin_roll(
            config.worker_processes, config.drain_timeout, config.worker_timeout
        )
        self.blueprints[generation.number] = blueprint
        if self._fleet.find_room(generation.workers) is None:
            log.warning("the reload waits until an older generation has drained")
        return generation

    def load(self) -> None:
        """Read the configuration anew and begin a generation from it, or say why not."""
        log.info("reloading the configuration")
        self._notifier.reloading()
        self._instance.begin_change(Change.RELOAD)
        if self._watch is not None:
            self._watch.mark()
        try:
            self.open(self._admit(self._program.read(self._estate.memory.notes.read().text)))
        except ConfigError as error:
            self.give_up("\n".join(str(problem) for problem in error.problems))
        except (SpookyError, OSError) as error:
            self.give_up(str(error))
        except Exception as error:
            # The old generation serves; no fault in reading the new file may change that.
            log.exception("a bug")
            self.give_up(f"{type(error).__name__}: {error}")

    def _admit(self, resolved: Resolved) -> Blueprint:
        """Make all that the new configuration needs besides processes."""
        config = resolved.config
        self.warn_of_what_stays(config)
        tell(resolved)
        number = self._fleet.last_generation + 1
        blueprint = self._estate.blueprint(resolved, number, self._estate.changes)
        blueprint.prepare_logs()
        self._sockets.bind(config.listen, config.admin, config.limits)
        return blueprint

    def warn_of_what_stays(self, config: Config) -> None:
        """Log what a configuration says and only a new start changes."""
        for key, was in self._fixed.items():
            if attrgetter(key)(config) != was:
                log.warning("%s: still %s; restart to change it", key, was)

    def look_for_changes(self, now: float) -> None:
        """Wish for a reload when the configuration or a file that it names has changed."""
        if self._fleet.is_superseded or self._watch is None:
            return
        if self._watch.changed(now):
            log.info("the configuration, or a file that it names, has changed")
            self._fleet.reload_wanted = True

    def _follow(self, config: Config) -> None:
        """Watch what a configuration is made of, if it says so."""
        paths = [self._program.file, *files_of(config)]
        if not config.watch:
            self._watch = None
        elif self._watch is None:
            self._watch = Watch(paths)
        else:
            self._watch.follow(paths)

    def give_up(self, reason: str, change: Change = Change.RELOAD) -> None:
        """Say that a reload, or an upgrade, failed, and why."""
        what, stays = _FAILED[change]
        for line in reason.splitlines():
            log.error("%s refused: %s", what, line)
        log.error("%s refused, the old %s stays", what, stays)
        self.release_backends()
        self._instance.end_change(change, reason, succeeded=False)
        self._notifier.ready(f"serving; the last {what} was refused")

    def place(self, generation: Generation) -> None:
        """Make the sockets of a generation's slots."""
        limits = self.blueprints[generation.number].config.limits
        try:
            self._sockets.make_room(generation.slots.stop, generation.workers, limits)
        except (StartupError, OSError) as error:
            generation.failure = str(error)
        if self._instance.serving().generation == generation.number:
            # The first one of all: nothing is there whose clients could be taken away.
            self.steer()

    def promote(self, generation: Generation) -> None:
        """Let a generation serve new clients."""
        number, workers = generation.number, generation.workers
        is_reload = self._instance.serving().generation != number
        if is_reload:
            self._instance.promote(Serving(number, generation.slots.start, workers), now_ms())
            self.steer()
        self._describe_backends(number)
        try:
            logs.configure(self.blueprints[number].config.log, "master")
        except OSError as error:
            log.error("the master's log stays where it is: %s", error)
        log.info("generation %d serves with %d workers", number, workers)
        if is_reload:
            text = f"generation {number}, {workers} worker{'s' if workers > 1 else ''}"
            self._instance.end_change(self._change, text, succeeded=True)
        self._change = Change.RELOAD
        self._notifier.ready(f"serving with {workers} workers")

    def retire(self, generation: int) -> None:
        """Let go of what only a generation needed whose processes are gone."""
        del self.blueprints[generation]
        configs = [blueprint.config for blueprint in self.blueprints.values()]
        self._sockets.keep_only(
            (listener for config in configs for listener in config.listen),
            (config.admin for config in configs),
        )
        self.steer()
        self.release_backends()

    def release_backends(self) -> None:
        """Free the rows of backends and limits that no process has any more."""
        fleet = self._fleet
        # Another master beside this one has processes, and backends, that are not known here.
        if not (fleet.taken or fleet.is_handing_over or fleet.is_superseded):
            self._revision.release()

    def revise(self) -> None:
        """Take in what operators have added or removed, and let go of what all have let go of."""
        if self._fleet.is_handing_over or self._fleet.is_superseded:
            return
        if self._revision.may_release():
            # Before anything is taken: there may be no other room for it.
            self.release_backends()
        changes = self._estate.look_for_changes()
        if changes is not None and self._revision.take(changes):
            serving = self._instance.serving().generation
            if serving in self.blueprints:
                self._describe_backends(serving)
            self._revision.name_the_leaving()
            self._revision.publish()
        elif changes is not None:
            self.release_backends()

    def _describe_backends(self, generation: int) -> None:
        """Enter in shared memory what the configuration that serves says of its backends."""
        blueprint = self.blueprints[generation]
        names: dict[int, list[str]] = {}
        weights: dict[int, int] = {}
        for upstream in blueprint.config.upstream:
            for backend in upstream.backends:
                row = blueprint.backend_rows[backend.identity]
                names.setdefault(row, []).append(f"{upstream.name}/{backend.id}")
                weights[row] = max(weights.get(row, 0), backend.weight)
        for row, of_row in names.items():
            name = ", ".join(of_row)
            self._estate.memory.backends.row(row).describe(name, weights[row], generation)

    def steer(self) -> None:
        """Tell the kernel who serves each address, and which slots have a reader.

        A master whose successor serves has no say in it: it does not know the successor's slots.
        """
        crews = {one.number: crew_of(one) for one in self._fleet.generations.values() if one.slots}
        in_charge = self._instance.serving().generation
        if in_charge not in crews:
            return
        serving: dict[Address, Crew] = {}
        # An address that was given up stays with those who had it last: they read its sockets, and
        # drop what wants a connection, where a queue that nobody reads would only fill.
        for number in sorted(crews, key=lambda one: (one == in_charge, one)):
            for listener in self.blueprints[number].config.listen:
                serving[listener.address, listener.port] = crews[number]
        others = [Crew(taken.start, len(taken)) for taken in self._fleet.taken]
        self._sockets.steer(serving, [*crews.values(), *others])


def crew_of(generation: Generation) -> Crew:
    """Say which slots a generation has."""
    return Crew(generation.slots.start, generation.workers)


def tell(resolved: Resolved) -> None:
    """Log what the operator should know of a configuration though it is no fault."""
    for notice in resolved.notices:
        log.warning("configuration: %s", notice)
