"""The master's loop: wait, observe, plan, apply.

Owns the running master: it binds, forks, watches its children and answers signals. It never
decides (`plan` does), never speaks QUIC or HTTP, and nothing in its loop waits but the one
`select`. It is single-threaded, so that a fork copies no held lock. It keeps the rights that it
was started with, for a reload may have to bind a low port or to read a key.
"""

import gc
import logging
import os
import random
import selectors
import signal
import time
from typing import Final, assert_never

import setproctitle

from spooky import log as logs
from spooky.config.model import Config
from spooky.errors import ConfigError, ExitCode, SpookyError, StartupError
from spooky.master import signals
from spooky.master.bind import Address
from spooky.master.blueprint import Blueprint, Estate, Program, Resolved
from spooky.master.notify import Notifier
from spooky.master.nursery import Nursery
from spooky.master.pidfile import TITLE, Pidfile
from spooky.master.plan import (
    Abandon,
    Action,
    Clear,
    Drain,
    Exit,
    Fail,
    Kill,
    Load,
    Place,
    Promote,
    Retire,
    Spawn,
    Terminate,
    next_deadline,
    plan,
    record,
)
from spooky.master.signals import Command, SignalInbox
from spooky.master.slots import LOOK_S, Fleet, Generation, SlotState, Stop
from spooky.master.sockets import Crew
from spooky.master.spawn import Birth, Child, find_credentials, warn_about_rights
from spooky.shm.instance import Admission, Cell, Serving
from spooky.shm.processes import SLOT_LIMIT, Column

log = logging.getLogger(__name__)


SIGNALS: Final = {Drain: signals.DRAIN, Terminate: signals.LEAVE, Kill: signal.SIGKILL}


