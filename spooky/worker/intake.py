"""Where datagrams come in and go out: one per worker, over all of its UDP sockets.

It finds the connection that a datagram belongs to, opens new ones, hands over what is another
worker's, and flushes each connection that was touched once per turn of the event loop. It knows
nothing of HTTP.
"""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aioquic.quic.configuration import QuicConfiguration

from spooky.protocol import cid as cids
from spooky.protocol import datagram as datagrams
from spooky.protocol.aioquic_engine import AioquicEngine
from spooky.protocol.messages import Path
from spooky.protocol.quic import SUPPORTED_VERSIONS, ServerSettings
from spooky.worker.client import Client, ClientHome
from spooky.worker.handoff import Handoff, Letter
from spooky.worker.services import Services
from spooky.worker.timers import Timers
from spooky.worker.udp import UdpSocket

SMALLEST_INITIAL = 1200
"""A client's Initial fills a datagram of at least this size (RFC 9000 section 14.1)."""


@dataclass(slots=True)
class Port:
    """A listener as this worker serves it."""

    index: int
    udp: UdpSocket
    settings: ServerSettings
    configuration: QuicConfiguration


@dataclass(slots=True)
class IntakeCounters:
    """Datagrams that did not reach a connection, and why."""

    unroutable: int = 0
    malformed: int = 0
    refused: int = 0


