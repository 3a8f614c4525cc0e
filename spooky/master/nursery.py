"""The processes below the master: their births, their first words, their deaths.

Owns the table of children and the pipes that they say `ready` on. It decides nothing: it starts
what it is told to and reports what it saw. A child is known by its slot, of which it is the only
one.
"""

import logging
import os
import selectors
import signal
from collections.abc import Callable, Iterator

from spooky.master import signals
from spooky.master.spawn import Birth, Child, describe_exit, spawn

log = logging.getLogger(__name__)


class Nursery:
    """The children of a master."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """Have their pipes watched by `selector`, with the `Child` as data."""
        self._selector = selector
        self._children: dict[int, Child] = {}

    def bear(self, slot: int, generation: int, title: str, birth: Callable[[Child], Birth]) -> None:
        """Start a process in a slot; OSError when the system has no room for it."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        child = Child(0, slot, generation, title, reader, writer)
        try:
            child.pid = spawn(birth(child))
        except OSError:
            child.stop_listening()
            raise
        finally:
            os.close(writer)
        self._children[child.pid] = child
        self._selector.register(reader, selectors.EVENT_READ, child)
        log.info("started %s [%d]", title, child.pid)

    def close_in_child(self, newborn: Child) -> None:
        """Close, in a process that was just born, what the master has of it and of the others."""
        for child in (newborn, *self._children.values()):
            child.stop_listening()

    def signal(self, slot: int, number: signal.Signals) -> None:
        """Signal the process of a slot."""
        for child in self._children.values():
            if child.slot == slot:
                os.kill(child.pid, number)

    def listen(self, child: Child) -> bool:
        """Read what a child has to say; return whether it has said that it is ready."""
        if child.ready_fd < 0 or child.listen():
            return False
        self._forget_pipe(child)
        return child.line == "ready"

    def reap(self) -> Iterator[tuple[Child, str]]:
        """Give each child that has died, and how; the last words are read."""
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            # As process 1 of a container the master also inherits strangers.
            if child is not None:
                yield child, describe_exit(status)

    def bury(self, child: Child) -> None:
        """Let go of what there was of a child that has died."""
        if child.ready_fd >= 0:
            self._forget_pipe(child)

    def want_reopened(self, may_now: Callable[[Child], bool]) -> None:
        """Have all children reopen their logs: at once those that `may_now` is true of."""
        for child in self._children.values():
            child.reopen_wanted = True
            if may_now(child):
                self.pass_on_reopen(child)

    def pass_on_reopen(self, child: Child) -> None:
        """Tell a child to reopen its logs if that is still to be done.

        One that is not ready may not handle the signal yet, and would die of it.
        """
        if child.reopen_wanted:
            child.reopen_wanted = False
            os.kill(child.pid, signals.REOPEN)

    def _forget_pipe(self, child: Child) -> None:
        self._selector.unregister(child.ready_fd)
        child.stop_listening()