class Arbiter:
    """The master process."""

    def __init__(self, program: Program, resolved: Resolved) -> None:
        """Take over the process. StartupError for what no master can run with."""
        config = resolved.config
        self._program = program
        self._fleet = Fleet()
        self._estate = Estate(program, config.steering)
        self._sockets = self._estate.sockets
        self._instance = self._estate.memory.instance
        self._processes = self._estate.memory.processes
        self._notifier = Notifier()
        self._pidfile = Pidfile(config.pid)
        self._inbox = SignalInbox()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._inbox.fileno(), selectors.EVENT_READ, None)
        self._nursery = Nursery(self._selector)
        self._blueprints: dict[int, Blueprint] = {}
        self._failure = ""
        self._looked_at = 0.0
        self._first = Blueprint(resolved, find_credentials(config))
        _check_workers(config)

    def run(self) -> ExitCode:
        """Serve until told to stop. StartupError when the first start does not succeed."""
        setproctitle.setproctitle(f"{TITLE} {self._program.arguments}")
        config = self._first.config
        try:
            self._first.prepare_logs()
            logs.configure(config.log, "master")
        except OSError as error:
            raise StartupError(f"cannot open the log {error.filename}: {error.strerror}") from error
        self._pidfile.check()
        self._sockets.make_room(config.worker_processes, config.worker_processes, config.limits)
        self._sockets.bind(config.listen, config.admin, config.limits)
        self._pidfile.write()
        try:
            return self._serve()
        finally:
            self._pidfile.remove()

    def _serve(self) -> ExitCode:
        warn_about_rights(self._first.config)
        self._tell(self._first.resolved)
        self._instance.set(Cell.MASTER_PID, os.getpid())
        self._instance.set(Cell.STARTED_MS, _now_ms())
        generation = self._open_generation(self._first)
        # Nothing is there to fall back on: what starts first may serve as soon as it is ready.
        serving = Serving(generation.number, 0, generation.workers)
        self._instance.promote(serving, _now_ms())
        gc.collect()
        while True:
            now = time.monotonic()
            self._look(now)
            actions = plan(self._fleet, now)
            for action in actions:
                record(self._fleet, action, now)
                self._apply(action)
                if isinstance(action, Exit):
                    return self._finish(action.code)
            if not actions:
                self._wait(now)

    def _tell(self, resolved: Resolved) -> None:
        for notice in resolved.notices:
            log.warning("configuration: %s", notice)

    def _apply(self, action: Action) -> None:
        match action:
            case Spawn(slot, generation):
                self._spawn(slot, generation)
            case Drain() | Terminate() | Kill():
                self._signal(action.slot, SIGNALS[type(action)])
            case Place(generation):
                self._place(self._fleet.generations[generation])
            case Promote(generation):
                self._promote(self._fleet.generations[generation])
            case Abandon(_, reason):
                self._end_reload(reason)
            case Retire(generation):
                self._retire(generation)
            case Load():
                self._load()
            case Fail(reason):
                log.critical("giving up the start: %s", reason)
                self._failure = reason
            case Clear() | Exit():
                pass
            case _:
                assert_never(action)

    # --- observe ----------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Enter in the fleet who has come round its loop."""
        # After a stop of the whole group, or a debugger, all heartbeats are old at first.
        slept = now - self._looked_at > 3 * LOOK_S
        self._looked_at = now
        for slot in self._fleet.every_slot():
            if slot.state in (SlotState.READY, SlotState.DRAINING):
                beat = self._processes.row(slot.number).get(Column.HEARTBEAT_MS)
                self._fleet.heard(slot.number, beat, now, slept=slept)

    def _wait(self, now: float) -> None:
        """Wait for the next thing to happen and enter it in the fleet."""
        deadline = next_deadline(self._fleet)
        timeout = LOOK_S if deadline is None else max(0.0, min(LOOK_S, deadline - now))
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._listen(key.data)
        for number in self._inbox.take():
            self._command(number)
        for child, how in self._nursery.reap():
            self._bury(child, how)

    def _command(self, number: int) -> None:
        match signals.COMMANDS[number]:
            case Command.RELOAD:
                self._fleet.reload_wanted = True
            case Command.STOP:
                self._stop(number)
            case Command.REOPEN:
                self._reopen()
            case Command.DRAIN:
                self._admit_clients(Admission.DRAINED)
            case Command.RESUME:
                self._admit_clients(Admission.OPEN)
            case Command.UNSUPPORTED:
                log.warning(
                    "%s is not supported in this version: nothing done", signals.describe(number)
                )
            case Command.CHILD:
                pass

    def _stop(self, number: int) -> None:
        self._fleet.request_stop(time.monotonic())
        if self._fleet.stop is Stop.NOW:
            log.info("%s: stopping at once", signals.describe(number))
            return
        log.info("%s: stopping once open requests are done", signals.describe(number))
        self._instance.set(Cell.ADMISSION, Admission.STOPPING)
        self._notifier.stopping()

    def _admit_clients(self, admission: Admission) -> None:
        if self._fleet.stop is Stop.NO and self._instance.admission is not admission:
            self._instance.set(Cell.ADMISSION, admission)
            log.info(
                "new connections are %s",
                "refused" if admission is Admission.DRAINED else "welcome again",
            )

    def _reopen(self) -> None:
        for blueprint in self._blueprints.values():
            try:
                blueprint.prepare_logs()
            except OSError as error:
                log.error("cannot make the log %s: %s", error.filename, error.strerror)
        logs.reopen()
        log.info("logs reopened")
        self._nursery.want_reopened(self._may_reopen)

    def _may_reopen(self, child: Child) -> bool:
        return self._fleet.slot(child.slot).state in (SlotState.READY, SlotState.DRAINING)

    def _listen(self, child: Child) -> None:
        is_ready = self._nursery.listen(child)
        if is_ready and self._fleet.became_ready(child.slot, time.monotonic()):
            log.debug("%s is ready", child.title)
            self._nursery.pass_on_reopen(child)

    def _bury(self, child: Child, how: str) -> None:
        child.reopen_wanted = False
        self._listen(child)
        self._nursery.bury(child)
        slot = self._fleet.slot(child.slot)
        reason = f"{child.title} {how}"
        if slot.state is SlotState.STARTING:
            reason += " before it was ready" + (f": {child.line}" if child.line else "")
        expected = slot.state in (SlotState.DRAINING, SlotState.LEAVING)
        log.log(logging.INFO if expected else logging.ERROR, "%s [%d]", reason, child.pid)
        self._processes.row(child.slot).end()
        now = time.monotonic()
        self._fleet.exited(child.slot, now, random.random(), reason)
        if wait_s := slot.wait(now):
            log.warning("%s is started again in %.1f s", child.title, wait_s)

    # --- act --------------------------------------------------------------------------------

    def _signal(self, slot: int, number: signal.Signals) -> None:
        if number == signal.SIGKILL and self._fleet.slot(slot).ready_at is not None:
            log.error("slot %d: its process does not react and is killed", slot)
        self._nursery.signal(slot, number)

    def _spawn(self, slot: int, generation: int) -> None:
        is_keeper = slot == self._fleet.keeper.number
        blueprint = self._blueprints[generation]
        crew = self._crew(self._fleet.generations[generation])
        title = "keeper" if is_keeper else f"worker {slot - crew.first} (gen {generation})"

        def birth(child: Child) -> Birth:
            if is_keeper:
                return self._estate.keeper_birth(child, blueprint, self._shed)
            return self._estate.worker_birth(child, blueprint, crew, self._shed)

        self._processes.row(slot).begin(generation)
        try:
            self._nursery.bear(slot, generation, title, birth)
        except OSError as error:
            self._processes.row(slot).end()
            reason = f"cannot start {title}: {error.strerror}"
            log.error("%s", reason)
            self._fleet.exited(slot, time.monotonic(), random.random(), reason)

    def _shed(self, newborn: Child) -> None:
        """Close in a child what is the master's alone, sockets aside."""
        self._inbox.close_in_child()
        self._selector.close()
        self._nursery.close_in_child(newborn)

    # --- generations ------------------------------------------------------------------------

    @staticmethod
    def _crew(generation: Generation) -> Crew:
        return Crew(generation.slots.start, generation.workers)

    def _open_generation(self, blueprint: Blueprint) -> Generation:
        config = blueprint.config
        generation = self._fleet.begin_roll(
            config.worker_processes, config.drain_timeout, config.worker_timeout
        )
        self._blueprints[generation.number] = blueprint
        if self._fleet.find_room(generation.workers) is None:
            log.warning("the reload waits until an older generation has drained")
        return generation

    def _place(self, generation: Generation) -> None:
        """Make the sockets of a generation's slots."""
        limits = self._blueprints[generation.number].config.limits
        try:
            self._sockets.make_room(generation.slots.stop, generation.workers, limits)
        except (StartupError, OSError) as error:
            generation.failure = str(error)
        if self._fleet.active is None:
            self._steer()

    def _steer(self) -> None:
        """Tell the kernel who serves each address, and which slots have a reader."""
        crews = {one.number: self._crew(one) for one in self._fleet.generations.values()}
        # An address that was given up goes to those who had it last, to be refused by them.
        newest_first = sorted(crews, key=lambda one: (one == self._instance.serving()[0], one))
        serving: dict[Address, Crew] = {}
        for number in newest_first:
            for listener in self._blueprints[number].config.listen:
                serving[listener.address, listener.port] = crews[number]
        self._sockets.steer(serving, [crew for crew in crews.values() if crew.workers])

    def _load(self) -> None:
        log.info("reloading the configuration")
        self._notifier.reloading()
        self._instance.begin_reload()
        try:
            self._open_generation(self._admit(self._program.read()))
        except ConfigError as error:
            self._end_reload("\n".join(str(problem) for problem in error.problems))
        except (SpookyError, OSError) as error:
            self._end_reload(str(error))
        except Exception as error:
            # The old generation serves; no fault in reading the new file may change that.
            log.exception("a bug")
            self._end_reload(f"{type(error).__name__}: {error}")

    def _end_reload(self, reason: str) -> None:
        """Say that a reload failed, and why."""
        for line in reason.splitlines():
            log.error("reload refused: %s", line)
        log.error("reload refused, the old configuration stays")
        self._instance.end_reload(reason, succeeded=False)
        self._notifier.ready("serving; the last reload was refused")

    def _admit(self, resolved: Resolved) -> Blueprint:
        """Make all that the new configuration needs besides processes."""
        config = resolved.config
        _check_workers(config)
        for key in ("pid", "steering"):
            if (was := getattr(self._first.config, key)) != getattr(config, key):
                log.warning("%s: still %s; restart to change it", key, was)
        self._tell(resolved)
        blueprint = Blueprint(resolved, find_credentials(config))
        blueprint.prepare_logs()
        self._sockets.bind(config.listen, config.admin, config.limits)
        return blueprint

    def _promote(self, generation: Generation) -> None:
        number, workers = generation.number, generation.workers
        is_reload = self._instance.serving().generation != number
        if is_reload:
            self._instance.promote(Serving(number, generation.slots.start, workers), _now_ms())
            self._steer()
        try:
            logs.configure(self._blueprints[number].config.log, "master")
        except OSError as error:
            log.error("the master's log stays where it is: %s", error)
        log.info("generation %d serves with %d workers", number, workers)
        if is_reload:
            text = f"generation {number}, {workers} worker{'s' if workers > 1 else ''}"
            self._instance.end_reload(text, succeeded=True)
        self._notifier.ready(f"serving with {workers} workers")

    def _retire(self, generation: int) -> None:
        del self._blueprints[generation]
        configs = [blueprint.config for blueprint in self._blueprints.values()]
        self._sockets.keep_only(
            (listener for config in configs for listener in config.listen),
            (config.admin for config in configs),
        )
        self._steer()

    def _finish(self, code: ExitCode) -> ExitCode:
        fleet = self._fleet
        if fleet.cut_short or fleet.killed:
            log.warning(
                "stopped: %d workers were cut short, %d had to be killed",
                fleet.cut_short,
                fleet.killed,
            )
        else:
            log.info("stopped: all workers left by themselves")
        if self._failure:
            raise StartupError(self._failure)
        return code


def _check_workers(config: Config) -> None:
    """Refuse more workers than there are slots for; StartupError."""
    most = SLOT_LIMIT // 2
    if config.worker_processes > most:
        raise StartupError(
            f"worker_processes: at most {most} are possible, got {config.worker_processes}"
        )


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