class Intake(ClientHome):
    """All client connections of a worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ports: list[Port],
        handoff: Handoff,
        services: Services,
    ) -> None:
        self._loop = loop
        self._ports = ports
        self._handoff = handoff
        self._services = services
        self._clients: dict[bytes, Client] = {}
        self._all: set[Client] = set()
        self._dirty: set[Client] = set()
        self._flush_due = False
        self._accepting = True
        self._on_empty: Callable[[], None] | None = None
        self._timers = Timers(loop, time.monotonic)
        self._closed = 0
        self.counters = IntakeCounters()

    # --- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read."""
        for port in self._ports:
            port.udp.when_full = partial(self._await_room, port.udp)
            self._loop.add_reader(port.udp.socket.fileno(), self._readable, port)
        self._loop.add_reader(self._handoff.socket.fileno(), self._mailbox_readable)

    def drain(self, on_empty: Callable[[], None]) -> None:
        """Take no new connections, let open requests finish; call `on_empty` when all is done.

        The sockets are not read any more where a successor does; what is for a connection of
        ours comes by mailbox then.
        """
        self._accepting = False
        self._on_empty = on_empty
        for client in list(self._all):
            client.drain()
        self._check_empty()

    def stop_reading(self) -> None:
        """Leave the sockets to the successor."""
        for port in self._ports:
            self._loop.remove_reader(port.udp.socket.fileno())

    def close(self, code: int, reason: str) -> None:
        """Close all connections now, and send what tells the clients."""
        self._accepting = False
        for client in list(self._all):
            client.close(code, reason)
        self._flush()
        self.stop_reading()
        self._loop.remove_reader(self._handoff.socket.fileno())
        self._timers.close()

    def connections(self) -> int:
        """Count the client connections."""
        return len(self._all)

    def take_closed(self) -> int:
        """Return how many connections have ended since the last call."""
        closed, self._closed = self._closed, 0
        return closed

    # --- in ---------------------------------------------------------------------------------

    def _readable(self, port: Port) -> None:
        now = time.monotonic()
        clients = self._clients
        length = cids.CID_LENGTH + 1
        for data, path in port.udp.receive():
            # The common case first: a short header, then one of our connection IDs.
            client = None if data[:1] >= b"\x80" else clients.get(data[1:length])
            if client is not None:
                client.receive(data, path, now)
            else:
                self._route(port, data, path, now)

    def _mailbox_readable(self) -> None:
        now = time.monotonic()
        for letter in self._handoff.receive():
            client = self._clients.get(datagrams.classify(letter.datagram).dcid)
            if client is not None:
                # The sender's listeners may be those of another generation.
                client.receive(letter.datagram, letter.path, now)
            elif letter.listener < len(self._ports):
                port = self._ports[letter.listener]
                self._route(port, letter.datagram, letter.path, now, handed_over=True)

    def _route(
        self, port: Port, data: bytes, path: Path, now: float, *, handed_over: bool = False
    ) -> None:
        """Find the owner of a datagram that is not plainly one of ours."""
        datagram = datagrams.classify(data)
        client = self._clients.get(datagram.dcid)
        if client is not None:
            client.receive(data, path, now)
            return
        match datagram.kind:
            case datagrams.Kind.GARBAGE:
                self.counters.malformed += 1
                return
            case datagrams.Kind.UNKNOWN_VERSION:
                self._negotiate_version(port, datagram, data, path)
                return
            case _:
                pass
        if not handed_over and cids.is_ours(datagram.dcid):
            slot = cids.slot_of(datagram.dcid)
            if self._handoff.is_elsewhere(slot):
                self._handoff.send(slot, Letter(port.index, path, data))
                return
        if datagram.kind is datagrams.Kind.INITIAL and len(data) >= SMALLEST_INITIAL:
            self._open(port, datagram.dcid, data, path, now)
        else:
            self.counters.unroutable += 1

    def _negotiate_version(
        self, port: Port, datagram: datagrams.Datagram, data: bytes, path: Path
    ) -> None:
        if len(data) < SMALLEST_INITIAL or port.udp.waiting:
            self.counters.malformed += 1
            return
        answer = datagrams.version_negotiation(
            datagram.dcid, datagram.scid, SUPPORTED_VERSIONS, os.urandom(1)
        )
        port.udp.send([(answer, path)])

    def _open(self, port: Port, dcid: bytes, data: bytes, path: Path, now: float) -> None:
        if not self._accepting or len(dcid) < 8:
            # Shorter ones must not be used by clients (RFC 9000 section 7.2).
            self.counters.refused += 1
            return
        engine = AioquicEngine(port.settings, port.configuration, dcid)
        client = Client(self, engine, port.udp, self._services, path)
        self._all.add(client)
        for cid in (dcid, *engine.connection_ids()):
            self.learn(cid, client)
        client.receive(data, path, now)

    # --- out --------------------------------------------------------------------------------

    def touch(self, client: Client) -> None:
        """Note that a connection has something to send; it is flushed at the end of the turn."""
        self._dirty.add(client)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        now = time.monotonic()
        # Flushing may bring events, whose handling may touch connections again.
        while self._dirty:
            batch, self._dirty = self._dirty, set()
            for client in batch:
                if client.udp.waiting:
                    self._dirty.add(client)
                    continue
                client.flush(now)
                self._timers.schedule(client)
            if self._dirty and all(client.udp.waiting for client in self._dirty):
                break

    def _await_room(self, udp: UdpSocket) -> None:
        self._loop.add_writer(udp.socket.fileno(), self._writable, udp)

    def _writable(self, udp: UdpSocket) -> None:
        if udp.resume():
            self._loop.remove_writer(udp.socket.fileno())
            self._flush()

    # --- what a client asks of its home -----------------------------------------------------

    def learn(self, cid: bytes, client: Client) -> None:
        """Route a connection ID to a client."""
        self._clients[cid] = client
        client.cids.add(cid)

    def forget(self, cid: bytes, client: Client) -> None:
        """Stop routing a connection ID."""
        client.cids.discard(cid)
        if self._clients.get(cid) is client:
            del self._clients[cid]

    def remove(self, client: Client) -> None:
        """Forget a connection that is over."""
        for cid in list(client.cids):
            self.forget(cid, client)
        self._all.discard(client)
        self._timers.discard(client)
        self._closed += 1
        self._check_empty()

    def _check_empty(self) -> None:
        if self._on_empty is not None and not self._all:
            on_empty, self._on_empty = self._on_empty, None
            self._loop.call_soon(on_empty)
