"""The keeper process: what there must be one of beside many workers.

It serves the admin endpoint and operators' commands, looks after the backends (`revision.py`), and
writes its own row and what the rows of the backends have of it. SIGQUIT and SIGTERM end it, the
first after the answers that are under way; SIGUSR1 reopens the log. It is the last to go at
shutdown, so that `/ready` says 503 for as long as workers drain.

A rule: a fault in any of its duties ends the process, for the master starts another one.
"""

import asyncio
import logging
import os
import signal

from spooky import log as logs
from spooky.errors import ExitCode
from spooky.handover import KeeperSpec
from spooky.keeper.additions import Additions
from spooky.keeper.admin import AdminEndpoint
from spooky.keeper.control import LINE_BYTES, ControlEndpoint
from spooky.keeper.revision import Revision, duties
from spooky.shm.clock import now_ms
from spooky.shm.processes import Column, ProcessState

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
LAST_MOMENT_S = 0.02
DRAIN_S = 2.0
"""For the answers that are under way; health checkers ask again."""


def run(spec: KeeperSpec) -> int:
    """Run the keeper until it is done; return its exit code."""
    return asyncio.run(Keeper(spec).serve())


class Keeper:
    """The keeper of one master."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._spec = spec
        self._row = spec.memory.processes.row(spec.row)
        self._endpoint = AdminEndpoint(spec.memory)
        self._revision = Revision(spec)
        self._additions = Additions(self._revision)
        self._control = ControlEndpoint(self._revision, self._additions)
        self._leave = asyncio.Event()
        self._at_once = False

    async def serve(self) -> int:
        """Serve until told to leave."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGQUIT, self._leave.set)
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGUSR1, logs.reopen)
        server = None
        if self._spec.admin is not None:
            server = await asyncio.start_server(self._endpoint.serve, sock=self._spec.admin)
        listening = loop.create_task(self._listen_to_operators())
        tasks = [loop.create_task(duty) for duty in (self._beat(), *duties(self._revision))]
        self._announce()
        leaving = loop.create_task(self._leave.wait())
        await asyncio.wait((leaving, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                await task
        self._row.set(Column.STATE, ProcessState.DRAINING)
        listening.cancel()
        if server is not None:
            server.close()
        await asyncio.wait((listening,))
        await self._drain()
        # Not before: until another keeper is there, nobody else looks after the backends.
        for task in tasks:
            task.cancel()
        return ExitCode.OK

    async def _listen_to_operators(self) -> None:
        """Take commands as long as no other keeper does, until cancelled."""
        await self._additions.forget()
        if self._spec.control is None:
            return
        serve = self._control.serve
        server = await asyncio.start_unix_server(serve, sock=self._spec.control, limit=LINE_BYTES)
        try:
            await self._revision.until_not_in_charge()
        finally:
            server.close()

    def _announce(self) -> None:
        self._row.set(Column.PID, os.getpid())
        self._row.set(Column.STATE, ProcessState.READY)
        os.write(self._spec.ready_fd, b"ready\n")
        os.close(self._spec.ready_fd)

    async def _beat(self) -> None:
        while True:
            self._row.set(Column.HEARTBEAT_MS, now_ms())
            await asyncio.sleep(HEARTBEAT_S)

    def _terminate(self) -> None:
        self._at_once = True
        self._leave.set()

    async def _drain(self) -> None:
        if self._at_once:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                # Those that were taken in the last moment have begun by then.
                await asyncio.sleep(LAST_MOMENT_S)
                await self._endpoint.idle.wait()
                await self._control.idle.wait()
        except TimeoutError:
            log.debug("admin connections closed while they were open")
