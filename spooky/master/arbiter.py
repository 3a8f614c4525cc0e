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

from spooky import __version__
from spooky import log as logs
from spooky.errors import ExitCode, StartupError
from spooky.master import activation, signals
from spooky.master.blueprint import Estate, Program, Resolved
from spooky.master.notify import Notifier
from spooky.master.nursery import Nursery
from spooky.master.pidfile import TITLE, Pidfile
from spooky.master.plan import (
    LEAVE_TIMEOUT_S,
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
from spooky.master.rollout import Rollout, crew_of, tell
from spooky.master.signals import Command, SignalInbox
from spooky.master.slots import LOOK_S, Fleet, SlotState, Stop
from spooky.master.spawn import Birth, Child, warn_about_rights
from spooky.master.succession import Succession, fleet_beside
from spooky.master.takeover import Heritage, Successor
from spooky.shm.clock import now_ms
from spooky.shm.instance import Admission, Cell, Serving
from spooky.shm.processes import Column

log = logging.getLogger(__name__)


SIGNALS: Final = {Drain: signals.DRAIN, Terminate: signals.LEAVE, Kill: signal.SIGKILL}


class Arbiter:
    """The master process."""

    def __init__(
        self, program: Program, resolved: Resolved, heritage: Heritage | None = None
    ) -> None:
        """Take over the process, and what a master before this one has left to it.

        StartupError for what no master can run with.
        """
        config = resolved.config
        self._program = program
        self._fleet = Fleet() if heritage is None else fleet_beside(heritage.state)
        left = heritage.state if heritage else None
        self._estate = Estate(program, config, left)
        self._sockets = self._estate.sockets
        self._instance = self._estate.memory.instance
        self._processes = self._estate.memory.processes
        self._notifier = Notifier()
        self._pidfile = Pidfile(config.pid)
        self._inbox = SignalInbox()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._inbox.fileno(), selectors.EVENT_READ, None)
        self._selector.register(self._estate.wake_fd, selectors.EVENT_READ, None)
        self._nursery = Nursery(self._selector)
        self._failure = ""
        self._looked_at = 0.0
        number, changes = self._fleet.last_generation + 1, self._estate.changes
        self._first = self._estate.blueprint(resolved, number, changes)
        self._rollout = Rollout(program, self._fleet, self._estate, self._notifier, config)
        self._succession = Succession(
            heritage=heritage,
            fleet=self._fleet,
            estate=self._estate,
            rollout=self._rollout,
            notifier=self._notifier,
            pidfile=self._pidfile,
            selector=self._selector,
            arguments=program.arguments,
        )

    def run(self) -> ExitCode:
        """Serve until told to stop. StartupError when the first start does not succeed."""
        setproctitle.setproctitle(f"{TITLE} {self._program.arguments}")
        config = self._first.config
        try:
            self._first.prepare_logs()
            logs.configure(config.log, "master")
        except OSError as error:
            raise StartupError(f"cannot open the log {error.filename}: {error.strerror}") from error
        self._pidfile.check(self._succession.predecessor)
        if self._succession.heritage is None:
            self._sockets.give(activation.take())
            workers = config.worker_processes
            self._sockets.make_room(workers, workers, config.limits)
        self._sockets.bind(config.listen, config.admin, config.limits)
        if self._succession.heritage is None:
            self._sockets.refuse_the_rest(config.admin)
            self._pidfile.write()
        try:
            self._estate.open_control()
            return self._serve()
        finally:
            self._pidfile.remove()
            if self._succession.owns_instance:
                self._estate.remove_control()

    def _serve(self) -> ExitCode:
        warn_about_rights(self._first.config)
        tell(self._first.resolved)
        self._rollout.warn_of_what_stays(self._first.config)
        generation = self._rollout.open(self._first)
        if self._succession.heritage is None:
            self._instance.set(Cell.MASTER_PID, os.getpid())
            self._instance.set(Cell.STARTED_MS, now_ms())
            self._instance.set_version(__version__)
            # Nothing is there to fall back on: what starts first serves as soon as it is ready.
            self._instance.promote(Serving(generation.number, 0, generation.workers), now_ms())
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

    def _apply(self, action: Action) -> None:
        match action:
            case Spawn(slot, generation):
                self._spawn(slot, generation)
            case Drain() | Terminate() | Kill():
                self._signal(action.slot, SIGNALS[type(action)])
            case Place(generation):
                self._rollout.place(self._fleet.generations[generation])
            case Promote(generation):
                self._rollout.promote(self._fleet.generations[generation])
                self._succession.take_over()
            case Abandon(_, reason):
                self._rollout.give_up(reason)
            case Retire(generation):
                self._rollout.retire(generation)
            case Load():
                self._rollout.load()
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
        slept = now - self._looked_at > 1.5 * LOOK_S
        self._looked_at = now
        for slot in self._fleet.every_slot():
            if slot.state in (SlotState.READY, SlotState.DRAINING):
                beat = self._processes.row(slot.number).get(Column.HEARTBEAT_MS)
                self._fleet.heard(slot.number, beat, now, slept=slept)

    def _wait(self, now: float) -> None:
        """Wait for the next thing to happen and enter it in the fleet."""
        deadline = next_deadline(self._fleet)
        timeout = LOOK_S if deadline is None else max(0.0, min(LOOK_S, deadline - now))
        self._rollout.look_for_changes(now)
        self._notifier.ping_if_due(now)
        for key, _ in self._selector.select(timeout):
            match key.data:
                case Child():
                    self._listen(key.data)
                case Successor():
                    self._succession.hear_successor(key.data)
                case Heritage():
                    self._succession.hear_predecessor(key.data)
        for number in self._inbox.take():
            self._command(number)
        if self._estate.take_wish():
            self._succession.want_reload()
        if self._succession.owns_instance:
            self._rollout.revise()
        for child, how in self._nursery.reap():
            self._bury(child, how)
        self._succession.check_time(time.monotonic())
        self._succession.begin_if_wanted()
        self._succession.release_slots()

    def _command(self, number: int) -> None:
        match signals.COMMANDS[number]:
            case Command.RELOAD:
                self._succession.want_reload()
            case Command.STOP:
                self._stop(number)
            case Command.REOPEN:
                self._reopen()
            case Command.UPGRADE:
                self._succession.want()
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
        self._succession.fail("the server is stopping")
        if self._fleet.stop is Stop.NOW:
            self._succession.pass_on_stop()
            log.info("%s: stopping at once", signals.describe(number))
            return
        log.info("%s: stopping once open requests are done", signals.describe(number))
        if not self._fleet.is_superseded:
            self._instance.set(Cell.ADMISSION, Admission.STOPPING)
        self._notifier.stopping()
        self._notifier.extend(self._fleet.stop_deadline - time.monotonic() + LEAVE_TIMEOUT_S)

    def _admit_clients(self, admission: Admission) -> None:
        if self._fleet.stop is Stop.NO and self._instance.admission is not admission:
            self._instance.set(Cell.ADMISSION, admission)
            log.info(
                "new connections are %s",
                "refused" if admission is Admission.DRAINED else "welcome again",
            )

    def _reopen(self) -> None:
        for blueprint in self._rollout.blueprints.values():
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
        self._estate.memory.bury(child.slot)
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
        blueprint = self._rollout.blueprints[generation]
        crew = crew_of(self._fleet.generations[generation])
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
        self._succession.close_in_child()

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
