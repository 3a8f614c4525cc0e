"""The worker process: it puts the parts together, says that it is ready, serves, drains, leaves.

SIGQUIT drains: connections get GOAWAY, open requests finish, at most for the drain timeout.
SIGTERM leaves at once, SIGUSR1 reopens the logs. It owns no decision about a request.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvloop

from spooky import log as logs
from spooky.config.certs import Identity, covers
from spooky.config.model import Log
from spooky.errors import ExitCode, H3Code, StartupError
from spooky.handover import BoundListener, Steering, WorkerSpec
from spooky.names import Names
from spooky.protocol.downstream import ServerSettings
from spooky.protocol.downstream_engines import ENGINES
from spooky.protocol.headers import request_ids
from spooky.protocol.tickets import SessionTickets
from spooky.shm.clock import now_ms
from spooky.shm.processes import Column, ProcessState
from spooky.worker.admission_setup import open_gates
from spooky.worker.ballast import Ballast
from spooky.worker.courses import make_routes
from spooky.worker.deadlines import Sweep
from spooky.worker.door import Door
from spooky.worker.farewell import RELOAD_QUIET_S, STOP_QUIET_S
from spooky.worker.handoff import Handoff
from spooky.worker.intake import Intake, Port, Reader, Welcome
from spooky.worker.load import Lookout
from spooky.worker.membership import Membership
from spooky.worker.observe import Observer
from spooky.worker.proof import Proofs
from spooky.worker.rate_limits import RateLimits, Tables
from spooky.worker.reached import BoundLog
from spooky.worker.readers import Readers
from spooky.worker.revision import Parts, Revision
from spooky.worker.services import Services
from spooky.worker.sessions import keep_sessions
from spooky.worker.steering import Steerer
from spooky.worker.traffic import BackendTraffic
from spooky.worker.trials import tried_rows
from spooky.worker.udp import UdpSocket
from spooky.worker.upstreams import make_upstreams

log = logging.getLogger("spooky.worker")

HEARTBEAT_S = 0.5
ACCESS_FLUSH_S = 0.2
LAST_CALL_S = 1.0
"""Before the drain timeout: new requests are refused from here on, as they would be cut short."""
PROMOTION_POLL_S = 0.002
"""Between looks at whether this generation is the one that serves, until it is."""


def run(spec: WorkerSpec) -> int:
    """Run a worker until it is done; return its exit code."""
    # Short-lived cycles are few here, and a full collection stops the data path.
    gc.set_threshold(20_000, 50, 100)
    with contextlib.closing(uvloop.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(Worker(spec, loop).serve())


class Worker:
    """One worker process."""

    def __init__(self, spec: WorkerSpec, loop: asyncio.AbstractEventLoop) -> None:
        self._spec = spec
        self._loop = loop
        self._done = asyncio.Event()
        self._row = spec.memory.processes.row(spec.slot)
        self._draining = False
        self._published: dict[Column, int] = {}
        """How much of each total the row has."""
        self._make_exchanges()
        self._make_intake()
        self._follow_backends()

    def _make_exchanges(self) -> None:
        """Make what requests go through: routes, gates, upstreams, and who counts."""
        spec, loop, config = self._spec, self._loop, self._spec.config
        self._access = _open_access(config.log)
        self._upstreams = make_upstreams(config, spec.client_contexts, loop, random.random)
        self._reception = open_gates(spec, self._upstreams, loop, random.random)
        tables = Tables(spec.memory, spec.slot, spec.keys.token, spec.rate_rows)
        self._rates = RateLimits(config, tables, loop)
        self._rates.put_before(self._upstreams.all_groups())
        keep_sessions(self._upstreams.groups, config.upstream, spec.keys.session, spec.session_keys)
        self._traffic = BackendTraffic(
            spec.memory.traffic, spec.slot, spec.backend_rows, self._upstreams.pools()
        )
        self._upstreams.count_answers(self._traffic.cells)
        self._observer = Observer(self._access, config.log.format, self._traffic)
        self._services = Services(
            loop=loop,
            limits=config.limits,
            upstreams=self._upstreams,
            routes=make_routes(
                config, self._upstreams.all_groups(), spec.contents, loop, self._rates.gates_of
            ),
            observer=self._observer,
            new_request_id=request_ids(os.urandom).__next__,
            misdirected=_misdirected(spec),
            bounds=spec.memory.bounds.counts(spec.slot),
        )
        self._sweep = Sweep(self._services)

    def _make_intake(self) -> None:
        """Make what clients come in by, and what watches over them."""
        spec = self._spec
        self._handoff = Handoff(spec.slot, spec.mailboxes)
        self._steerer = Steerer(spec.slot, spec.generation, spec.steering, spec.memory, now_ms)
        proofs = Proofs(spec.keys.token)
        self._intake = Intake(
            ports=_make_ports(spec, proofs),
            handoff=self._handoff,
            steerer=self._steerer,
            proofs=proofs,
            door=_make_door(spec, self._services),
            services=self._services,
        )
        self._ballast = Ballast(self._intake.clients, self._services)
        self._readers = Readers(self._intake.clients, self._services)
        self._bound_log = BoundLog(self._services.bounds, self._loop)

    def _follow_backends(self) -> None:
        """Make what keeps up with who the backends are, and how they are."""
        spec, loop, config = self._spec, self._loop, self._spec.config
        groups = self._upstreams.groups
        tried = tried_rows(
            spec.memory.backends, spec.backend_rows, spec.index, config.worker_processes
        )
        self._membership = Membership(groups, spec.memory.backends, tried, loop, config.zone)
        self._lookout = Lookout(groups, spec.memory.traffic, spec.slot, spec.backend_rows, loop)
        pools = self._upstreams.pools()
        self._names = Names(config.dns, ((backend.host, pool) for _, backend, pool in pools), loop)
        parts = Parts(self._upstreams, self._traffic, self._membership, self._lookout, self._names)
        self._revision = Revision(spec, parts, tried, loop)

    async def serve(self) -> int:
        """Serve until told to leave."""
        self._loop.add_signal_handler(signal.SIGQUIT, self._drain)
        self._loop.add_signal_handler(signal.SIGTERM, self._done.set)
        self._loop.add_signal_handler(signal.SIGUSR1, self._reopen)
        self._row.set(Column.PID, os.getpid())
        self._row.set(Column.STATE, ProcessState.READY)
        self._beat()
        self._sweep.start()
        self._ballast.start()
        self._readers.start()
        self._bound_log.start()
        self._membership.start()
        self._lookout.start()
        self._names.start()
        self._revision.start()
        self._flush_access()
        os.write(self._spec.ready_fd, b"ready\n")
        os.close(self._spec.ready_fd)
        self._start_when_active()
        await self._done.wait()
        await self._leave()
        return ExitCode.OK

    def _start_when_active(self) -> None:
        """Begin to read; where sockets are shared with another generation, once this one serves."""
        if self._draining:
            return
        if self._spec.steering is Steering.KERNEL or self._steerer.is_serving():
            self._intake.start()
            log.info("serving")
        else:
            self._loop.call_later(PROMOTION_POLL_S, self._start_when_active)

    # --- what recurs ------------------------------------------------------------------------

    def _beat(self) -> None:
        """Publish that the loop turns, and the gauges."""
        row = self._row
        row.set(Column.HEARTBEAT_MS, now_ms())
        row.set(Column.CONNECTIONS, self._intake.connections())
        row.set(Column.IN_FLIGHT, len(self._services.exchanges))
        row.add(Column.REQUESTS_TOTAL, self._observer.take_count())
        for column, count in self._totals():
            row.add(column, count - self._published.get(column, 0))
            self._published[column] = count
        self._traffic.publish_gauges()
        self._loop.call_later(HEARTBEAT_S, self._beat)

    def _totals(self) -> list[tuple[Column, int]]:
        """Say what was counted since the start of this process."""
        counters = self._intake.counters
        return [
            (Column.OPENED_TOTAL, counters.opened),
            (Column.HANDED_OVER_TOTAL, self._handoff.sent),
            (Column.LATE_TOTAL, counters.late),
            (Column.REFUSED_TOTAL, counters.refused),
            (Column.RESETS_TOTAL, counters.resets),
            (Column.RETRIES_TOTAL, counters.retries),
            (Column.RESUMED_TOTAL, counters.resumed),
            (Column.RATE_LIMITED_TOTAL, self._rates.tally.refused),
            (Column.RATE_SPARED_TOTAL, self._rates.tally.spared),
        ]

    def _flush_access(self) -> None:
        if self._access is not None:
            self._access.flush()
            self._loop.call_later(ACCESS_FLUSH_S, self._flush_access)

    def _reopen(self) -> None:
        logs.reopen()
        if self._access is not None:
            self._access.reopen()

    # --- the end ----------------------------------------------------------------------------

    def _drain(self) -> None:
        """Take nothing new, finish what is open, leave when all is done or time is up."""
        if self._draining:
            return
        self._draining = True
        self._row.set(Column.STATE, ProcessState.DRAINING)
        log.info("draining %d connections", self._intake.connections())
        quiet = STOP_QUIET_S if self._steerer.is_serving() else RELOAD_QUIET_S
        if self._spec.steering is Steering.USERSPACE and not self._steerer.is_serving():
            # A successor reads the sockets now and hands over what is for connections of ours.
            self._intake.stop_reading()
        timeout = self._spec.config.drain_timeout
        self._loop.call_later(max(timeout - LAST_CALL_S, timeout / 2), self._intake.refuse)
        self._loop.call_later(timeout, self._done.set)
        self._intake.drain(self._done.set, quiet)

    async def _leave(self) -> None:
        left = self._intake.connections()
        if left:
            log.info("closing %d connections", left)
        self._sweep.stop()
        self._ballast.stop()
        self._readers.stop()
        self._membership.stop()
        self._lookout.stop()
        self._reception.close()
        self._names.stop()
        self._intake.close(H3Code.NO_ERROR, "shutting down")
        await self._upstreams.close()
        await self._revision.close()
        if self._access is not None:
            self._access.close()


def _open_access(settings: Log) -> logs.AccessLog | None:
    if settings.access is None:
        return None
    try:
        return logs.AccessLog(settings.access)
    except OSError as error:
        text = f"log.access: cannot open {error.filename}: {error.strerror}"
        raise StartupError(text) from error


def _make_door(spec: WorkerSpec, services: Services) -> Door:
    counts = spec.memory.connections.counts(spec.slot)
    return Door(counts, services.limits, services.bounds, spec.keys.token)


def _make_ports(spec: WorkerSpec, proofs: Proofs) -> list[Port]:
    # What is left of other configurations comes after the listeners of this one.
    identities = [*spec.identities, *[None] * (len(spec.listeners) - len(spec.identities))]
    tickets = SessionTickets(spec.keys.ticket, time.monotonic, os.urandom)
    make_settings = partial(_server_settings, spec, tickets, proofs)
    return [
        _make_port(spec, bound, store, make_settings)
        for bound, store in zip(spec.listeners, identities, strict=True)
    ]


def _make_port(
    spec: WorkerSpec,
    bound: BoundListener,
    store: Any,
    make_settings: Callable[[Callable[[str | None], Identity]], ServerSettings],
) -> Port:
    readers = tuple(Reader(place, UdpSocket(one)) for place, one in bound.reads)
    udp = readers[0].udp if readers else UdpSocket(bound.sender)
    welcome = None
    if store is not None:
        settings = make_settings(store.select)
        limits = spec.config.limits
        retry_from = {"always": 0, "auto": limits.retry_handshakes}.get(limits.retry)
        listen = ENGINES[spec.config.engine.downstream]
        welcome = Welcome(settings, listen(settings), retry_from)
    return Port(bound.number, udp, readers, welcome, bound.is_shared)


def _server_settings(
    spec: WorkerSpec,
    tickets: SessionTickets,
    proofs: Proofs,
    select: Callable[[str | None], Identity],
) -> ServerSettings:
    limits = spec.config.limits
    return ServerSettings(
        select=select,
        slot=spec.slot,
        reset_key=spec.keys.reset,
        random=os.urandom,
        idle_timeout=limits.client_idle_timeout,
        max_datagram_size=limits.max_datagram_size,
        streams=limits.streams_per_connection,
        stream_window=limits.stream_window,
        connection_window=limits.connection_window,
        send_buffer=limits.response_buffer,
        header_bytes=limits.request_header_bytes,
        control_frames=limits.control_frames,
        cancelled_requests=limits.cancelled_requests,
        receive_gaps=limits.receive_gaps,
        crypto_buffer=limits.crypto_buffer,
        qpack_table=limits.qpack_table,
        qpack_blocked_streams=limits.qpack_blocked_streams,
        tickets=tickets,
        new_token=proofs.for_next_time,
    )


def _misdirected(spec: WorkerSpec) -> Callable[[str | None, str], bool]:
    """Say 421 where another certificate than the connection's is the one for a host.

    A host that no certificate covers is let through: its name may be terminated elsewhere.
    """
    stores = spec.identities

    def misdirected(server_name: str | None, host: str) -> bool:
        if server_name is None or server_name == host:
            return False
        return all(
            not covers(store.select(server_name), host) and covers(store.select(host), host)
            for store in stores
        )

    return misdirected
