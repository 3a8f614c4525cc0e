"""The keeper process: what there must be one of beside many workers.

It serves the admin endpoint and operators' commands, probes the backends (`prober.py`), and writes
its own row and what the rows of the backends have of it. SIGQUIT and SIGTERM end it, the first
after the answers that are under way; SIGUSR1 reopens the log. It is the last to go at shutdown, so
that `/ready` says 503 for as long as workers drain.

A rule: a fault in any of its duties ends the process, for the master starts another one.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from typing import Any

from spooky import log as logs
from spooky.errors import ExitCode
from spooky.handover import KeeperSpec
from spooky.keeper.additions import Additions
from spooky.keeper.admin import AdminEndpoint
from spooky.keeper.control import LINE_BYTES, ControlEndpoint, Controls
from spooky.keeper.eligibility import Eligibility
from spooky.keeper.outliers import Outliers
from spooky.keeper.prober import Prober
from spooky.shm.clock import now_ms
from spooky.shm.processes import Column, ProcessState

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
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
        controls = Controls(spec.config, spec.memory.backends, spec.backend_rows)
        self._control = ControlEndpoint(controls, Additions(spec))
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
        control = await self._listen_to_operators()
        duties = [loop.create_task(duty) for duty in self._duties()]
        self._announce()
        leaving = loop.create_task(self._leave.wait())
        await asyncio.wait((leaving, *duties), return_when=asyncio.FIRST_COMPLETED)
        for duty in duties:
            if duty.done():
                await duty
        self._row.set(Column.STATE, ProcessState.DRAINING)
        if control is not None:
            control.close()
        if server is not None:
            server.close()
        await self._drain()
        # Not before: until another keeper is there, nobody else looks after the backends.
        for duty in duties:
            duty.cancel()
        return ExitCode.OK

    def _duties(self) -> Iterator[Coroutine[Any, Any, None]]:
        """List what it does over and over, none of which ends by itself."""
        spec = self._spec
        yield self._beat()
        yield Eligibility(spec.config, spec.memory.backends, spec.backend_rows).watch()
        yield Outliers(spec.config, spec.memory, spec.backend_rows).run()
        yield Prober(spec).run()

    async def _listen_to_operators(self) -> asyncio.Server | None:
        spec = self._spec
        if spec.control is None:
            return None
        serve = self._control.serve
        return await asyncio.start_unix_server(serve, sock=spec.control, limit=LINE_BYTES)

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
                await self._endpoint.idle.wait()
                await self._control.idle.wait()
        except TimeoutError:
            log.debug("admin connections closed while they were open")
