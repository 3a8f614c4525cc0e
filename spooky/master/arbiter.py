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
from spooky.errors import ConfigError, ExitCode, SpookyError, StartupError
from spooky.handover import SLOT_LIMIT
from spooky.master import signals
from spooky.master.blueprint import Blueprint, Estate, Program, Resolved
from spooky.master.notify import Notifier
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
    Promote,
    Retire,
    Spawn,
    Terminate,
    next_deadline,
    plan,
    record,
)
from spooky.master.signals import Command, SignalInbox
from spooky.master.slots import Fleet, SlotState, Stop
from spooky.master.spawn import (
    Child,
    describe_exit,
    find_credentials,
    spawn,
    warn_about_rights,
)
from spooky.shm import Column, ProcessState, Row

log = logging.getLogger(__name__)


SIGNALS: Final = {Drain: signals.DRAIN, Terminate: signals.LEAVE, Kill: signal.SIGKILL}


class Arbiter:
    """The master process."""

    def __init__(self, program: Program, resolved: Resolved) -> None:
        """Take over the process. StartupError for what no master can run with."""
        config = resolved.config
        if 2 * config.worker_processes > SLOT_LIMIT:
            raise StartupError(f"worker_processes: at most {SLOT_LIMIT // 2} are possible")
        self._program = program
        self._fleet = Fleet(config.worker_processes)
        self._estate = Estate(program, config.worker_processes)
        self._table = self._estate.table
        self._sockets = self._estate.sockets
        self._notifier = Notifier()
        self._pidfile = Pidfile(config.pid)
        self._inbox = SignalInbox()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._inbox.fileno(), selectors.EVENT_READ, None)
        self._blueprints: dict[int, Blueprint] = {}
        self._children: dict[int, Child] = {}
        self._failure = ""
        self._first = Blueprint(resolved, find_credentials(config))

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
        self._sockets.bind(config.listen, config.admin, config.limits)
        self._pidfile.write()
        try:
            return self._serve()
        finally:
            self._pidfile.remove()

    def _serve(self) -> ExitCode:
        warn_about_rights(self._first.config)
        self._tell(self._first.resolved)
        self._open_generation(self._first)
        # Nothing is there to fall back on: what starts first may serve as soon as it is ready.
        self._master_row.begin(self._fleet.last_generation)
        self._master_row.set(Column.PID, os.getpid())
        gc.collect()
        while True:
            now = time.monotonic()
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
            case Promote(generation):
                self._promote(generation)
            case Abandon(generation, reason):
                log.error("reload given up, the old configuration stays: %s", reason)
                self._notifier.ready("serving; the last reload was given up")
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

    def _wait(self, now: float) -> None:
        """Wait for the next thing to happen and enter it in the fleet."""
        deadline = next_deadline(self._fleet)
        timeout = None if deadline is None else max(0.0, deadline - now)
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._listen(key.data)
        for number in self._inbox.take():
            self._command(number)
        self._reap()

    def _command(self, number: signal.Signals) -> None:
        match signals.COMMANDS[number]:
            case Command.RELOAD:
                self._fleet.reload_wanted = True
            case Command.STOP:
                self._stop(number)
            case Command.REOPEN:
                self._reopen()
            case Command.UNSUPPORTED:
                log.warning("%s is not supported in this version: nothing done", number.name)
            case Command.CHILD:
                pass

    def _stop(self, number: signal.Signals) -> None:
        self._fleet.request_stop(time.monotonic())
        if self._fleet.stop is Stop.NOW:
            log.info("%s: stopping at once", number.name)
            return
        log.info("%s: stopping once open requests are done", number.name)
        self._master_row.set(Column.STATE, ProcessState.DRAINING)
        self._notifier.stopping()

    def _reopen(self) -> None:
        for blueprint in self._blueprints.values():
            try:
                blueprint.prepare_logs()
            except OSError as error:
                log.error("cannot make the log %s: %s", error.filename, error.strerror)
        logs.reopen()
        log.info("logs reopened")
        for child in self._children.values():
            # A child that is not ready may not handle the signal yet, and would die of it.
            child.reopen_wanted = True
            self._pass_on_reopen(child)

    def _pass_on_reopen(self, child: Child) -> None:
        state = self._fleet.slots[child.slot].state
        if child.reopen_wanted and state in (SlotState.READY, SlotState.DRAINING):
            child.reopen_wanted = False
            os.kill(child.pid, signals.REOPEN)

    def _listen(self, child: Child) -> None:
        if child.listen():
            return
        self._selector.unregister(child.ready_fd)
        child.stop_listening()
        if child.line == "ready" and self._fleet.became_ready(child.slot, time.monotonic()):
            log.debug("%s is ready", child.title)
            self._pass_on_reopen(child)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            # As process 1 of a container the master also inherits strangers.
            if child is not None:
                self._bury(child, describe_exit(status))

    def _bury(self, child: Child, how: str) -> None:
        child.reopen_wanted = False
        if child.ready_fd >= 0:
            self._listen(child)
        if child.ready_fd >= 0:
            self._selector.unregister(child.ready_fd)
            child.stop_listening()
        state = self._fleet.slots[child.slot].state
        reason = f"{child.title} {how}"
        if state is SlotState.STARTING:
            reason += " before it was ready" + (f": {child.line}" if child.line else "")
        expected = state in (SlotState.DRAINING, SlotState.LEAVING)
        log.log(logging.INFO if expected else logging.ERROR, "%s [%d]", reason, child.pid)
        self._table.row(child.slot).end()
        now = time.monotonic()
        self._fleet.exited(child.slot, now, random.random(), reason)
        wait_s = self._fleet.slots[child.slot].wait(now)
        if wait_s:
            log.warning("%s is started again in %.1f s", child.title, wait_s)

    # --- act --------------------------------------------------------------------------------

    @property
    def _master_row(self) -> Row:
        return self._table.row(self._table.master_row)

    def _signal(self, slot: int, number: signal.Signals) -> None:
        for child in self._children.values():
            if child.slot == slot:
                os.kill(child.pid, number)

    def _spawn(self, slot: int, generation: int) -> None:
        is_keeper = slot == self._fleet.keeper.number
        title = f"worker {slot % self._fleet.workers} (gen {generation})"
        title = "keeper" if is_keeper else title
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        child = Child(0, slot, generation, title, reader)
        self._table.row(slot).begin(generation)
        blueprint = self._blueprints[generation]
        try:
            if is_keeper:
                birth = self._estate.keeper_birth(child, blueprint, writer, self._shed)
            else:
                birth = self._estate.worker_birth(child, blueprint, writer, self._shed)
            child.pid = spawn(birth)
        except OSError as error:
            child.stop_listening()
            self._table.row(slot).end()
            reason = f"cannot start {title}: {error.strerror}"
            log.error("%s", reason)
            self._fleet.exited(slot, time.monotonic(), random.random(), reason)
            return
        finally:
            os.close(writer)
        self._children[child.pid] = child
        self._selector.register(reader, selectors.EVENT_READ, child)
        log.info("started %s [%d]", title, child.pid)

    def _shed(self, newborn: Child) -> None:
        """Close in a child what is the master's alone, sockets aside."""
        self._inbox.close_in_child()
        self._selector.close()
        for child in (newborn, *self._children.values()):
            child.stop_listening()

    def _open_generation(self, blueprint: Blueprint) -> None:
        generation = self._fleet.begin_roll(blueprint.config.drain_timeout)
        self._blueprints[generation.number] = blueprint

    def _load(self) -> None:
        log.info("reloading the configuration")
        self._notifier.reloading()
        try:
            self._open_generation(self._admit(self._program.read()))
        except ConfigError as error:
            for problem in error.problems:
                log.error("reload refused: %s", problem)
        except (SpookyError, OSError) as error:
            log.error("reload refused: %s", error)
        except Exception:
            # The old generation serves; no fault in reading the new file may change that.
            log.exception("reload refused: a bug")
        else:
            return
        log.error("reload refused, the old configuration stays")
        self._notifier.ready("serving; the last reload was refused")

    def _admit(self, resolved: Resolved) -> Blueprint:
        """Make all that the new configuration needs besides processes."""
        config = resolved.config
        if config.worker_processes != self._fleet.workers:
            raise StartupError(
                f"worker_processes is {config.worker_processes} and was {self._fleet.workers}: "
                "restart to change worker_processes"
            )
        if config.pid != self._first.config.pid:
            log.warning("pid: still %s; restart to change it", self._first.config.pid)
        self._tell(resolved)
        blueprint = Blueprint(resolved, find_credentials(config))
        blueprint.prepare_logs()
        self._sockets.bind(config.listen, config.admin, config.limits)
        return blueprint

    def _promote(self, generation: int) -> None:
        self._master_row.set(Column.GENERATION, generation)
        self._master_row.set(Column.STATE, ProcessState.READY)
        try:
            logs.configure(self._blueprints[generation].config.log, "master")
        except OSError as error:
            log.error("the master's log stays where it is: %s", error)
        log.info("generation %d serves with %d workers", generation, self._fleet.workers)
        self._notifier.ready(f"serving with {self._fleet.workers} workers")

    def _retire(self, generation: int) -> None:
        del self._blueprints[generation]
        configs = [blueprint.config for blueprint in self._blueprints.values()]
        self._sockets.keep_only(
            (listener for config in configs for listener in config.listen),
            (config.admin for config in configs),
        )

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
