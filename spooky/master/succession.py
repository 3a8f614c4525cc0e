"""From one master to the next: what either of the two does in an upgrade.

Owns the steps; `takeover` owns how they talk. The old master starts the new one, goes on serving
until it hears that the new one does, and drains then. If the new one fails, or takes too long, it
never happened.
"""

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psutil
import setproctitle

from spooky import __version__
from spooky.master import takeover
from spooky.master.blueprint import Estate
from spooky.master.notify import Notifier
from spooky.master.pidfile import FORMER_TITLE, Pidfile
from spooky.master.rollout import Rollout
from spooky.master.slots import Fleet, Slot, Stop
from spooky.master.takeover import Heritage, Successor
from spooky.shm.instance import Cell, Change
from spooky.shm.processes import Column, ProcessState, other_keeper_row

log = logging.getLogger(__name__)

UPGRADE_TIMEOUT_S: Final = 60.0
"""For a new master to start and to say that it serves."""


@dataclass(slots=True)
class Succession:
    """A master's part in it, as the old one, the new one, or first the one and then the other."""

    heritage: Heritage | None
    fleet: Fleet
    estate: Estate
    rollout: Rollout
    notifier: Notifier
    pidfile: Pidfile
    selector: selectors.BaseSelector
    arguments: str
    successor: Successor | None = None
    successor_due: float = 0.0
    is_wanted: bool = False
    heir: int | None = None
    """The master that has taken over from this one."""

    def __post_init__(self) -> None:
        if self.heritage is not None:
            self.selector.register(self.heritage.channel, selectors.EVENT_READ, self.heritage)

    @property
    def predecessor(self) -> int | None:
        """The process that this one takes over from."""
        return self.heritage.state["pid"] if self.heritage is not None else None

    @property
    def owns_instance(self) -> bool:
        """Whether no other master has the instance: none will follow, and none goes on."""
        is_first = self.heritage is None
        return self.heir is None and (is_first or self.fleet.is_in_charge)

    def check_time(self, now: float) -> None:
        """Give up a new master that takes too long."""
        if self.successor is not None and now > self.successor_due:
            self.fail("the new master was not ready in time")

    def close_in_child(self) -> None:
        """Close, in a process that was just born, what is between masters."""
        for one in (self.heritage, self.successor):
            if one is not None:
                one.channel.close()

    def want(self) -> None:
        """Wish for an upgrade; several wishes before its end are one."""
        if not self.fleet.is_superseded:
            self.is_wanted = True

    def begin_if_wanted(self) -> None:
        """Begin an upgrade that is wanted, once nothing is in its way."""
        busy = self.successor is not None or self.fleet.rolling is not None
        if not self.is_wanted or busy:
            return
        self.is_wanted = False
        self.estate.memory.instance.begin_change(Change.UPGRADE)
        if reason := self._objection():
            self.rollout.give_up(reason, Change.UPGRADE)
        else:
            self._begin()

    def _begin(self) -> None:
        """Start the program that is installed now, to take over from this process."""
        log.info("upgrading: starting a new master")
        fleet = self.fleet
        own = (one.slots for one in fleet.generations.values())
        state = {
            **self.estate.describe(),
            "pid": os.getpid(),
            "last_generation": fleet.last_generation,
            "keeper": other_keeper_row(fleet.keeper.number),
            "taken": [[one.start, one.stop] for one in (*own, *fleet.taken)],
        }
        try:
            new = takeover.start(state, self.estate.filenos(), self.notifier.environment())
        except OSError as error:
            self.rollout.give_up(f"cannot start a new master: {error.strerror}", Change.UPGRADE)
            return
        self.successor, self.successor_due = new, time.monotonic() + UPGRADE_TIMEOUT_S
        self.selector.register(new.channel, selectors.EVENT_READ, new)
        fleet.is_handing_over = True

    def _objection(self) -> str:
        """Say why there cannot be an upgrade now; empty: there can."""
        if os.getpid() == 1:
            return "process 1 cannot hand over: its end would end the container"
        return "" if self.fleet.stop is Stop.NO else "the server is stopping"

    def hear_successor(self, new: Successor) -> None:
        """Take in what the new master says."""
        match new.listen():
            case None:
                pass
            case takeover.READY:
                log.info("process %d serves now; this one ends when its clients are done", new.pid)
                self._let_go(new)
                self.notifier.successor(new.pid)
                self._bequeath(new.pid)
                self.fleet.request_stop(time.monotonic())
                setproctitle.setproctitle(f"{FORMER_TITLE} {self.arguments}")
            case reason:
                self.fail(reason or "the new master ended before it was ready")

    def _bequeath(self, heir: int) -> None:
        """Leave the instance to another master, and what was asked for and is not done."""
        self.heir, self.fleet.is_superseded = heir, True
        self.is_wanted = False
        if self.fleet.reload_wanted:
            self.fleet.reload_wanted = False
            self.want_reload()

    def want_reload(self) -> None:
        """Wish for a reload, by the master that has taken over if there is one."""
        if self.heir is None:
            self.fleet.reload_wanted = True
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.heir, signal.SIGHUP)

    def pass_on_stop(self) -> None:
        """Have the master before this one, which drains, stop at once."""
        if self.fleet.is_in_charge and self.predecessor is not None and self.fleet.taken:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.predecessor, signal.SIGTERM)

    def fail(self, reason: str) -> None:
        """Send the new master away, if there is one, and go on as before."""
        if self.successor is not None:
            self.successor.dismiss()
            self._let_go(self.successor)
            self.rollout.give_up(reason, Change.UPGRADE)

    def _let_go(self, new: Successor) -> None:
        self.selector.unregister(new.channel)
        new.channel.close()
        self.successor = None
        self.fleet.is_handing_over = False

    def take_over(self) -> None:
        """As a new master: be the one that operators find, and let the old one drain."""
        if self.heritage is not None and not self.fleet.is_in_charge:
            self.fleet.is_in_charge = True
            self.estate.memory.instance.set(Cell.MASTER_PID, os.getpid())
            self.estate.memory.instance.set_version(__version__)
            self.pidfile.write(self.predecessor)
            self.heritage.say(takeover.READY)

    def hear_predecessor(self, heritage: Heritage) -> None:
        """Take in that the old master is gone."""
        if heritage.is_over():
            self.selector.unregister(heritage.channel)

    def release_slots(self) -> None:
        """Take the slots of masters before this one whose processes are gone.

        There may be several of them, of which one was the master before another. What is left of
        one that was killed, and cannot say so any more, is seen by its process numbers.
        """
        if not self.fleet.is_in_charge or not self.fleet.taken:
            return
        left = tuple(one for one in self.fleet.taken if any(map(self._is_occupied, one)))
        if left != self.fleet.taken:
            self.fleet.taken = left
            self.rollout.steer()
            self.rollout.release_backends()

    def _is_occupied(self, slot: int) -> bool:
        memory = self.estate.memory
        if memory.processes.state(slot) is ProcessState.GONE:
            return False
        pid = memory.processes.row(slot).get(Column.PID)
        if pid and not _is_alive(pid):
            memory.bury(slot)
            return False
        return True


def _is_alive(pid: int) -> bool:
    """Say whether a process is there; a zombie, which its new parent has not seen yet, is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def fleet_beside(state: Mapping[str, Any]) -> Fleet:
    """Make the fleet of a new master, beside the one of the old master."""
    return Fleet(
        keeper=Slot(state["keeper"]),
        taken=tuple(range(start, stop) for start, stop in state["taken"]),
        last_generation=state["last_generation"],
    )
